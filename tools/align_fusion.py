"""What misalignment costs a fused image, and what alignment wins back, in VIF and Qabf.

    python tools/align_fusion.py DATA [--model lapnet] [--pairs 6] [--width 320]

DATA holds roadscene/test/ir, roadscene/test/vi, and so on. Each infrared image is warped by known
transforms of three strengths, as in tools/align_bench.py. Four images are fused: the pair as it is,
the pair with ``align=True``, the warped pair, and the warped pair with ``align=True``. All four are
measured against the images as they are, in the rectangle that the warped image shows, by protocol
``cddfuse``. A pair whose alignment is refused counts as fused without it. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from align_bench import SETS, STRENGTHS, grey_pair, known_transform, spread_over

import fusionzoo
from fusionzoo.alignment import Alignment, AlignmentError
from fusionzoo.alignment.warping import warped
from fusionzoo.metrics import per_image
from fusionzoo.module import FusionModule

METRICS = ("VIF", "Qabf")
CASES = ("as it is", "as it is, aligned", "warped", "warped, aligned")
#: Case -> metric -> value, and how many alignments were refused.
Row = dict[str, dict[str, float]]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="lapnet")
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, help="of each set, spread over it; all by default")
    parser.add_argument("--width", type=int, default=320, help="0 keeps the full size")
    args = parser.parse_args()
    model = fusionzoo.load(args.model)
    rows: dict[str, list[Row]] = {strength: [] for strength in STRENGTHS}
    for name in SETS:
        for path in spread_over(args.data / name / args.split / "ir", args.pairs):
            ir, vi = grey_pair(path, args.width)
            for strength, row in rows_of(model, ir, vi, f"{path.stem}/{{}}/{args.width}"):
                rows[strength].append(row)
    print(table(rows))


def rows_of(
    model: FusionModule, ir: np.ndarray, vi: np.ndarray, seed: str
) -> Iterator[tuple[str, Row]]:
    """Measure one pair at each strength."""
    plain = model.fuse(ir, vi)
    itself = aligned(model, ir, vi, plain)
    for strength in STRENGTHS:
        transform = known_transform(strength, *ir.shape, seed.format(strength))
        moved = warped(torch.from_numpy(ir.copy())[None], transform, ir.shape)[0].numpy()
        truth = Alignment(torch.linalg.inv(transform).numpy(), ir.shape, vi.shape)
        off = model.fuse(moved, vi)
        images = (plain, itself, off, aligned(model, moved, vi, off))
        yield (
            strength,
            {
                case: measured(truth.crop(fused), truth.crop(ir), truth.crop(vi))
                for case, fused in zip(CASES, images, strict=True)
            },
        )


def aligned(model: FusionModule, ir: np.ndarray, vi: np.ndarray, instead: np.ndarray) -> np.ndarray:
    """Fuse with ``align=True``; where that is refused, return ``instead``."""
    try:
        fused: np.ndarray = model.fuse(ir, vi, align=True)
    except AlignmentError:
        return instead
    return fused


def measured(fused: np.ndarray, ir: np.ndarray, vi: np.ndarray) -> dict[str, float]:
    """Measure one fused image against its sources."""
    images = (torch.from_numpy(image.copy())[None, None] / 255 for image in (fused, ir, vi))
    return {name: float(value) for name, value in per_image("cddfuse", METRICS, *images).items()}


def table(rows: dict[str, list[Row]]) -> str:
    """Return the means by strength, and which share of the loss is won back, in Markdown."""
    lines = [
        "| strength | n | metric | " + " | ".join(CASES) + " | won back |",
        "|---|---:|---|" + "---:|" * (len(CASES) + 1),
    ]
    for strength, some in rows.items():
        for metric in METRICS:
            means = [float(np.mean([row[case][metric] for row in some])) for case in CASES]
            good, _, off, back = means
            cells = [strength, str(len(some)), metric, *(f"{mean:.4f}" for mean in means)]
            lines.append("| " + " | ".join([*cells, f"{(back - off) / (good - off):.0%}"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
