"""Documents with generated tables between markers, and cards with a generated header.

A table stands between two comments of Markdown::

    <!-- table: results -->
    <!-- end table -->

``choice``, ``leaderboard``, ``models``, ``weights`` and ``results`` are of all models;
``facts KEY``, ``results KEY``, ``ablations KEY``, and ``rules KEY`` or whatever a run names as its
``table``, are of one. Prose around tables and below headers is written by hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from figures import Figure, read_figures
from overviews import entry_of, published, title
from runs import MAIN, Benchmark
from tables import table_text

from fusionzoo.errors import InputError
from fusionzoo.files import write_whole
from fusionzoo.models import split_key
from fusionzoo.weights import CARD_NAME, licence_header, weights_table

START = re.compile(r"^<!-- table: (?P<name>[^ ]+)(?: (?P<key>[^ ]+))? -->$", re.MULTILINE)
END = "<!-- end table -->"
#: What a new card holds in place of the prose that is to be written.
TO_WRITE = "TO WRITE"

_PIPELINE = "image-to-image"
_HEADER = re.compile(r"\A---\n.*?^---\n\n*", re.DOTALL | re.MULTILINE)


# Documents ----------------------------------------------------------------------------------------


def documents_of(benchmark: Benchmark) -> list[Path]:
    """The documents that may hold tables: all cards, and beside the checkpoints README and docs."""
    folder = benchmark.folder
    places = [folder.parent / CARD_NAME, folder / CARD_NAME, *sorted(folder.glob(f"*/{CARD_NAME}"))]
    places += sorted((folder.parent / "docs").glob("*.md"))
    return [path for path in places if path.is_file()]


def refreshed(benchmark: Benchmark) -> dict[Path, str]:
    """The text of each document with its tables, and each card's header, made anew.

    Raises:
        InputError: a marker without end, or of a table that does not exist.
        FileNotFoundError: a card asks for facts, and there is no ``config.json`` beside it.
    """
    figures = read_figures(benchmark.results)
    cards = {benchmark.folder / key / CARD_NAME: key for key in weights_table()}
    texts = {}
    for path in documents_of(benchmark):
        text = _with_tables(path, benchmark, figures)
        if path in cards:
            try:
                text = with_header(text, header_of(cards[path]))
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
        texts[path] = text
    return texts


def stale_documents(benchmark: Benchmark) -> list[Path]:
    """The documents whose tables or headers are not what the CSV and the weights give."""
    texts = refreshed(benchmark)
    return [path for path, text in texts.items() if text != path.read_text(encoding="utf-8")]


def write_documents(benchmark: Benchmark) -> list[Path]:
    """Bring tables and headers in line with CSV and weights; returns the documents that changed."""
    texts, stale = refreshed(benchmark), stale_documents(benchmark)
    for path in stale:
        write_whole(path, texts[path].encode())
    return stale


def _with_tables(path: Path, benchmark: Benchmark, figures: Sequence[Figure]) -> str:
    text, place, parts = path.read_text(encoding="utf-8"), 0, []
    cards = Path(os.path.relpath(benchmark.folder, path.parent)).as_posix()
    for start in START.finditer(text):
        end = text.find(END, start.end())
        following = START.search(text, start.end())
        if end < 0 or (following and following.start() < end):
            raise InputError(f"{path}: {start.group()} has no {END}; add it below the table")
        try:
            table = table_text(benchmark, figures, start["name"], start["key"], cards=cards)
        except InputError as error:
            raise InputError(f"{path}: {start.group()}: {error}") from None
        parts += [text[place : start.end()], "\n\n", table, "\n"]
        place = end
    return "".join([*parts, text[place:]])


# Headers, in the format that the Hugging Face hub reads -------------------------------------------


def with_header(text: str, header: dict[str, Any]) -> str:
    """A card with this YAML header in place of the one that it may have.

    Raises:
        InputError: its header has no end.
    """
    body = _HEADER.sub("", text, count=1)
    if body.startswith("---\n"):
        raise InputError("the header between two lines of --- has no end; add the second")
    # Lists and mappings without others in them go on one line.
    lines = yaml.safe_dump(
        header, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000
    )
    return f"---\n{lines}---\n\n{body}"


def header_of(key: str) -> dict[str, Any]:
    """The header of a card in the repository: licence and tags.

    Raises:
        InputError: no such weights in the table.
    """
    entry = entry_of(key)
    inputs = [name.lower() for name in entry.modalities_of(key)]
    return {
        **licence_header(published(key).weights_licence),
        "library_name": "fusionzoo",
        "pipeline_tag": _PIPELINE,
        "tags": list(dict.fromkeys(["image-fusion", entry.task_of(key), *inputs, entry.name])),
    }


def hub_header_of(benchmark: Benchmark, figures: Sequence[Figure], key: str) -> dict[str, Any]:
    """The header of a card on the hub: with the usual results as its ``model-index`` as well.

    Raises:
        InputError: no such weights in the table.
    """
    header = header_of(key)
    usual = (key, MAIN, "")
    own = [f for f in figures if (f.model, f.table, f.options) == usual and f.ours is not None]
    if not own:
        return header
    results = [
        {
            "task": {
                "type": _PIPELINE,
                "name": f"{entry_of(key).task_of(key)} image fusion".capitalize(),
            },
            "dataset": _dataset(benchmark, name, {f.pairs for f in own if f.set == name}),
            "metrics": [_metric(figure) for figure in own if figure.set == name],
        }
        for name in dict.fromkeys(figure.set for figure in own)
    ]
    return {
        **header,
        "metrics": list(dict.fromkeys(figure.metric.lower() for figure in own)),
        "model-index": [{"name": key, "results": results}],
    }


def task_of(key: str) -> str:
    """What weights are for: their tag, where that is one of the model's tasks, or the first."""
    return entry_of(key).task_of(key)


