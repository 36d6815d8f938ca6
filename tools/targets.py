"""How much of warm targets' contrast fused images keep, for any published weights.

    python tools/targets.py KEY ... --data DIR [--pairs N]

``fusionzoo.data.target_mask`` marks the warm targets of an infrared image. The contrast of an image
is its mean over the targets less its mean over a ring around them; what a fused image keeps is its
contrast as a share of that in infrared: 1 is all, 0 is nothing, below 0 a white person came out
darker than the surroundings. Pairs without targets, or whose targets stand out by less than 0.1 of
the range, do not count. Prints a Markdown table: mean over pairs, and the worst pair.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import fusionzoo
from fusionzoo.data import PairDataset, find_pairs, target_mask

SETS = ("llvip", "msrs", "roadscene")
GAP, RING = 2, 12  # pixels between target and ring, and to the ring's outer edge
LEAST = 0.1


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("keys", nargs="+", metavar="KEY")
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets' folders")
    parser.add_argument("--pairs", type=int, help="so many pairs of each set; default: all")
    args = parser.parse_args()
    models = {key: fusionzoo.load(key) for key in args.keys}
    print("| model | " + " | ".join(f"{name}, mean | worst" for name in SETS) + " |")
    print("| --- |" + " ---: |" * 2 * len(SETS))
    kept: dict[str, list[str]] = {key: [] for key in models}
    for name in SETS:
        pairs = find_pairs(args.data / name / "test")
        step = max(1, len(pairs) // (args.pairs or len(pairs)))
        samples = PairDataset(pairs[::step])
        shares: dict[str, list[float]] = {key: [] for key in models}
        for number in range(len(samples)):
            ir, vi = samples[number]["ir"], samples[number]["vi"]
            target = target_mask(ir, "saliency")
            if contrast(ir, target) < LEAST:
                continue
            for key, model in models.items():
                fused = model.fuse(ir, vi, ir_range=(0, 1), vi_range=(0, 1))
                shares[key].append(contrast(fused, target) / contrast(ir, target))
        for key, values in shares.items():
            mean = sum(values) / len(values)
            kept[key].append(f"{mean:.3f} ({len(values)} pairs) | {min(values):.2f}")
    for key, cells in kept.items():
        print(f"| {key} | " + " | ".join(cells) + " |")


def contrast(image: Tensor, target: Tensor) -> float:
    """Mean over the targets less the mean over the ring; 0 where there are none."""
    ring = _wider(target, RING) & ~_wider(target, GAP)
    if not target.any() or not ring.any():
        return 0.0
    return (image[target].mean() - image[ring].mean()).item()


def _wider(mask: Tensor, pixels: int) -> Tensor:
    return F.max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)[0] > 0


if __name__ == "__main__":
    with torch.inference_mode():
        main()
