"""Documents with generated tables between markers, and cards with a generated header."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fusionzoo.results.config import Config
from fusionzoo.results.figures import Figure, read_figures
from fusionzoo.results.header import with_header
from fusionzoo.results.tables import table_text
from fusionzoo.weights import CARD_NAME, weights_table
from fusionzoo.weights.writing import write_atomically

START = re.compile(r"^<!-- table: (?P<name>[^ ]+)(?: (?P<key>[^ ]+))? -->$", re.MULTILINE)
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
    """The text of each document with its tables, and each card's header, made anew.

    Raises:
        ValueError: a marker without end, or of a table that does not exist.
        FileNotFoundError: a card asks for facts, and there is no ``config.json`` beside it.
    """
    figures = read_figures(config.results)
    cards = {config.path.resolve().parent / key / CARD_NAME: key for key in weights_table()}
    texts = {}
    for path in documents_of(config):
        text = _with_tables(path, config, figures)
        if path in cards:
            try:
                text = with_header(text, config, figures, cards[path])
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        texts[path] = text
    return texts


def _with_tables(path: Path, config: Config, figures: Sequence[Figure]) -> str:
    text, place, parts = path.read_text(encoding="utf-8"), 0, []
    cards = Path(os.path.relpath(config.path.resolve().parent, path.parent)).as_posix()
    for start in START.finditer(text):
        end = text.find(END, start.end())
        following = START.search(text, start.end())
        if end < 0 or (following and following.start() < end):
            raise ValueError(f"{path}: {start.group()} has no {END}; add it below the table")
        try:
            table = table_text(config, figures, start["name"], start["key"], cards=cards)
        except ValueError as error:
            raise ValueError(f"{path}: {start.group()}: {error}") from None
        parts += [text[place : start.end()], "\n\n", table, "\n"]
        place = end
    return "".join([*parts, text[place:]])


def stale_documents(config: Config) -> list[Path]:
    """The documents whose tables or headers are not what the CSV and the weights give."""
    return [
        path for path, text in refreshed(config).items() if text != path.read_text(encoding="utf-8")
    ]


def write_documents(config: Config) -> list[Path]:
    """Bring tables and headers in line with CSV and weights; returns the documents that changed."""
    changed = []
    for path, text in refreshed(config).items():
        if text != path.read_text(encoding="utf-8"):
            write_atomically(path, text.encode())
            changed.append(path)
    return changed
