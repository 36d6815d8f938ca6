"""Fuse PET with MRI and CT with MRI; the result keeps the colour of the PET image."""

from pathlib import Path

import fusionzoo

here = Path(__file__).parent
for key in fusionzoo.list_models("*.medical", pretrained=True):
    model = fusionzoo.load(key)
    for functional in ("pet", "ct"):
        fused = model.fuse(here / f"{functional}.png", here / f"{functional}_mri.png")
        out = Path(f"{functional}_{key}.png")
        fused.save(out)
        print(f"{out}: {fused.width} x {fused.height}, {fused.mode}")
