"""One fused image under every protocol, as a Markdown table.

    python -m fusionzoo.metrics.artefacts IR VI FUSED

Shows how far apart the printed values of one picture are; docs/metrics.md explains why.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fusionzoo.metrics import get_protocol, list_protocols, per_image


def _read(path: Path) -> Tensor:
    """Eight-bit image as (1,1,H,W) or (1,3,H,W) uint8; grey if its three channels are equal."""
    with Image.open(path) as image:
        pixels = np.array(image if image.mode == "L" else image.convert("RGB"))
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    tensor = torch.from_numpy(pixels)
    return tensor[None, None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)[None]


def table(fused: Tensor, ir: Tensor, vi: Tensor) -> str:
    """Markdown table of the usual columns of all protocols for one image.

    Args:
        fused: as in ``fusionzoo.metrics.per_image``, a batch of one.
        ir: the same.
        vi: the same.
    """
    protocols = [get_protocol(name) for name in list_protocols()]
    values = {p.name: per_image(p.name, None, fused, ir, vi) for p in protocols}
    # Only what at least two of them measure can be compared.
    names = [n for p in protocols for n in p.columns]
    names = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    lines = ["| metric | " + " | ".join(values) + " |", "| --- |" + " ---: |" * len(values)]
    for name in names:
        cells = (f"{v[name].item():.5g}" if name in v else "" for v in values.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: three image files."""
    parser = argparse.ArgumentParser(description="One fused image under every protocol.")
    for role in ("ir", "vi", "fused"):
        parser.add_argument(role, type=Path, help=f"{role} image file")
    paths = parser.parse_args(arguments)
    for path in (paths.ir, paths.vi, paths.fused):
        if not path.is_file():
            parser.error(f"{path} does not exist")
    print(table(_read(paths.fused), _read(paths.ir), _read(paths.vi)))


if __name__ == "__main__":
    main()
