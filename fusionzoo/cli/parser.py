"""Arguments of a command, with wrong ones told in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fusionzoo.cli import UsageError
from fusionzoo.errors import did_you_mean
from fusionzoo.remote import as_path

__all__ = ["Parser", "given_path", "given_text"]


class Parser(argparse.ArgumentParser):
    """``argparse`` that raises :class:`UsageError` instead of printing a screen of usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        # fusionzoo.cli.main takes it before the command gets its arguments.
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Raise what ``argparse`` found wrong.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all arguments.

        Raises:
            UsageError: a wrong or unknown one; the closest option is named.
        """
        words = [_as_value(word) for word in (sys.argv[1:] if args is None else args)]
        parsed, unknown = self.parse_known_args(words, namespace)
        for argument in unknown:
            if argument.startswith("-"):
                name = argument.partition("=")[0]
                hint = did_you_mean(name, self._option_string_actions, 1)
                raise UsageError(f"there is no option {name}; {hint or f'see {self.prog} --help'}")
        if unknown:
            self.too_many(unknown)
        return parsed

    def too_many(self, rest: Sequence[str]) -> NoReturn:
        """Refuse arguments that have no place; a command may say more of them.

        Raises:
            UsageError: always.
        """
        self.error(f"{rest[0]!r} is one argument too many")


def given_text(text: str) -> str:
    """A path or address as text, for argparse: an empty one would mean the current folder.

    Raises:
        argparse.ArgumentTypeError: it is empty, as a shell's variable that is not set.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; name a file or folder, or . for here")
    return text


def given_path(text: str) -> Path:
    """A path, or the URL of a storage, for argparse.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    return as_path(given_text(text))


def _as_value(word: str) -> str:
    """A negative number with a space before it: argparse takes ``-1e3`` for an option."""
    if not word.startswith("-"):
        return word
    try:
        float(word)
    except ValueError:
        return word
    return f" {word}"
