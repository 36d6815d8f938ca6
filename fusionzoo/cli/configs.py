"""Names in place of files and classes on the command line of ``fit`` and its like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from fusionzoo.cli import UsageError
from fusionzoo.errors import did_you_mean
from fusionzoo.models import MODELS

_MODELS_FOLDER = Path(__file__).resolve().parent.parent / "models"


def packaged_configs() -> dict[str, Path]:
    """The training configurations that come with the package, by name.

    ``models/<name>/train.yaml`` is ``<name>``, and ``models/<name>/train_<tag>.yaml`` is
    ``<name>.<tag>``.
    """
    paths: dict[str, Path] = {}
    for path in sorted(_MODELS_FOLDER.glob("*/train*.yaml")):
        tag = path.stem.removeprefix("train").strip("_")
        paths[f"{path.parent.name}.{tag}" if tag else path.parent.name] = path
    return paths


def find_config(name: str) -> str:
    """The file that ``--config name`` means: a path, or a packaged configuration's name.

    Raises:
        UsageError: neither (the closest names are given), or a file that is no configuration.
    """
    packaged = packaged_configs()
    if name in packaged and not Path(name).is_file():
        return str(packaged[name])
    if _is_inline(name) or Path(name).is_file():
        read_config(name)  # what is wrong with it is told here, in one line
        return name
    hint = did_you_mean(name, packaged)
    raise UsageError(
        f"--config {name}: there is no such file or packaged configuration; "
        f"{f'{hint} ' if hint else ''}packaged ones are {', '.join(packaged)}"
    )


def read_config(config: str) -> dict[str, Any]:
    """What a configuration says: of a file, or written out as JSON.

    Raises:
        UsageError: it is not UTF-8, not YAML, or no table of settings.
        OSError: the file cannot be read.
    """
    try:
        text = config if _is_inline(config) else Path(config).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise UsageError(f"--config {config}: is not UTF-8; save it in that encoding") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        what = getattr(error, "problem", None) or "it cannot be read"
        raise UsageError(f"--config {config}: is not YAML{place}: {what}") from None
    if not isinstance(content, dict | None):
        raise UsageError(f"--config {config}: holds no settings such as `data: …`; see the README")
    return content or {}


def class_path(model: str) -> str:
    """``package.module.Class`` of a model of the table."""
    return MODELS[model].path.replace(":", ".")


def with_names_resolved(arguments: Iterable[str]) -> list[str]:
    """The arguments, with ``--config didfuse`` and ``--model didfuse`` made what they stand for."""
    resolvers: dict[str, Callable[[str], str]] = {
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


def _is_inline(config: str) -> bool:
    return config.lstrip().startswith("{")
