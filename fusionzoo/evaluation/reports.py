"""An evaluation as a file: CSV and JSON for programs, Markdown for people."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

from fusionzoo._version import __version__
from fusionzoo.evaluation.measuring import Evaluation
from fusionzoo.evaluation.numbers import decimals, shown
from fusionzoo.files import write_whole
from fusionzoo.metrics import get_protocol

_MARKS = {1: "**{}**", 2: "*{}*"}


def write_report(found: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write an evaluation as ``.csv``, ``.json`` or ``.md``; never half of a file.

    Raises:
        ValueError: another ending.
        FileNotFoundError: the folder does not exist.
    """
    path = Path(path)
    check_report(path)
    write_whole(path, WRITERS[path.suffix.lower()](found).encode())


def check_report(path: Path) -> None:
    """Refuse, before the work is done, what :func:`write_report` would refuse."""
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path}: name a file that ends in {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first")


def to_csv(found: Evaluation) -> str:
    """One line for each image of each method, and each method's ``mean`` and ``std``."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["method", "row", "image", "protocol", "stretch", *found.metrics])
    how = [found.protocol, _yes(found.stretch)]
    for scores in found.scores:
        for name, values in scores.images.items():
            cells = [_digits(values[metric]) for metric in found.metrics]
            out.writerow([scores.name, "image", name, *how, *cells])
    for row, function in (("mean", found.mean), ("std", found.std)):
        for scores in found.scores:
            cells = [_digits(function(scores.name, metric)) for metric in found.metrics]
            out.writerow([scores.name, row, "", *how, *cells])
    return text.getvalue()


def to_json(found: Evaluation) -> str:
    """Everything; what is not a number is null."""
    best = {metric: found.best(metric) for metric in found.metrics}
    methods = [
        {
            "name": scores.name,
            "source": scores.source,
            "mean": {m: _number(found.mean(scores.name, m)) for m in found.metrics},
            "std": {m: _number(found.std(scores.name, m)) for m in found.metrics},
            "place": {m: best[m][scores.name] for m in found.metrics if scores.name in best[m]},
            "images": {
                name: {m: _number(value) for m, value in values.items()}
                for name, values in scores.images.items()
            },
        }
        for scores in found.scores
    ]
    content = {
        "fusionzoo": __version__,
        "protocol": found.protocol,
        "stretch": found.stretch,
        "higher_is_better": dict(found.higher_is_better),
        "compared": found.compared,
        "methods": methods,
        "problems": list(found.problems),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def to_markdown(found: Evaluation) -> str:
    """A table of means with their deviations, and one of every image."""
    names = [scores.name for scores in found.scores]
    lines = [headline(found), ""]
    lines += _row(["", *map(_safe, names)]) + _row(["---", *["---:"] * len(names)])
    for metric in found.metrics:
        lines += _row([metric + arrow(found.higher_is_better[metric]), *cells(found, metric)])
    lines += ["", "Mean ± standard deviation between images."]
    if len(names) > 1:
        lines[-1] += " Best in bold, second best in italics."
    for scores in found.scores:
        lines += ["", f"{_safe(scores.name)}, each image:", ""]
        lines += _row(["image", *found.metrics]) + _row(["---", *["---:"] * len(found.metrics)])
        digits = {
            m: decimals(values[m] for values in scores.images.values()) for m in found.metrics
        }
        for name, values in scores.images.items():
            lines += _row([_safe(name), *(shown(values[m], digits[m]) for m in found.metrics)])
    if found.problems:
        lines += ["", f"{len(found.problems)} problems:", ""]
        lines += [f"- {_safe(problem)}" for problem in found.problems]
    return "\n".join(lines) + "\n"


def headline(found: Evaluation) -> str:
    """What was measured, in one line."""
    count = len(found.compared)
    protocol = get_protocol(found.protocol)
    line = f"Protocol {protocol.name} ({protocol.title}), {count} pair{'s' * (count != 1)}"
    return line + (", fused images stretched to 0…255" if found.stretch else "")


def cells(found: Evaluation, metric: str, marks: dict[int, str] | None = None) -> list[str]:
    """Mean ± deviation of each method, the best two of them marked."""
    marks = _MARKS if marks is None else marks
    best = found.best(metric)
    means = {scores.name: found.mean(scores.name, metric) for scores in found.scores}
    digits = decimals(means.values())
    result = []
    for name, mean in means.items():
        cell = shown(mean, digits)
        std = found.std(name, metric)
        if not math.isnan(std):
            cell += f" ± {shown(std, digits)}"
        result.append(marks[best[name]].format(cell) if name in best else cell)
    return result


def arrow(higher_is_better: bool | None) -> str:
    """The direction of improvement behind a metric's name."""
    return {True: " ↑", False: " ↓", None: ""}[higher_is_better]


def _row(cells: list[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


def _safe(text: str) -> str:
    """Text that breaks neither table nor line."""
    return text.replace("|", "\\|").replace("\n", " ")


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.8g}"


def _number(value: float) -> Any:
    return value if math.isfinite(value) else None


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


WRITERS = {".csv": to_csv, ".json": to_json, ".md": to_markdown}
