"""The figures: ``results.csv``, one line for each metric of each run."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusionzoo.errors import InputError

#: All figures have so many decimals: enough for every printed table, too few for the noise
#: between machines.
DECIMALS = 4

_FIRST = (
    "model", "table", "options", "set", "protocol", "stretch", "pairs", "weights",
    "metric", "ours", "std",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One metric of one run.

    Attributes:
        model, table, options, set, protocol, stretch: the run's, as text; see :class:`runs.Run`.
        pairs: how many were measured.
        weights: :func:`fusionzoo.weights.fingerprint` of the weights and options that were run.
        metric: its name.
        ours: the mean over the pairs, None where it is not a number.
        std: standard deviation between pairs.
        printed: what somebody printed, by the name of that.
    """

    model: str
    table: str
    options: str
    set: str
    protocol: str
    stretch: str
    pairs: int
    weights: str
    metric: str
    ours: float | None
    std: float | None
    printed: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """That of its run."""
        return (self.model, self.table, self.options, self.set, self.protocol, self.stretch)

    def delta(self, name: str) -> float | None:
        """Ours less the printed value; None where either is not known."""
        if self.ours is None or name not in self.printed:
            return None
        return round(self.ours - self.printed[name], DECIMALS)


def rounded(value: float) -> float | None:
    """A figure as the table keeps it."""
    return None if math.isnan(value) else round(value, DECIMALS)


def figures_text(figures: Iterable[Figure], printed_names: Sequence[str]) -> str:
    """The CSV: for each kind of printed values, they and the delta to ours have a column."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    extra = [column for name in printed_names for column in (name, _delta(name))]
    out.writerow([*_FIRST, *extra])
    for figure in figures:
        row = [
            getattr(figure, name) if name not in ("ours", "std") else _digits(getattr(figure, name))
            for name in _FIRST
        ]
        for name in printed_names:
            row += [_digits(figure.printed.get(name)), _digits(figure.delta(name))]
        out.writerow(row)
    return text.getvalue()


def read_figures(path: str | os.PathLike[str]) -> list[Figure]:
    """Read the CSV; no file means no figures yet.

    Raises:
        InputError: it is not what :func:`figures_text` writes.
    """
    path = Path(path)
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or []
        lacking = [name for name in _FIRST if name not in names]
        if lacking:
            raise InputError(f"{path}: lacks the columns {', '.join(lacking)}; write it anew")
        printed = [name for name in names if name not in _FIRST and _delta(name) in names]
        figures = []
        for row in reader:
            try:
                figures.append(_figure(row, printed))
            except (TypeError, ValueError) as error:
                raise InputError(f"{path}: line {reader.line_num}: {error}") from None
    return figures


def _figure(row: Mapping[str, str], printed: Iterable[str]) -> Figure:
    facts = {name: row[name] for name in _FIRST}
    return Figure(
        **{
            **facts,
            "pairs": int(facts["pairs"]),
            "ours": _number(facts["ours"]),
            "std": _number(facts["std"]),
        },
        printed={name: float(row[name]) for name in printed if row[name]},
    )


def _delta(name: str) -> str:
    return "delta" if name == "paper" else f"delta {name}"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.{DECIMALS}f}"


def _number(text: str) -> float | None:
    return float(text) if text else None
