"""The leaderboard: what is measured here beside what others printed, for each test set.

``docs/peers.csv`` holds the printed values, each with its source; ``results.csv`` holds ours.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from figures import Figure
from overviews import card_link, direction, row, text_of, title
from runs import MAIN, Benchmark

from fusionzoo.errors import InputError, MissingFileError
from fusionzoo.evaluation.numbers import NOTHING, decimals, shown
from fusionzoo.evaluation.reports import arrow

PROTOCOL = "cddfuse"
METRICS = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM")
MEASURED, QUOTED = "measured", "quoted"


@dataclass(frozen=True)
class Entry:
    """One line: a method on one test set.

    Attributes:
        set: key of the test set.
        method: its name; of ours the key of the weights.
        pairs: how many were measured, as text; empty where that is not said.
        values: of the metrics that are known.
        note: what is to be known before comparing.
        source: who printed the values; empty for ours.
        printed: the values as they were printed, by their metrics; ours have none.
    """

    set: str
    method: str
    pairs: str
    values: Mapping[str, float]
    note: str
    source: str
    printed: Mapping[str, str] = field(default_factory=dict)

    @property
    def quoted(self) -> bool:
        """Whether others printed the values."""
        return bool(self.source)


def entries(benchmark: Benchmark, figures: Sequence[Figure]) -> dict[str, list[Entry]]:
    """Test set -> its lines, highest VIF first, in the order of the benchmark file.

    Raises:
        MissingFileError, InputError: ``docs/peers.csv`` is not there or not as it should be.
    """
    lines = [*_ours(figures), *peers(benchmark.folder.parent / "docs" / "peers.csv")]
    found = {name: [line for line in lines if line.set == name] for name in benchmark.sets}
    unknown = {line.set for line in lines} - set(found)
    if unknown:
        raise InputError(f"docs/peers.csv: no such test set: {', '.join(sorted(unknown))}")
    return {
        name: sorted(own, key=lambda line: -line.values.get("VIF", 0.0))
        for name, own in found.items()
        if own
    }


def peers(path: Path) -> list[Entry]:
    """What others printed.

    Raises:
        MissingFileError, InputError: no such file, or a line that is not as it should be.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file; it holds the values of others")
    found = []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        for line in reader:
            try:
                printed = {name: line[name] for name in METRICS if line[name]}
                values = {name: float(text) for name, text in printed.items()}
                facts = {name: line[name] for name in ("set", "method", "pairs", "note", "source")}
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{path}: line {reader.line_num}: {error!r}") from None
            if not facts["source"]:
                raise InputError(f"{path}: line {reader.line_num}: a printed value needs a source")
            found.append(Entry(**facts, values=values, printed=printed))
    return found


def leaderboard_table(benchmark: Benchmark, figures: Sequence[Figure], cards: str) -> str:
    """One table for each test set; what is quoted is in italics and names its source."""
    blocks = []
    for name, lines in entries(benchmark, figures).items():
        text = [f"### {title(benchmark, name)}", ""]
        heads = (metric + arrow(direction(PROTOCOL, metric)) for metric in METRICS)
        text += row("method", "pairs", *heads, "note", "from")
        text += row("---", "---:", *["---:"] * len(METRICS), "---", "---")
        for line in lines:
            cells = [line.printed.get(metric) or _shown(line, metric) for metric in METRICS]
            method = f"*{line.method}*" if line.quoted else card_link(line.method, cards)
            origin = f"{line.source}, {QUOTED}" if line.quoted else MEASURED
            text += row(method, line.pairs or NOTHING, *cells, line.note or NOTHING, origin)
        blocks.append(text_of(text))
    return "\n".join(blocks)


def _ours(figures: Iterable[Figure]) -> list[Entry]:
    runs: dict[tuple[str, ...], list[Figure]] = {}
    for figure in figures:
        if (figure.table, figure.options, figure.protocol) == (MAIN, "", PROTOCOL):
            runs.setdefault(figure.key, []).append(figure)
    return [
        Entry(
            set=run[0].set,
            method=run[0].model,
            pairs=str(run[0].pairs),
            values={f.metric: f.ours for f in run if f.ours is not None},
            note="stretched" if run[0].stretch == "yes" else "",
            source="",
        )
        for run in runs.values()
    ]


def _shown(line: Entry, metric: str) -> str:
    value = line.values.get(metric)
    return shown(value, decimals([value or 0.0]))
