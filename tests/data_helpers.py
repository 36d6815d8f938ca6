"""Folders of real pairs for the tests of `fusionzoo.data`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

ASSETS = Path(__file__).parent / "assets"


def asset(name: str) -> np.ndarray:
    with Image.open(ASSETS / f"data_{name}") as image:
        return np.asarray(image)


def write(path: Path, array: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def real_pairs(root: Path, count: int, size: int = 40, color: bool = False) -> Path:
    """`count` pairs, all different: windows of one real pair."""
    ir, vi = ("road_ir.jpg", "road_vi.jpg") if color else ("tno_ir.png", "tno_vi.png")
    ir, vi = asset(ir), asset(vi)
    for number in range(count):
        top, left = 3 * number % (80 - size), 5 * number % (96 - size)
        window = np.s_[top : top + size, left : left + size]
        write(root / "ir" / f"{number:02}.png", ir[window])
        write(root / "vi" / f"{number:02}.png", vi[window])
    return root


def environment_with_package() -> dict[str, str]:
    """For Python processes that a test starts: they import the checkout wherever they run."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
