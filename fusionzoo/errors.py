"""What this package tells its users when something is or looks wrong, and how it words a choice.

Every error that a user can cause is a :class:`FusionZooError`, and the built-in kind that fits as
well: whoever catches ``ValueError`` catches :class:`InputError`. The message is one line that
names the file or argument, the problem and the remedy; the command line prints it without a
traceback. An error of any other class is a defect.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from types import FrameType
from typing import Any

__all__ = [
    "AlignmentError",
    "FileError",
    "FusionZooError",
    "FusionZooWarning",
    "InputError",
    "InputTypeError",
    "MissingFileError",
    "OutOfMemoryError",
    "ResultError",
    "check_choice",
    "closest",
    "did_you_mean",
    "warn",
]


class FusionZooError(Exception):
    """The base of all errors that this package raises on purpose."""


class InputError(FusionZooError, ValueError):
    """An argument, an option or the content of a file is not what it has to be."""


class AlignmentError(InputError):
    """Two images cannot be aligned, or not so that the result can be trusted."""


class InputTypeError(FusionZooError, TypeError):
    """An argument is of a kind that is not taken."""


class MissingFileError(FusionZooError, FileNotFoundError):
    """A file or folder does not exist."""


class FileError(FusionZooError, OSError):
    """A file or folder exists and cannot be read or written."""


class ResultError(FusionZooError, RuntimeError):
    """A computation gave something that cannot be used, such as NaN."""


class OutOfMemoryError(FusionZooError, MemoryError):
    """The memory of this machine does not suffice."""


class FusionZooWarning(UserWarning):
    """Something is allowed and probably not meant; the result may not be what the user expects."""


def warn(text: str) -> None:
    """Issue a :class:`FusionZooWarning` that points at the user's line, outside this package."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("fusionzoo"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, FusionZooWarning, stacklevel=level)


def closest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of the known names that look like ``name``, whatever its case."""
    by_lower = {one.lower(): one for one in known}
    hits = difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=0.5)
    return [by_lower[hit] for hit in hits]


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return ``"did you mean 'a' or 'b'?"`` for the closest known names, or an empty string."""
    hits = closest(name, known, count)
    return f"did you mean {' or '.join(map(repr, hits))}?" if hits else ""


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        InputError: naming the argument, the value, the choices and the closest one.
    """
    choices = tuple(choices)
    if value in choices:
        return
    names = [choice for choice in choices if isinstance(choice, str)]
    hint = did_you_mean(value, names, 1) if isinstance(value, str) else ""
    listed = ", ".join(map(repr, choices))
    raise InputError(f"{name} must be one of {listed}, not {value!r}{'; ' + hint if hint else ''}")
