"""Small real pairs and a small model for the tests of the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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


def run_cli(
    *arguments: object, locked_out: bool = False, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``fusionzoo`` in a process of its own.

    With ``locked_out`` permissions count even if the tests run as root, who may open everything.
    """
    command = [sys.executable, "-m", "fusionzoo", *map(str, arguments)]
    if locked_out and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may open everything, and there is no setpriv to forbid it")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    env = {**environment(), **settings.pop("env", {})}
    return subprocess.run(command, text=True, env=env, check=False, **settings)


def environment() -> dict[str, str]:
    """For Python processes that a test starts: the checkout, and arithmetic that repeats."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
