"""Variants of a model, trained alike at a small budget: their figures as CSV and as a table.

``checkpoints/KEY/ablations.yaml`` names them, ``checkpoints/KEY/ablations.csv`` holds the figures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from overviews import direction, row, text_of

from fusionzoo.errors import InputError
from fusionzoo.evaluation.numbers import decimals, shown
from fusionzoo.evaluation.reports import arrow

PLAN_NAME, ROWS_NAME = "ablations.yaml", "ablations.csv"
#: Protocol -> its metrics: what the training of LapNet asks for first, then what it does not.
MEASURED = {
    "cddfuse": ("VIF", "Qabf", "SSIM", "SCD", "SD", "EN", "MI"),
    "zoo": ("Qcb", "Qcv", "CE", "Nabf", "VIFF", "MS_SSIM"),
}
COLUMNS = tuple(name for names in MEASURED.values() for name in names)

Rows = Mapping[str, Mapping[str, float]]


def read_plan(folder: Path) -> dict[str, Any]:
    """The variants of a model and the budget of each.

    Raises:
        InputError: the folder of the weights has no ``ablations.yaml``.
    """
    path = folder / PLAN_NAME
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; it names the variants to train")
    plan: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return plan


def read_rows(folder: Path) -> dict[str, dict[str, float]]:
    """Variant -> its number of parameters and its metrics; empty where none was measured."""
    path = folder / ROWS_NAME
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            line.pop("variant"): {name: float(value) for name, value in line.items()}
            for line in csv.DictReader(stream)
        }


def rows_text(rows: Rows) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "parameters", *COLUMNS])
    for name, values in rows.items():
        writer.writerow([name, int(values["parameters"]), *(values[column] for column in COLUMNS)])
    return text.getvalue()


def variants_table(folder: Path) -> str:
    """The rows as Markdown, with the budget above."""
    plan, rows = read_plan(folder), read_rows(folder)
    better = {name: direction(home, name) for home, names in MEASURED.items() for name in names}
    digits = {name: decimals([line[name] for line in rows.values()]) for name in COLUMNS}
    lines = row("variant", "parameters", *(name + arrow(better[name]) for name in COLUMNS))
    lines += row("---", *["---:"] * (1 + len(COLUMNS)))
    for variant, line in rows.items():
        cells = (shown(line[name], digits[name]) for name in COLUMNS)
        lines += row(variant, f"{int(line['parameters']):,}", *cells)
    budget = f"{plan['epochs']} epochs each; one seed; pairs held back from training:"
    return text_of([budget, "", *lines])
