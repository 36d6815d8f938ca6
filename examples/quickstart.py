"""Load a trained model, fuse the example pair, measure the result."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import fusionzoo
from fusionzoo.metrics import per_image

here = Path(__file__).parent
model = fusionzoo.load("didfuse")

# Whatever comes in as visible comes back: here a path, so a PIL image.
fused = model.fuse(here / "ir.png", here / "vi.png")
fused.save("fused.png")
print(f"fused.png: {fused.width} x {fused.height}, {fused.mode}")

# Metrics are only comparable under a named protocol; published tables use grey 8-bit images.
grey = model.fuse(here / "ir.png", here / "vi.png", color=False)


def tensor(image):
    return torch.from_numpy(np.array(image.convert("L")))[None, None]


values = per_image(
    "cddfuse",
    ["EN", "SD", "SF", "VIF", "Qabf", "SSIM"],
    tensor(grey),
    tensor(Image.open(here / "ir.png")),
    tensor(Image.open(here / "vi.png")),
)
for name, value in values.items():
    print(f"{name:5} {value.item():.4f}")
