"""The command ``fusionzoo``: a table of commands, each in a module that loads when it is used.

Exit status: 0 done; 1 something failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from fusionzoo._version import __version__
from fusionzoo.cli.console import complain, describe, own_warnings
from fusionzoo.errors import FusionZooError, InputError, did_you_mean

__all__ = ["COMMANDS", "FAILED", "UsageError", "main"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Command(NamedTuple):
    """A command: its help, and its module with ``main(name, arguments, debug=...) -> status``."""

    module: str
    help: str


COMMANDS = {
    "fuse": Command("fusionzoo.cli.fuse", "fuse two images, or two folders of them"),
    "align": Command("fusionzoo.cli.align", "find how infrared images lie in visible ones"),
    "demo": Command("fusionzoo.cli.demo", "try models in the browser"),
    "list": Command("fusionzoo.cli.listing", "show models, parameters, weights and licences"),
    "masks": Command("fusionzoo.cli.masks", "make masks of targets for training"),
    "fit": Command("fusionzoo.cli.engine", "train a model"),
    "validate": Command("fusionzoo.cli.engine", "measure a model on validation pairs"),
    "test": Command("fusionzoo.cli.engine", "measure a model on test pairs"),
    "predict": Command("fusionzoo.cli.engine", "fuse the pairs of a data module to a folder"),
    "evaluate": Command("fusionzoo.cli.evaluate", "measure fused images by published metrics"),
    "bench": Command("fusionzoo.cli.bench", "measure speed and memory of fusing"),
    "export": Command("fusionzoo.cli.export", "write a model as ONNX, torch.export or OpenVINO"),
    "import-weights": Command(
        "fusionzoo.cli.import_weights", "convert weights that a paper's authors released"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        arguments: those of the command line after the program's name; ``sys.argv`` if not given.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        _print_anything()
    debug = "--debug" in arguments
    try:
        status = _run([argument for argument in arguments if argument != "--debug"], debug)
        sys.stdout.flush()  # a full disk is found here, while it can still be told
        return status
    except SystemExit:  # --help
        sys.stdout.flush()
        raise
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `fusionzoo list | head`
        _let_go_of_stdout()
        return FAILED
    except Exception as error:
        if debug:
            raise
        told = _told(error)
        if told is None:
            raise
        if isinstance(error, OSError):
            _let_go_of_stdout()
        name = next(iter(arguments), "")
        complain(f"{name + ': ' if name in COMMANDS else ''}{describe(told)}")
        return getattr(told, "exit_status", FAILED)


class UsageError(InputError):
    """The command was called in a wrong way."""

    exit_status = USAGE


def _run(arguments: Sequence[str], debug: bool) -> int:
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        print(f"fusionzoo {__version__}")
        return 0
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS, 2) or "see fusionzoo --help"
        raise UsageError(f"there is no command {name!r}; {hint}")
    with own_warnings():
        status: int = import_module(COMMANDS[name].module).main(name, rest, debug=debug)
        return status


def _told(error: BaseException | None) -> BaseException | None:
    """The error, or the cause of it, that tells the user what to do; None for a defect.

    A defect shows its traceback: what went wrong, and where, is not known here.
    """
    while error is not None:
        if isinstance(error, FusionZooError | OSError | MemoryError | RecursionError):
            return error
        error = error.__cause__  # jsonargparse wraps what a class refuses
    return None


def _print_anything() -> None:
    """Let a terminal of few characters show what it lacks as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _let_go_of_stdout() -> None:
    """Drop what cannot be printed any more, so that Python does not try once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: fusionzoo COMMAND ...",
        "",
        "Image fusion with trained models.",
        "",
        "commands:",
    ]
    lines += [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "fusionzoo COMMAND --help tells more of a command; --version prints the version;",
        "COMMAND ... --debug shows tracebacks.",
    ]
    return "\n".join(lines)
