"""What published weights make of a small real pair, stored: ``python tests/golden_outputs.py KEY``.

Run it when weights or options of KEY have changed on purpose; tests and the check of the wheel hold
results against the stored ones. It needs no more than the package itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save

import fusionzoo
from fusionzoo.models import MODELS
from fusionzoo.weights import fingerprint, packaged_folder
from fusionzoo.weights.writing import write_atomically

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden"
TOLERANCE = 1e-4

# A model is tried on what it is for.
PAIRS = {
    ("infrared", "visible"): ("evaluate_ir.png", "evaluate_vi.png"),
    ("functional", "MRI"): ("data_pet.png", "data_mri.png"),
}


def fused_by(key: str) -> torch.Tensor:
    """The result of published weights for their pair: float32 in [0, 1], ``(C, H, W)``."""
    modalities = MODELS[key.partition(".")[0]].modalities_of(key)
    if modalities not in PAIRS:
        raise ValueError(f"{key} fuses {' and '.join(modalities)}: add such a pair to PAIRS")
    ir, vi = (_image(HERE / "assets" / name) for name in PAIRS[modalities])
    return fusionzoo.load(key, device="cpu").fuse(ir, vi)


def made_with(key: str) -> str:
    """The fingerprint of published weights as they are now."""
    folder = packaged_folder(key)
    if folder is None:
        raise FileNotFoundError(f"the weights {key!r} are not here; install the package again")
    return fingerprint(folder)


def problem(key: str, folder: Path = GOLDEN) -> str | None:
    """What is wrong with a stored result, if anything: missing, of other weights, or different."""
    path, remedy = folder / f"{key}.safetensors", f"python tests/golden_outputs.py {key}"
    if not path.is_file():
        return f"{key} has no golden output; store it with {remedy}"
    with safe_open(path, framework="pt") as file:
        golden, stored_with = file.get_tensor("fused"), (file.metadata() or {}).get("made_with")
    if stored_with != made_with(key):
        return f"{key}: golden output of other weights or options; regenerate with {remedy}"
    fused = fused_by(key)
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
    write_atomically(path, content)
    return path


def _image(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        values = np.array(image, dtype=np.float32) / 255
    return torch.from_numpy(values if values.ndim == 3 else values[..., None]).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tests/golden_outputs.py",
        description="Store what published weights make of a small pair, where that has changed.",
    )
    keys = fusionzoo.list_models(pretrained=True)
    parser.add_argument("keys", nargs="*", metavar="KEY", help="default: all")
    for key in parser.parse_args().keys or keys:
        if key not in keys:
            parser.error(f"there are no published weights {key!r}; there are {', '.join(keys)}")
        reason = problem(key)
        print(f"{key}: up to date" if reason is None else f"{reason}: wrote {store(key)}")


if __name__ == "__main__":
    main()