def _dataset(benchmark: Benchmark, name: str, pairs: set[int]) -> dict[str, str]:
    counts = " or ".join(map(str, sorted(pairs)))
    return {"type": name, "name": f"{title(benchmark, name)}, {counts} pairs"}


def _metric(figure: Figure) -> dict[str, Any]:
    protocol = figure.protocol + (", stretched" if figure.stretch == "yes" else "")
    return {
        "type": figure.metric.lower(),
        "name": f"{figure.metric} ({protocol})",
        "value": figure.ours,
        "config": protocol,
    }


# The first text of a card -------------------------------------------------------------------------


def is_begun(benchmark: Benchmark, key: str) -> bool:
    """Whether a card has tables: the general one that ``save_pretrained`` writes has none."""
    path = benchmark.folder / key / CARD_NAME
    return path.is_file() and START.search(path.read_text(encoding="utf-8")) is not None


def begin_card(benchmark: Benchmark, key: str) -> Path:
    """Write the first text of a card: every table, and room for prose that is marked as such.

    Raises:
        InputError: no such weights in the table.
    """
    path = benchmark.folder / key / CARD_NAME
    write_whole(path, with_header(_first_text(benchmark, key), header_of(key)).encode())
    return path


def _first_text(benchmark: Benchmark, key: str) -> str:
    entry, (_, tag) = entry_of(key), split_key(key)
    first, second = (name.lower() for name in entry.modalities_of(key))
    pictures = f"{first}, {second}, fused"
    lines = [
        " ".join(filter(None, ("#", entry.path.partition(":")[2], tag))),
        "",
        f"{TO_WRITE}: what it is, in two sentences.",
        "",
        "```python",
        "import fusionzoo",
        "",
        f'fused = fusionzoo.load("{key}").fuse("{_file(first)}", "{_file(second)}")',
        "```",
        "",
        f"![{pictures}](pairs.png)",
        "",
        f"*{pictures.capitalize()}; {TO_WRITE}: which pairs, and under whose terms.*",
        "",
        *_section("Weights", f"facts {key}"),
        "## How it was trained",
        "",
        "| | |",
        "|---|---|",
        f"| schedule | {TO_WRITE} |",
        f"| differs from the paper | {TO_WRITE} |",
        f"| command | {TO_WRITE} |",
        f"| hardware, time | {TO_WRITE} |",
        f"| seed | {TO_WRITE} |",
        "",
    ]
    for table in dict.fromkeys(run.table for run in benchmark.runs if run.model == key):
        lines += _section(table.capitalize(), f"{table} {key}")
    lines += [
        "## What to expect",
        "",
        f"{TO_WRITE}: what was looked at, what is good, what is not.",
    ]
    return "\n".join([*lines, ""])


def _section(heading: str, table: str) -> list[str]:
    return [f"## {heading}", "", f"<!-- table: {table} -->", END, ""]


def _file(modality: str) -> str:
    return {"infrared": "ir", "visible": "vi"}.get(modality, modality) + ".png"
