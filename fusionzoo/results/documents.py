"""Documents with generated tables between markers."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fusionzoo.results.config import Config
from fusionzoo.results.figures import read_figures
from fusionzoo.results.tables import table_text
from fusionzoo.weights.writing import write_atomically

_START = re.compile(r"^<!-- table: (?P<name>[^ ]+)(?: (?P<key>[^ ]+))? -->$", re.MULTILINE)
END = "<!-- end table -->"


def documents_of(config: Config) -> list[Path]:
    """The documents that may hold tables: the README above the checkpoints, and all cards."""
    checkpoints = config.path.resolve().parent
    places = [
        checkpoints.parent / "README.md",
        checkpoints / "README.md",
        *sorted(checkpoints.glob("*/README.md")),
    ]
    return [path for path in places if path.is_file()]


def refreshed(config: Config) -> dict[Path, str]:
    """The text of each document with its tables made anew from the CSV.

    Raises:
        ValueError: a marker without end, or of a table that does not exist.
    """
    figures = read_figures(config.results)
    texts = {}
    for path in documents_of(config):
        text, place, parts = path.read_text(encoding="utf-8"), 0, []
        cards = Path(os.path.relpath(config.path.parent, path.parent)).as_posix()
        for start in _START.finditer(text):
            end = text.find(END, start.end())
            following = _START.search(text, start.end())
            if end < 0 or (following and following.start() < end):
                raise ValueError(f"{path}: {start.group()} has no {END}; add it below the table")
            try:
                table = table_text(config, figures, start["name"], start["key"], cards=cards)
            except ValueError as error:
                raise ValueError(f"{path}: {start.group()}: {error}") from None
            parts += [text[place : start.end()], "\n\n", table, "\n"]
            place = end
        texts[path] = "".join([*parts, text[place:]])
    return texts


def stale_documents(config: Config) -> list[Path]:
    """The documents whose tables are not what the CSV gives."""
    return [
        path for path, text in refreshed(config).items() if text != path.read_text(encoding="utf-8")
    ]


def write_documents(config: Config) -> list[Path]:
    """Bring every document's tables in line with the CSV; returns those that changed."""
    changed = []
    for path, text in refreshed(config).items():
        if text != path.read_text(encoding="utf-8"):
            write_atomically(path, text.encode())
            changed.append(path)
    return changed
