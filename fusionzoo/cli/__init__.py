"""The command ``fusionzoo``: a table of commands, each in a module that loads when it is used.

Exit status: 0 done; 1 something failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from fusionzoo._version import __version__

__all__ = ["main"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Command(NamedTuple):
    """A command: its help, and its module with ``main(name, arguments, debug=...) -> status``."""

    module: str
    help: str


COMMANDS = {
    "fuse": Command("fusionzoo.cli.fuse", "fuse two images, or two folders of them"),
    "list": Command("fusionzoo.cli.listing", "show models, parameters, weights and licences"),
    "masks": Command("fusionzoo.cli.masks", "make masks of targets for training"),
    "fit": Command("fusionzoo.cli.engine", "train a model"),
    "validate": Command("fusionzoo.cli.engine", "measure a model on validation pairs"),
    "test": Command("fusionzoo.cli.engine", "measure a model on test pairs"),
    "predict": Command("fusionzoo.cli.engine", "fuse the pairs of a data module to a folder"),
    "evaluate": Command("fusionzoo.cli.evaluate", "measure fused images by published metrics"),
    "bench": Command("fusionzoo.cli.bench", "measure speed and memory of fusing"),
    "import-weights": Command(
        "fusionzoo.cli.import_weights", "convert weights that a paper's authors released"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        arguments: those of the command line after the program's name; ``sys.argv`` if not given.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        print(f"fusionzoo {__version__}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else "see fusionzoo --help"
        return _complain(f"unknown command {name!r}; {hint}", USAGE)
    debug = "--debug" in rest
    rest = [argument for argument in rest if argument != "--debug"]
    try:
        return import_module(COMMANDS[name].module).main(name, rest, debug=debug)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `fusionzoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        message = None if debug else _message_in(error)
        if message is None:
            raise
        return _complain(f"{name}: {message}", getattr(message, "exit_status", FAILED))


class UsageError(ValueError):
    """The command was called in a wrong way."""

    exit_status = USAGE


def _message_in(error: BaseException | None) -> BaseException | None:
    """The error, or the cause of it, that this package raised to tell the user something.

    Such an error needs no traceback. One that comes out of a library does: what went wrong, and
    where, is not known here.
    """
    while error is not None:
        if isinstance(error, ValueError | TypeError | OSError | RuntimeError):
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            if frame.f_globals.get("__name__", "").partition(".")[0] == "fusionzoo":
                return error
        error = error.__cause__  # jsonargparse wraps what a class refuses
    return None


def _complain(message: str, status: int) -> int:
    print(f"fusionzoo: {message}", file=sys.stderr)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = ["usage: fusionzoo COMMAND …", "", "Image fusion with trained models.", "", "commands:"]
    lines += [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "fusionzoo COMMAND --help tells more of a command; --version prints the version;",
        "COMMAND … --debug shows tracebacks.",
    ]
    return "\n".join(lines)
