"""How many digits a table shows."""

from __future__ import annotations

import math
from collections.abc import Iterable

NOTHING = "–"


def decimals(values: Iterable[float]) -> int:
    """Decimals that show four digits of the greatest value, and never more than four."""
    known = [abs(value) for value in values if math.isfinite(value)]
    greatest = max(known, default=0.0)
    return next((3 - power for power in (3, 2, 1, 0) if greatest >= 10**power), 4)


def shown(value: float | None, digits: int, sign: bool = False) -> str:
    """A number with this many decimals, or a dash for one that is not known."""
    if value is None or math.isnan(value):
        return NOTHING
    if not sign:
        return f"{value:.{digits}f}"
    # What rounds to nothing has no sign.
    text = f"{round(value, digits) or 0.0:+.{digits}f}"
    return text[1:] if not text.strip("+0.") else text.replace("-", "−")
