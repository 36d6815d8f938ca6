"""Names in place of files and classes on the command line of ``fit``, ``validate``, ``test``, …"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from fusionzoo.cli import UsageError
from fusionzoo.models import MODELS

_MODELS_FOLDER = Path(__file__).resolve().parent.parent / "models"


def packaged_configs() -> dict[str, Path]:
    """The training configurations that come with the package, by name.

    ``models/<name>/train.yaml`` is ``<name>``, and ``models/<name>/train_<tag>.yaml`` is
    ``<name>.<tag>``.
    """
    found = {}
    for path in sorted(_MODELS_FOLDER.glob("*/train*.yaml")):
        tag = path.stem.removeprefix("train").strip("_")
        found[f"{path.parent.name}.{tag}" if tag else path.parent.name] = path
    return found


def find_config(name: str) -> str:
    """The file that ``--config name`` means: a path, or a packaged configuration's name.

    Raises:
        UsageError: neither; the closest names are given.
    """
    packaged = packaged_configs()
    if name in packaged and not Path(name).is_file():
        return str(packaged[name])
    if Path(name).is_file() or name.lstrip().startswith("{"):  # a file, or JSON itself
        return name
    close = difflib.get_close_matches(name, packaged, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise UsageError(
        f"--config {name}: there is no such file or packaged configuration; {hint}"
        f"packaged ones are {', '.join(packaged)}"
    )


def class_path(model: str) -> str:
    """``package.module.Class`` of a model of the table."""
    return MODELS[model].path.replace(":", ".")


def with_names_resolved(arguments: Iterable[str]) -> list[str]:
    """The arguments, with ``--config didfuse`` and ``--model didfuse`` made what they stand for."""
    resolvers = {
        "--config": find_config,
        "-c": find_config,
        "--model": lambda name: class_path(name) if name in MODELS else name,
    }
    result: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if result and result[-1] in resolvers:
            result.append(resolvers[result[-1]](argument))
        elif equals and option in resolvers:
            result.append(f"{option}={resolvers[option](value)}")
        else:
            result.append(argument)
    return result
