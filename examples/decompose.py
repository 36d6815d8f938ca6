"""What IFESNet sees: its weight maps, and how well it rebuilds the sources.

    python examples/decompose.py ir.png vi.png --save maps.png
    python examples/decompose.py IR_FOLDER VI_FOLDER

prints the PSNR of the rebuilt sources in dB: of each pair, and the mean. The picture is infrared,
visible and fused, and below the weight of infrared, the weight of visible (white: 1 and more) and
the rebuilt visible image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import fusionzoo
from fusionzoo.inference import read_image, save_image, to_grey


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ir", type=Path, help="infrared image, or a folder of them")
    parser.add_argument("vi", type=Path, help="visible image, or a folder with the same names")
    parser.add_argument("--model", default="ifesnet", help="ifesnet (default) or ifesnet.hc")
    parser.add_argument("--save", type=Path, help="write the maps of the last pair here")
    args = parser.parse_args()
    pairs = [(args.ir, args.vi)]
    if args.ir.is_dir():
        pairs = [(path, args.vi / path.name) for path in sorted(args.ir.iterdir())]

    model = fusionzoo.load(args.model)
    found = []
    for ir_path, vi_path in pairs:
        maps = model.decompose(ir_path, vi_path)
        ir, vi = grey(ir_path), grey(vi_path)
        found.append((psnr(maps.ir, ir), psnr(maps.vi, vi)))
        print(f"{ir_path.stem}: infrared {found[-1][0]:.2f} dB, visible {found[-1][1]:.2f} dB")
    print("mean: infrared {:.2f} dB, visible {:.2f} dB".format(*torch.tensor(found).mean(0)))
    if args.save:
        sources = torch.cat([ir, vi, maps.fused], 3)
        weights = torch.cat([maps.weight_ir, maps.weight_vi, maps.vi], 3)
        save_image(args.save, torch.cat([sources, weights], 2)[0].clamp(0, 1))


def grey(path: Path) -> Tensor:
    """An 8-bit image as ``(1, 1, H, W)`` in [0, 1]."""
    image = torch.from_numpy(read_image(path)).float().div(255)
    return to_grey(image.permute(2, 0, 1)[None] if image.dim() == 3 else image[None, None])


def psnr(rebuilt: Tensor, source: Tensor) -> float:
    return -10 * (rebuilt - source).square().mean().log10().item()


if __name__ == "__main__":
    main()
