"""Small real pairs and a small model for the tests of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import fusionzoo

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "tests" / "assets"


def asset(name: str) -> np.ndarray:
    with Image.open(ASSETS / f"cli_{name}.png") as image:
        return np.asarray(image)


def pairs_folder(root: Path, names: list[str], color: bool = True, size: int = 40) -> Path:
    """Pairs ``root/ir`` and ``root/vi``, all different: windows of one real pair."""
    ir, vi = asset("ir"), asset("vi")
    for number, name in enumerate(names):
        window = np.s_[2 * number : 2 * number + size, 3 * number : 3 * number + size + 4]
        for side, pixels in (("ir", ir[window]), ("vi", vi[window])):
            path = root / side / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.ascontiguousarray(pixels))
            (image if color else image.convert("L")).save(path)
    return root


def small_model(folder: Path) -> Path:
    """A model folder of a DIDFuse with few channels; its weights are drawn, and always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return fusionzoo.create_model("didfuse", channels=4).save_pretrained(folder)


def files_of(folder: Path) -> set[str]:
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def one_thread() -> Iterator[None]:
    """For small images: more threads gain nothing, and lose much where other processes run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment() -> dict[str, str]:
    """For Python processes that a test starts: the checkout, and arithmetic that repeats."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
