"""Markdown tables by name, and those of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from choice import choice_table
from figures import Figure
from leaderboard import leaderboard_table
from overviews import (
    direction,
    facts_table,
    models_table,
    raised,
    row,
    text_of,
    title,
    weights_index,
)
from runs import MAIN, RUNS_NAME, Benchmark
from variants import variants_table

from fusionzoo.errors import InputError
from fusionzoo.evaluation.measuring import places
from fusionzoo.evaluation.numbers import NOTHING, decimals, shown
from fusionzoo.evaluation.reports import arrow

NOT_YET = "*Not measured yet.*"
_OVERVIEWS = {
    "choice": choice_table,
    "leaderboard": leaderboard_table,
    "models": models_table,
    "weights": weights_index,
}
_MARKS = {1: "**{}**", 2: "*{}*"}

_Key = TypeVar("_Key")


def table_text(
    benchmark: Benchmark,
    figures: Sequence[Figure],
    name: str,
    key: str | None = None,
    *,
    cards: str = "checkpoints",
) -> str:
    """A table by the words of its marker, as Markdown that ends in a line break.

    Args:
        benchmark: what is run.
        figures: what was measured.
        name: ``choice``, ``leaderboard``, ``models``, ``weights``, ``facts``, ``ablations``,
            ``results`` or the ``table`` of some runs.
        key: of one model's weights.
        cards: way from the document to the folder of the checkpoints.

    Raises:
        InputError: there is no such table.
        FileNotFoundError: the facts are asked for, and the weights' folder has no benchmark.
    """
    if name in _OVERVIEWS and key is None:
        return _OVERVIEWS[name](benchmark, figures, cards)
    if name == "facts" and key is not None:
        return facts_table(benchmark, key)
    if name == "ablations" and key is not None:
        return variants_table(benchmark.folder / key)
    tables = sorted({run.table for run in benchmark.runs})
    if key is not None and key not in {run.model for run in benchmark.runs}:
        raise InputError(f"{benchmark.folder / key / RUNS_NAME}: there are no runs of {key!r}")
    if name == MAIN:
        return results_table(benchmark, figures, key)
    if name in tables and key is not None:
        return comparison_table(benchmark, figures, name, key)
    known = [
        *_OVERVIEWS,
        "facts WEIGHTS",
        "ablations WEIGHTS",
        MAIN,
        *(f"{table} MODEL" for table in tables),
    ]
    raise InputError(f"there is no such table; there are {', '.join(known)}")


def results_table(benchmark: Benchmark, figures: Sequence[Figure], key: str | None = None) -> str:
    """Ours, printed values and the difference: one table for each test set and protocol."""
    chosen = [f for f in figures if f.table == MAIN and key in (None, f.model)]
    blocks, notes = [], []
    for (set_name, protocol, stretch), group in _grouped(chosen, _place):
        metrics = list(dict.fromkeys(figure.metric for figure in group))
        pairs = {figure.pairs for figure in group}
        lines = [_caption(benchmark, set_name, protocol, stretch, pairs), ""]
        lines += row("", *(m + arrow(direction(protocol, m)) for m in metrics))
        lines += row("---", *["---:"] * len(metrics))
        for run_key, run_figures in _grouped(group, lambda figure: figure.key):
            lines += _run_lines(benchmark, run_key, run_figures, metrics, notes)
        blocks.append(lines)
    if not blocks:
        return text_of([NOT_YET])
    footnotes = [f"{raised(number)} {note}" for number, note in enumerate(notes, start=1)]
    # Two spaces at its end keep a note on a line of its own.
    footnotes = ["  \n".join(footnotes)] if footnotes else []
    return "\n".join([*map(text_of, blocks), *map(text_of, [[note] for note in footnotes])])


def comparison_table(benchmark: Benchmark, figures: Sequence[Figure], name: str, key: str) -> str:
    """One model with several options, such as all fusion rules; the best two marked."""
    chosen = [figure for figure in figures if figure.table == name and figure.model == key]
    blocks = []
    for (set_name, protocol, stretch), group in _grouped(chosen, _place):
        metrics = list(dict.fromkeys(figure.metric for figure in group))
        pairs = {figure.pairs for figure in group}
        options = {figure.options: _options(figure.options) for figure in group}
        headings = list(dict.fromkeys(head for found in options.values() for head in found))
        lines = [_caption(benchmark, set_name, protocol, stretch, pairs), ""]
        lines += row(*(head.replace("_", " ") for head in headings),
                      *(m + arrow(direction(protocol, m)) for m in metrics))  # fmt: skip
        lines += row(*["---"] * len(headings), *["---:"] * len(metrics))
        values = {(figure.options, figure.metric): figure.ours for figure in group}
        columns = [_column(values, list(options), m, direction(protocol, m)) for m in metrics]
        for number, found in enumerate(options.values()):
            cells = [column[number] for column in columns]
            lines += row(*(found.get(head, NOTHING) for head in headings), *cells)
        blocks.append(lines)
    if not blocks:
        return text_of([NOT_YET])
    return "\n".join([*map(text_of, blocks), text_of(["Best in bold, second best in italics."])])


def _run_lines(
    benchmark: Benchmark,
    key: tuple[str, ...],
    figures: Sequence[Figure],
    metrics: Sequence[str],
    notes: list[str],
) -> list[str]:
    """A run's line, and two for each kind of printed values; their sources go to ``notes``."""
    by_metric = {figure.metric: figure for figure in figures}
    run = next((run for run in benchmark.runs if run.key == key), None)
    label = f"**{key[0]}**"
    if run and run.label:
        label += f" {run.label}"
    if key[2]:
        label += f" ({key[2].replace(' ', ', ').replace('=', ' ').replace('_', ' ')})"
    ours = {m: by_metric[m].ours for m in metrics if m in by_metric}
    digits = {m: decimals([ours.get(m) or 0.0]) for m in metrics}
    lines = row(label, *(shown(ours.get(m), digits[m]) for m in metrics))
    for printed in run.printed if run else ():
        values = {m: by_metric[m].printed.get(printed.name) for m in by_metric}
        deltas = {m: by_metric[m].delta(printed.name) for m in by_metric}
        if printed.source not in notes:
            notes.append(printed.source)
        mark = raised(notes.index(printed.source) + 1)
        lines += row(f"{printed.name} {mark}", *(shown(values.get(m), digits[m]) for m in metrics))
        lines += row(
            f"delta to {printed.name}",
            *(shown(deltas.get(m), digits[m], sign=True) for m in metrics),
        )
    return lines


