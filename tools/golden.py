"""What published weights make of a small real pair, stored in ``tests/golden``.

Tests and the check of the wheel hold results against the stored ones. This needs no more than the
package itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save

import fusionzoo
from fusionzoo.errors import InputError, MissingFileError
from fusionzoo.files import write_whole
from fusionzoo.models import MODELS, split_key
from fusionzoo.weights import fingerprint, packaged_folder

_TESTS = Path(__file__).resolve().parents[1] / "tests"
GOLDEN = _TESTS / "golden"
TOLERANCE = 1e-4

# A model is tried on what it is for.
PAIRS = {
    ("infrared", "visible"): ("evaluate_ir.png", "evaluate_vi.png"),
    ("functional", "MRI"): ("data_pet.png", "data_mri.png"),
}


def fused_by(key: str) -> torch.Tensor:
    """The result of published weights for their pair: float32 in [0, 1], ``(C, H, W)``."""
    modalities = MODELS[split_key(key)[0]].modalities_of(key)
    if modalities not in PAIRS:
        raise InputError(f"{key} fuses {' and '.join(modalities)}: add such a pair to PAIRS")
    ir, vi = (_image(_TESTS / "assets" / name) for name in PAIRS[modalities])
    return fusionzoo.load(key, device="cpu").fuse(ir, vi)


def made_with(key: str) -> str:
    """The fingerprint of published weights as they are now."""
    folder = packaged_folder(key)
    if folder is None:
        raise MissingFileError(f"the weights {key!r} are not here; install the package again")
    return fingerprint(folder)


def is_of_these_weights(key: str, folder: Path = GOLDEN) -> bool:
    """Whether a result is stored, and was made with the weights and options of today."""
    path = folder / f"{key}.safetensors"
    if not path.is_file():
        return False
    with safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("made_with") == made_with(key)


def problem(key: str, folder: Path = GOLDEN) -> str | None:
    """What is wrong with a stored result, if anything: missing, of other weights, or different."""
    if not is_of_these_weights(key, folder):
        return f"{key}: no golden output of these weights; store it with python tools/ship.py {key}"
    golden, fused = load_file(folder / f"{key}.safetensors")["fused"], fused_by(key)
    if fused.shape != golden.shape:
        return f"{key}: shape {tuple(fused.shape)}, golden output {tuple(golden.shape)}"
    difference = (fused - golden).abs().max().item()
    if not difference <= TOLERANCE:  # written so that NaN is a problem
        return f"{key}: the output differs from the golden one by up to {difference:.2g}"
    return None


def store(key: str, folder: Path = GOLDEN) -> Path:
    """Write a key's result; equal results give equal bytes."""
    content = save({"fused": fused_by(key).contiguous()}, metadata={"made_with": made_with(key)})
    folder.mkdir(exist_ok=True)
    path = folder / f"{key}.safetensors"
    write_whole(path, content)
    return path


def _image(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        values = np.array(image, dtype=np.float32) / 255
    return torch.from_numpy(values if values.ndim == 3 else values[..., None]).permute(2, 0, 1)
