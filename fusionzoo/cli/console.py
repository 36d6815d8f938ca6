"""What commands print: one-line errors, warnings, progress bars.

rich is imported with the first bar: a command that fuses one pair needs none.
"""

from __future__ import annotations

import errno
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from fusionzoo.errors import FusionZooError

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = [
    "Bar",
    "complain",
    "describe",
    "failure",
    "in_shell_words",
    "own_warnings",
    "printable",
    "progress",
]

_REMEDIES = {
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOSPC: "make room there, or write to another place",
    errno.EDQUOT: "make room there, or write to another place",
    errno.EFBIG: "raise the limit (ulimit -f), or write to another place",
    errno.EROFS: "write to another place",
    errno.ELOOP: "remove the link that leads to itself",
}


def printable(text: str) -> str:
    """The text with control characters written out: a file's name must not command a terminal.

    Line feeds stay.
    """
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def describe(error: BaseException) -> str:
    """What an error tells a user, without the traceback that tells a programmer more."""
    text = str(error).strip()
    if isinstance(error, FusionZooError):
        return text
    if isinstance(error, MemoryError):
        hint = "use smaller images, a smaller --batch-size or another model"
        return f"the memory does not suffice{f' ({text})' if text else ''}; {hint}"
    if isinstance(error, RecursionError):
        return "something given here is nested too deeply; give plain values"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{place}{error.strerror}{f'; {remedy}' if remedy else ''}"
    first = text.splitlines()[0] if text else ""
    return f"{type(error).__name__}{f': {first}' if first else ''}"


def failure(name: str, error: BaseException, debug: bool) -> str:
    """The line ``name: what is wrong``; with ``debug`` the traceback comes before it."""
    line = f"{name}: {describe(error)}".replace("\n", " ")
    return "".join([*traceback.format_exception(error), line]) if debug else line


def in_shell_words(text: str) -> str:
    """Name the options of ``model.fuse`` as the shell has them."""
    text = re.sub(r"\bresize='(ir|vi)'", r"--resize \1", text)
    text = text.replace("tile='off'", "--tile off").replace("(memory= or", "(--memory or")
    text = re.sub(r"\b(align|force)=True\b", r"--\1", text)
    return re.sub(r"\b(ir|vi)_range=\(lo, hi\)", r"--\1-range LO HI", text)


def complain(text: str) -> None:
    """Print a line of the program's own to standard error."""
    print(f"fusionzoo: {printable(text)}", file=sys.stderr)


@contextmanager
def own_warnings() -> Iterator[None]:
    """Show this package's warnings as one line each; those of libraries look as ever."""
    from fusionzoo.errors import FusionZooWarning

    with warnings.catch_warnings():
        as_ever = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, FusionZooWarning):
                complain(f"warning: {message}")
            else:
                as_ever(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        warnings.filterwarnings("default", category=FusionZooWarning)
        # Of each odd element it prints the value, which may be the patient's.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\.|$)")
        yield


class Bar(Protocol):
    """How far a command has come, and a place for its lines."""

    def advance(self) -> None:
        """Count one more as done."""

    def report(self, line: str) -> None:
        """Print a line, out of the bar's way."""


@contextmanager
def progress(description: str, total: int | None, unit: str = "") -> Iterator[Bar]:
    """A bar on standard error for as long as the block runs; none for a single item.

    Args:
        description: stands before the bar.
        total: how many items there are; None where nobody knows.
        unit: of items, e.g. ``frames``; with it the bar shows how many are done a second.
    """
    if total is not None and total <= 1:
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    speed = [TextColumn(f"{{task.fields[speed]}} {unit}/s")] if unit else []
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *speed, TimeLeft()),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _RichBar(bar, description, total)


class _NoBar:
    def advance(self) -> None:
        pass

    def report(self, line: str) -> None:
        print(printable(line), file=sys.stderr)


class _RichBar:
    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, speed="-")

    def advance(self) -> None:
        self._progress.advance(self._task)
        speed = self._progress.tasks[0].speed
        if speed:
            self._progress.update(self._task, speed=f"{speed:.1f}")

    def report(self, line: str) -> None:
        # Not wrapped: the line may be searched by a program.
        self._progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
