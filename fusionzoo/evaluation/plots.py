"""Pictures of an evaluation: means as bars, and how each metric is spread over the images."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionzoo.errors import InputError
from fusionzoo.evaluation.measuring import Evaluation
from fusionzoo.evaluation.numbers import decimals, shown
from fusionzoo.evaluation.outputs import check_output
from fusionzoo.evaluation.reports import arrow, headline
from fusionzoo.remote import as_path, write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
_COLUMNS = 4
_WIDTH, _HEIGHT = 3.4, 4.4  # inches, of one metric: its bars above its curves


def draw(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write a PNG, SVG or PDF with two panels for each metric.

    Bars: the mean of each method, its standard deviation as a line. Curves: a point (x, y) says
    that the share x of the images has values of at most y, as in CoCoNet's Fig. 10.

    Raises:
        ImportError: matplotlib is not installed.
        InputError: another ending, or no image that every method was measured on.
        MissingFileError: the folder does not exist.
        FileError: the file cannot be written, or the disk is full.
    """
    path = as_path(path)
    check_plot(path)
    if not evaluation.compared:
        raise InputError(f"{path}: nothing to draw, no image was measured for every method")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    # Equal evaluations give equal files: no random ids, no date. Publishers refuse Type 3 fonts.
    style: Any = {
        "svg.hashsalt": "fusionzoo",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context(style):
        figure = _figure(evaluation)
        FigureCanvasAgg(figure)
        kind = path.suffix.lower()[1:]
        date = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
        figure.savefig(picture, format=kind, dpi=110, metadata={date: None} if date else None)
    write_file(path, picture.getvalue())


def check_plot(path: Path) -> None:
    """Refuse, before the work is done, what :func:`draw` would refuse."""
    check_output(path, ENDINGS)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'fusionzoo[plot]'") from None


def cumulative(values: list[float]) -> tuple[list[float], list[float]]:
    """Shares of the images in (0, 1] and, for each, the value that so many do not exceed."""
    ordered = sorted(value for value in values if not math.isnan(value))
    return [(rank + 1) / len(ordered) for rank in range(len(ordered))], ordered


def _figure(evaluation: Evaluation) -> Figure:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(evaluation.metrics))
    rows = math.ceil(len(evaluation.metrics) / columns)
    names = [scores.name for scores in evaluation.scores]
    colors = [colormaps["tab20" if len(names) > 10 else "tab10"](n % 20) for n in range(len(names))]
    figure = Figure((max(2, columns) * _WIDTH, rows * _HEIGHT + 0.9), layout="constrained")
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for number, metric in enumerate(evaluation.metrics):
        row, column = divmod(number, columns)
        _draw_bars(panels[2 * row][column], evaluation, metric, colors)
        _draw_curves(panels[2 * row + 1][column], evaluation, metric, colors)
    for number in range(len(evaluation.metrics), rows * columns):
        row, column = divmod(number, columns)
        panels[2 * row][column].remove()
        panels[2 * row + 1][column].remove()
    figure.suptitle(headline(evaluation), fontsize=9)
    lines = panels[1][0].get_lines()
    figure.legend(lines, names, loc="outside lower center", ncols=min(6, len(names)), frameon=False)
    return figure


def _draw_bars(axes: Axes, evaluation: Evaluation, metric: str, colors: list[Any]) -> None:
    names = [scores.name for scores in evaluation.scores]
    means = [evaluation.mean(name, metric) for name in names]
    stds = [evaluation.std(name, metric) for name in names]
    spread = None if any(map(math.isnan, stds)) else stds
    axes.bar(range(len(names)), means, yerr=spread, color=colors, error_kw={"elinewidth": 0.8})
    digits, best = decimals(means), evaluation.best(metric)
    for place, (name, mean) in enumerate(zip(names, means, strict=True)):
        if not math.isnan(mean):
            weight = "bold" if best.get(name) == 1 else "normal"
            text = shown(mean, digits)
            axes.text(place, 0, text, rotation=90, ha="center", va="bottom", weight=weight)
    axes.set_title(metric + arrow(evaluation.higher_is_better[metric]))
    axes.set_xticks([])


def _draw_curves(axes: Axes, evaluation: Evaluation, metric: str, colors: list[Any]) -> None:
    for scores, color in zip(evaluation.scores, colors, strict=True):
        shares, values = cumulative(evaluation.values(scores.name, metric))
        axes.plot(shares, values, color=color, marker=".", markersize=3, linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of images")
    axes.grid(alpha=0.3)
