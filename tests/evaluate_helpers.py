"""Small real pairs, and fused images of them, for the tests of evaluation and results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import fusionzoo
from fusionzoo.evaluation import Evaluation, Scores

ASSETS = Path(__file__).resolve().parent / "assets"
NAMES = ("a", "b", "night/c")


def crop(side: str, number: int = 0, size: tuple[int, int] = (56, 64)) -> np.ndarray:
    """A window of one real pair, another one for each number."""
    with Image.open(ASSETS / f"evaluate_{side}.png") as image:
        pixels = np.asarray(image)
    top, left = 13 * number, 17 * number
    return np.ascontiguousarray(pixels[top : top + size[0], left : left + size[1]])


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def sources(root: Path, names: tuple[str, ...] = NAMES) -> tuple[Path, Path]:
    """Folders ``root/ir`` and ``root/vi``."""
    for number, name in enumerate(names):
        for side in ("ir", "vi"):
            save(root / side / f"{name}.png", crop(side, number))
    return root / "ir", root / "vi"


def blend(share: float, number: int = 0) -> np.ndarray:
    """A fused image: so much of infrared, and the rest of visible."""
    mixed = share * crop("ir", number) + (1 - share) * crop("vi", number)
    return np.rint(mixed).astype(np.uint8)


def fused(folder: Path, share: float, names: tuple[str, ...] = NAMES, ending: str = "png") -> Path:
    """A folder of fused images."""
    for number, name in enumerate(names):
        save(folder / f"{name}.{ending}", blend(share, number))
    return folder


def small_model(**options):
    """A DIDFuse with few channels, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return fusionzoo.create_model("didfuse", channels=4, **options).eval()


def made_up(values: dict[str, dict[str, list[float]]], **directions: bool | None) -> Evaluation:
    """An evaluation of these values: ``{method: {metric: [one of each image]}}``."""
    scores = []
    for name, metrics in values.items():
        count = len(next(iter(metrics.values())))
        images = {
            f"image {n}": {metric: column[n] for metric, column in metrics.items()}
            for n in range(count)
        }
        scores.append(Scores(name, f"folder/{name}", images))
    return Evaluation("cddfuse", directions, False, tuple(scores))
