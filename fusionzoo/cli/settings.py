"""The parser of ``fit``, ``validate``, ``test`` and ``predict``, with mistakes told in one line."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from fusionzoo.cli import UsageError
from fusionzoo.errors import did_you_mean

__all__ = ["SettingsParser", "unknown_option"]


class SettingsParser(LightningArgumentParser):
    """Lightning's parser that raises :class:`UsageError` instead of printing a screen of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what was found wrong.

        Raises:
            UsageError: always, and from the error that was found, if there is one. Parsers of
                parts raise what the parser of the whole expects of them.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        raise UsageError(_in_one_line(message)) from ex

    def option_names(self) -> list[str]:
        """The options that this parser has, such as ``--data.root``."""
        return [name for action in self._actions for name in action.option_strings]


def unknown_option(message: str, known: list[str]) -> UsageError | None:
    """What to tell of an option that does not exist; None if the message is of something else."""
    match = re.match(r"(?:unrecognized arguments:|.* does not accept option) '?([^\s'=]+)", message)
    if match is None:
        return None
    name = match[1]
    if not name.startswith("-"):
        if "does not accept" not in message:
            return UsageError(f"{name!r} is one argument too many")
        name = f"--{name}"
    hint = did_you_mean(name, known, 1) or "--help lists all"
    return UsageError(f"there is no option {name}; {hint}")


def _in_one_line(message: str) -> str:
    """What jsonargparse tells in many lines: the option, its value, and what it could be."""
    match = re.match(r'(?:Validation failed: )?Parser key "([^"]+)":', message)
    told = re.match(r'Parser key "config": (\S.*)', message)  # by a parser of a part
    if match is None or told is not None:
        return " ".join((told[1] if told else message).split())
    option = f"--{match[1]}"
    strange = re.search(r"given class_path '([^']+)':\s+Option '([^']+)' is not accepted", message)
    if strange is not None:
        path, name = strange.groups()
        hint = did_you_mean(name, _options_of(path), 1)
        return f"there is no option {option}.init_args.{name}{f'; {hint}' if hint else ''}"
    inner = re.search(r"given class_path '[^']+':\s+(Parser key .*)\n {4}- ", message, re.S)
    if inner is not None:  # the class is right, and an option of it is not
        return _in_one_line(inner[1].replace('"', f'"{match[1]}.init_args.', 1))
    value = re.search(r"(?:Given value|Got value): (.*)", message)
    given = f"{option} {value[1]}" if value else option
    wanted = dict.fromkeys(
        map(_in_words, re.findall(r"Expected an? (.+?)(?:\.? Got|$)", message, re.M))
    )
    if wanted and "path" not in message:
        return f"{given}: give {' or '.join(wanted)}"
    if option == "--model":
        return f"{given}: there is no such model; `fusionzoo list` shows them"
    return f"{given}: give a class by its import path, or what --help says of this option"


def _in_words(kind: str) -> str:
    """A type as jsonargparse writes it, in a user's words."""
    kind = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", kind).removeprefix("typing.")
    kind = re.sub(r"Literal\[(.*)\]", lambda match: match[1].replace(", ", " or "), kind)
    words = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    return {**words, "NoneType": "null", "str": "text"}.get(kind, kind)


def _options_of(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        model: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return []
    return list(inspect.signature(model).parameters)
