"""The first text of a model card: everything that is generated, and room for prose."""

from __future__ import annotations

from fusionzoo.results.config import MAIN, Config
from fusionzoo.results.documents import END, START
from fusionzoo.results.facts import published
from fusionzoo.results.overviews import entry_of
from fusionzoo.weights import CARD_NAME
from fusionzoo.weights.writing import write_atomically


def card_template(config: Config, key: str) -> str:
    """A card for published weights, to be edited by hand; tables and header come from the command.

    Raises:
        ValueError: no such weights in the table.
    """
    published(key)
    entry = entry_of(key)
    first, second = (name.lower() for name in entry.modalities_of(key))
    pictures = f"{first}, {second}, fused"
    lines = [
        f"# {entry.path.partition(':')[2]}{' ' if '.' in key else ''}{key.partition('.')[2]}",
        "",
        "What it is, in two sentences.",
        "",
        "```python",
        "import fusionzoo",
        "",
        f'fused = fusionzoo.load("{key}").fuse("{_file(first)}", "{_file(second)}")',
        "```",
        "",
        f"![{pictures}](pairs.png)",
        "",
        f"*{pictures.capitalize()}; which pairs. Terms of the pictures: whose.*",
        "",
        *_section("Weights", f"facts {key}"),
        "## How it was trained",
        "",
        "| | |",
        "|---|---|",
        "| schedule | |",
        "| differs from the paper | |",
        "| command | |",
        "| hardware, time | |",
        "| seed | |",
        "",
    ]
    tables = dict.fromkeys([MAIN, *(run.table for run in config.runs if run.model == key)])
    for table in tables:
        lines += _section(table.capitalize(), f"{table} {key}")
    return "\n".join([*lines, "## What to expect", "", "Looked at: what is good, what is not.", ""])


def write_card(config: Config, key: str) -> None:
    """Write the first text of ``KEY/README.md``, over the general one of ``save_pretrained``.

    Raises:
        ValueError: no such weights in the table, or the card has tables already, so that it has
            been edited by hand.
        FileNotFoundError: there is no such folder beside the benchmark file.
    """
    path = config.path.parent / key / CARD_NAME
    text = card_template(config, key)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; write it with save_pretrained")
    if path.is_file() and START.search(path.read_text(encoding="utf-8")):
        raise ValueError(f"{path} has tables already; edit it, or delete it to begin anew")
    write_atomically(path, text.encode())


def _section(heading: str, table: str) -> list[str]:
    return [f"## {heading}", "", f"<!-- table: {table} -->", END, ""]


def _file(modality: str) -> str:
    return {"infrared": "ir", "visible": "vi"}.get(modality, modality) + ".png"
