"""Which model when: one line for each set of weights, with what it is for, costs and reaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from figures import Figure
from overviews import card_link, count, direction, entry_of, main_run, row, text_of, title
from runs import Benchmark
from speeds import Speed, read_speeds

from fusionzoo.evaluation.numbers import NOTHING, decimals, shown
from fusionzoo.evaluation.reports import arrow
from fusionzoo.weights import fingerprint, weights_table

USES = Path(__file__).with_name("uses.yaml")
METRICS = ("VIF", "Qabf")


def choice_table(benchmark: Benchmark, figures: Sequence[Figure], cards: str) -> str:
    """For each set of weights: its use, parameters, time for a pair, and figures of one set."""
    speeds = current_speeds(benchmark)
    size = next((f" for {speed.size}" for speed in speeds.values()), "").replace("x", "×")
    heads = (metric + arrow(direction("cddfuse", metric)) for metric in METRICS)
    lines = row("model", "for", "parameters", f"ms{size}", "measured on", *heads)
    lines += row("---", "---", "---:", "---:", "---", *["---:"] * len(METRICS))
    for key, use in uses().items():
        run = main_run(figures, key)
        values = {figure.metric: figure.ours for figure in run}
        place = title(benchmark, run[0].set) if run else NOTHING
        cells = [shown(values.get(m), decimals([values.get(m) or 0.0])) for m in METRICS]
        parameters = count(weights_table()[key].parameters)
        lines += row(card_link(key, cards), use, parameters, _time(speeds.get(key)), place, *cells)
    machines = dict.fromkeys(speed.machine for speed in speeds.values())
    notes = [f"Times: {'; '.join(machines)}.", ""] if machines else []
    return text_of([*lines, "", *notes, "Figures: protocol `cddfuse`, means over the test pairs."])


def uses() -> dict[str, str]:
    """Key of published weights -> what these are for, in the order of ``uses.yaml``."""
    known: dict[str, str] = yaml.safe_load(USES.read_text(encoding="utf-8"))
    published = weights_table()
    others = {key: entry_of(key).task_of(key) for key in sorted(published) if key not in known}
    return {key: use for key, use in {**known, **others}.items() if key in published}


def current_speeds(benchmark: Benchmark) -> dict[str, Speed]:
    """The speeds that were measured with the weights and options of today."""
    return {
        key: speed
        for key, speed in read_speeds(benchmark.folder).items()
        if key in weights_table() and speed.weights == fingerprint(benchmark.folder / key)
    }


def _time(speed: Speed | None) -> str:
    return NOTHING if speed is None else f"{speed.milliseconds:,.0f}"
