"""Pieces of Markdown that all tables are made of."""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = ("", "k", "M", "G")


def row(*cells: str) -> list[str]:
    """A table's line, as a list to be added to others."""
    return ["| " + " | ".join(cells) + " |"]


def text_of(lines: Iterable[str]) -> str:
    """Lines as text that ends in a line break."""
    return "\n".join(lines) + "\n"


def raised(number: int) -> str:
    """A number as a footnote's mark."""
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def count(value: float, of: str = "") -> str:
    """A number of things, or of bytes, in three digits: ``262 k``, ``1.05 MB``."""
    power = 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_UNITS[power]}{of}".strip()


def link(text: str, to: str) -> str:
    """A link; a bar in its text would end a table's cell."""
    return f"[{text.replace('|', '-')}]({to})"