def _column(
    values: dict[tuple[str, str], float | None],
    options: list[str],
    metric: str,
    better: bool | None,
) -> list[str]:
    """The cells of one metric, the best two marked by what is shown of them."""
    found = [values.get((option, metric)) for option in options]
    digits = decimals([value for value in found if value is not None])
    best = places(
        {n: round(value, digits) for n, value in enumerate(found) if value is not None}, better
    )
    cells = [shown(value, digits) for value in found]
    return [_MARKS[best[n]].format(cell) if n in best else cell for n, cell in enumerate(cells)]


def _caption(
    benchmark: Benchmark, name: str, protocol: str, stretch: str, pairs: Iterable[int]
) -> str:
    counts = " or ".join(str(count) for count in sorted(set(pairs)))
    text = f"{title(benchmark, name)}, {counts} pairs, protocol `{protocol}`"
    return f"{text}, results stretched to 0…255:" if stretch == "yes" else f"{text}:"


def _place(figure: Figure) -> tuple[str, str, str]:
    return (figure.set, figure.protocol, figure.stretch)


def _grouped(
    figures: Iterable[Figure], key: Callable[[Figure], _Key]
) -> list[tuple[_Key, list[Figure]]]:
    """Groups by key, in the order in which the keys first come."""
    figures = list(figures)
    order = list(dict.fromkeys(map(key, figures)))
    ordered = sorted(figures, key=lambda figure: order.index(key(figure)))
    return [(found, list(group)) for found, group in groupby(ordered, key)]


def _options(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(" ") if part)
