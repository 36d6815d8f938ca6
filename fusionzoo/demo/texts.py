"""What the page writes: errors, notes and the table of metrics, as HTML that nobody can inject."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from html import escape

from fusionzoo.errors import FusionZooError

__all__ = ["as_alert", "as_notes", "as_table", "told"]


def told(error: Exception) -> str:
    """What an error tells the user; of a defect, the traceback goes to the terminal."""
    if isinstance(error, FusionZooError):
        return in_page_words(str(error))
    if isinstance(error, MemoryError):
        return "the memory does not suffice; use smaller images, or another model"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}"
    print("".join(traceback.format_exception(error)), file=sys.stderr)
    return f"this is a defect of fusionzoo ({type(error).__name__}); the terminal has its traceback"


def in_page_words(text: str) -> str:
    """Name what Python's arguments are called on the page."""
    for word, here in {
        "force=True takes the best transform found": "choose 'scale' or 'as they are'",
        "force=True takes the pair as it is": "choose 'as they are'",
        "give matching points": "click matching points",
    }.items():
        text = text.replace(word, here)
    return text


def as_alert(text: str) -> str:
    """An error."""
    return f'<div role="alert" class="alert">{escape(text)}</div>'


def as_notes(lines: Sequence[str]) -> str:
    """Lines about what was done."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def as_table(
    values: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool | None]
) -> str:
    """A row a metric, a column a model; an arrow says which direction is better."""
    if not values:
        return ""
    arrows = {True: " ↑", False: " ↓", None: ""}
    heads = "".join(f"<th>{escape(model)}</th>" for model in values)
    rows = "".join(
        f"<tr><th>{escape(metric)}{arrows[better]}</th>"
        + "".join(f"<td>{_number(row[metric])}</td>" for row in values.values())
        + "</tr>"
        for metric, better in higher_is_better.items()
    )
    return f'<table class="metrics"><tr><th></th>{heads}</tr>{rows}</table>'


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
