"""An evaluation as a file: CSV and JSON for programs, Markdown for people, LaTeX for papers."""

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
from fusionzoo.evaluation.numbers import NOTHING, decimals, shown
from fusionzoo.evaluation.outputs import check_output
from fusionzoo.metrics import get_protocol
from fusionzoo.remote import as_path, write_file

_MARKS = {1: "**{}**", 2: "*{}*"}
_LATEX_MARKS = {1: r"\textbf{{}}", 2: r"\underline{{}}"}
_LATEX_ARROWS = {True: r"{} $\uparrow$", False: r"{} $\downarrow$", None: "{}"}
_LATEX_SIGNS = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "…": r"\dots{}",
}


def write_report(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write an evaluation as ``.csv``, ``.json``, ``.md`` or ``.tex``; never half of a file.

    Raises:
        InputError: another ending.
        MissingFileError: the folder does not exist.
        FileError: the file cannot be written, or the disk is full.
    """
    path = as_path(path)
    check_report(path)
    text = WRITERS[path.suffix.lower()](evaluation)
    # A name on the disk may hold what no text can; it is written out.
    write_file(path, text.encode(errors="backslashreplace"))


def check_report(path: Path) -> None:
    """Refuse, before the work is done, what :func:`write_report` would refuse."""
    check_output(path, WRITERS)


def to_csv(evaluation: Evaluation) -> str:
    """One line for each image of each method, and each method's ``mean`` and ``std``."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["method", "row", "image", "protocol", "stretch", *evaluation.metrics])
    how = [evaluation.protocol, _yes(evaluation.stretch)]
    for scores in evaluation.scores:
        for name, values in scores.images.items():
            cells = [_digits(values[metric]) for metric in evaluation.metrics]
            out.writerow([scores.name, "image", name, *how, *cells])
    for row, function in (("mean", evaluation.mean), ("std", evaluation.std)):
        for scores in evaluation.scores:
            cells = [_digits(function(scores.name, metric)) for metric in evaluation.metrics]
            out.writerow([scores.name, row, "", *how, *cells])
    return text.getvalue()


def to_json(evaluation: Evaluation) -> str:
    """Everything; what is not a number is null."""
    best = {metric: evaluation.best(metric) for metric in evaluation.metrics}
    methods = [
        {
            "name": scores.name,
            "source": scores.source,
            "mean": {m: _number(evaluation.mean(scores.name, m)) for m in evaluation.metrics},
            "std": {m: _number(evaluation.std(scores.name, m)) for m in evaluation.metrics},
            "place": {
                m: best[m][scores.name] for m in evaluation.metrics if scores.name in best[m]
            },
            "images": {
                name: {m: _number(value) for m, value in values.items()}
                for name, values in scores.images.items()
            },
        }
        for scores in evaluation.scores
    ]
    content = {
        "fusionzoo": __version__,
        "protocol": evaluation.protocol,
        "stretch": evaluation.stretch,
        "higher_is_better": dict(evaluation.higher_is_better),
        "compared": evaluation.compared,
        "methods": methods,
        "problems": list(evaluation.problems),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def to_markdown(evaluation: Evaluation) -> str:
    """A table of means with their deviations, and one of every image."""
    names = [scores.name for scores in evaluation.scores]
    lines = [headline(evaluation), ""]
    lines += _row(["", *map(_safe, names)]) + _row(["---", *["---:"] * len(names)])
    for metric in evaluation.metrics:
        lines += _row(
            [metric + arrow(evaluation.higher_is_better[metric]), *cells(evaluation, metric)]
        )
    lines += ["", "Mean ± standard deviation between images."]
    if len(names) > 1:
        lines[-1] += " Best in bold, second best in italics."
    for scores in evaluation.scores:
        lines += ["", f"{_safe(scores.name)}, each image:", ""]
        lines += _row(["image", *evaluation.metrics]) + _row(
            ["---", *["---:"] * len(evaluation.metrics)]
        )
        digits = {
            m: decimals(values[m] for values in scores.images.values()) for m in evaluation.metrics
        }
        for name, values in scores.images.items():
            lines += _row([_safe(name), *(shown(values[m], digits[m]) for m in evaluation.metrics)])
    if evaluation.problems:
        lines += ["", f"{len(evaluation.problems)} problems:", ""]
        lines += [f"- {_safe(problem)}" for problem in evaluation.problems]
    return "\n".join(lines) + "\n"


def to_latex(evaluation: Evaluation) -> str:
    """A table of means as papers print it: a row for each method, a column for each metric.

    It needs the package booktabs. The best mean is bold, the second best underlined, and arrows
    say which direction is better.
    """
    names = [scores.name for scores in evaluation.scores]
    heads = [
        _LATEX_ARROWS[evaluation.higher_is_better[metric]].format(_in_latex(metric))
        for metric in evaluation.metrics
    ]
    columns = [_latex_cells(evaluation, metric) for metric in evaluation.metrics]
    caption = _in_latex(headline(evaluation)) + "."
    if len(names) > 1:
        caption += " Best in bold, second best underlined."
    lines = [
        f"% Written by fusionzoo {__version__}; needs \\usepackage{{booktabs}}.",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{caption}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"    \toprule",
        f"    {' & '.join(['Method', *heads])} " + r"\\",
        r"    \midrule",
    ]
    for number, name in enumerate(names):
        cells = [_in_latex(name), *(column[number] for column in columns)]
        lines.append(f"    {' & '.join(cells)} " + r"\\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def headline(evaluation: Evaluation) -> str:
    """What was measured, in one line."""
    count = len(evaluation.compared)
    protocol = get_protocol(evaluation.protocol)
    line = f"Protocol {protocol.name} ({protocol.title}), {count} pair{'s' * (count != 1)}"
    return line + (", fused images stretched to 0…255" if evaluation.stretch else "")


def cells(evaluation: Evaluation, metric: str, marks: dict[int, str] | None = None) -> list[str]:
    """Mean ± deviation of each method, the best two of them marked."""
    marks = _MARKS if marks is None else marks
    best = evaluation.best(metric)
    means = {scores.name: evaluation.mean(scores.name, metric) for scores in evaluation.scores}
    digits = decimals(means.values())
    result = []
    for name, mean in means.items():
        cell = shown(mean, digits)
        std = evaluation.std(name, metric)
        if not math.isnan(std):
            cell += f" ± {shown(std, digits)}"
        result.append(marks[best[name]].format(cell) if name in best else cell)
    return result


def _latex_cells(evaluation: Evaluation, metric: str) -> list[str]:
    means = {scores.name: evaluation.mean(scores.name, metric) for scores in evaluation.scores}
    digits, best = decimals(means.values()), evaluation.best(metric)
    plain = {NOTHING: "--", "inf": r"$\infty$", "-inf": r"$-\infty$"}
    cells = []
    for name, mean in means.items():
        text = shown(mean, digits)
        text = plain.get(text, text.replace("-", "$-$"))
        cells.append(_LATEX_MARKS.get(best.get(name, 0), "{}").replace("{}", text))
    return cells


def _in_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX_SIGNS.get(char, char if char.isprintable() else " ") for char in text)


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


WRITERS = {".csv": to_csv, ".json": to_json, ".md": to_markdown, ".tex": to_latex}
