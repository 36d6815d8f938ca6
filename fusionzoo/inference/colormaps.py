"""Pseudo-colour: grey values in one of matplotlib's colormaps."""

from __future__ import annotations

import numpy as np

from fusionzoo.errors import InputError, did_you_mean
from fusionzoo.readers.table import needed

__all__ = ["colors_of", "shown_in"]

_COUNT = 256


def colors_of(name: str) -> np.ndarray:
    """Return the colours of a colormap of matplotlib, uint8 ``(256, 3)``, from black's to white's.

    Raises:
        InputError: there is no such map, or matplotlib is not installed.
    """
    needed("matplotlib", "plot", f"colormap={name!r} is one of matplotlib's")
    from matplotlib import colormaps

    if name not in colormaps:
        hint = did_you_mean(str(name), colormaps, 2)
        raise InputError(f"there is no colormap {name!r}; {hint or 'use hot, inferno or jet'}")
    levels: np.ndarray = colormaps[name](np.linspace(0, 1, _COUNT), bytes=True)
    return levels[:, :3]


def shown_in(colors: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return grey ``(H, W)`` in [0, 1] as uint8 ``(H, W, 3)``."""
    shown: np.ndarray = colors[np.rint(unit * (len(colors) - 1)).astype(np.intp)]
    return shown
