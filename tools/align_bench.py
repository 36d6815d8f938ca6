"""Measure alignment: ``python tools/align_bench.py DATA -o docs/alignment.csv [--pairs 6]``.

DATA holds roadscene/test/ir, roadscene/test/vi, and so on. Infrared images of pairs are warped by
known transforms of three strengths; the error is the mean distance of the four corners from where
they belong. Data sets are misregistered themselves, so each error is given twice: against the known
transform, and against the estimate on the pair as it is. Beside it: OpenCV's ECC and phase
correlation. Prints a table in Markdown; a row an estimate goes to the CSV file.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fusionzoo.alignment import LEAST_CONFIDENCE, align
from fusionzoo.alignment.geometry import corner_distance, corners, shift, turn_about
from fusionzoo.alignment.points import fit_points
from fusionzoo.alignment.warping import warped
from fusionzoo.files import write_whole

SETS = ("roadscene", "tno", "msrs", "llvip")
#: Shift in pixels, rotation in degrees, scale, and perspective as a part of the width.
STRENGTHS = {
    "easy": (8, 1, 0.02, 0.0),
    "medium": (20, 4, 0.06, 0.0),
    "hard": (40, 8, 0.12, 0.05),
}
FIELDS = ("set", "pair", "width", "method", "strength", "error", "own", "confidence", "seconds")
Row = dict[str, object]


def ours(ir: np.ndarray, vi: np.ndarray) -> tuple[torch.Tensor, float]:
    """Return the transform from infrared to visible pixels, and its confidence."""
    found = align(ir, vi, force=True)
    return torch.from_numpy(found.transform.copy()), found.confidence


def ecc(motion: str) -> Callable[[np.ndarray, np.ndarray], tuple[torch.Tensor, float]]:
    """Return OpenCV's ECC on gradient magnitudes, over a pyramid of three levels."""
    import cv2

    kind = {"affine": cv2.MOTION_AFFINE, "homography": cv2.MOTION_HOMOGRAPHY}[motion]

    def run(ir: np.ndarray, vi: np.ndarray) -> tuple[torch.Tensor, float]:
        back = np.eye(3, dtype=np.float32)  # from visible to infrared pixels
        for level in (4, 2, 1):
            small = [
                _edges(cv2.resize(image, None, fx=1 / level, fy=1 / level)) for image in (vi, ir)
            ]
            scale = np.diag([1 / level, 1 / level, 1.0])
            start = (scale @ back @ np.linalg.inv(scale)).astype(np.float32)
            start = start if motion == "homography" else start[:2]
            until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
            try:
                _, found = cv2.findTransformECC(*small, start, kind, until, None, 5)
            except cv2.error:  # it does not converge
                return torch.eye(3, dtype=torch.float64), 0.0
            full = found if motion == "homography" else np.vstack([found, [0, 0, 1]])
            back = np.linalg.inv(scale) @ full @ scale
        return torch.from_numpy(np.linalg.inv(back.astype(np.float64))), 1.0

    return run


def phase(ir: np.ndarray, vi: np.ndarray) -> tuple[torch.Tensor, float]:
    """Return OpenCV's phase correlation of gradient magnitudes: a shift."""
    import cv2

    (x, y), _ = cv2.phaseCorrelate(_edges(ir), _edges(vi))
    return shift(x, y), 1.0


def _edges(image: np.ndarray) -> np.ndarray:
    import cv2

    grey = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    return cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))


def known_transform(strength: str, height: int, width: int, seed: str) -> torch.Tensor:
    """Return a random transform of a strength; the same seed gives the same one."""
    most_shift, degrees, scale, perspective = STRENGTHS[strength]
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    turn = turn_about(
        ((width - 1) / 2, (height - 1) / 2),
        rng.uniform(-degrees, degrees),
        1 + rng.uniform(-scale, scale),
    )
    transform = shift(*rng.uniform(-most_shift, most_shift, 2)) @ turn
    if not perspective:
        return transform
    points = corners((height, width))
    bent = rng.uniform(-1, 1, (4, 2)) * perspective * width
    moved = torch.cat([points, torch.ones(4, 1, dtype=torch.float64)], 1) @ transform.T
    goals = moved[:, :2].numpy() + bent
    size = (height, width)
    return torch.from_numpy(fit_points(points.numpy(), goals, size, size).transform.copy())


def rows_of(path: Path, name: str, width: int, methods: dict[str, Callable]) -> Iterator[Row]:
    """Measure one pair."""
    ir, vi = grey_pair(path, width)
    size = ir.shape
    for method, run in methods.items():
        own, _ = run(ir, vi)
        for strength in STRENGTHS:
            transform = known_transform(strength, *size, f"{path.stem}/{strength}/{width}")
            moved = warped(torch.from_numpy(ir)[None], transform, size)[0].numpy()
            start = time.perf_counter()
            found, confidence = run(moved, vi)
            seconds = time.perf_counter() - start
            truth = torch.linalg.inv(transform)
            yield {
                "set": name, "pair": path.stem, "width": width or size[1], "method": method,
                "strength": strength, "confidence": round(confidence, 3),
                "error": round(corner_distance(found, truth, size), 3),
                "own": round(corner_distance(found, own @ truth, size), 3),
                "seconds": round(seconds, 2),
            }  # fmt: skip


def spread_over(folder: Path, pairs: int | None) -> list[Path]:
    """Return so many images of a folder, at equal distances; all for None."""
    paths = sorted(folder.glob("*"))
    return paths[:: max(1, len(paths) // pairs)][:pairs] if pairs else paths


def grey_pair(path: Path, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an infrared image and its visible one, as uint8 ``(H, W)``; width 0 keeps the size."""
    return _grey(path, width), _grey(path.parents[1] / "vi" / path.name, width)


def _grey(path: Path, width: int) -> np.ndarray:
    image = Image.open(path).convert("L")
    if width:
        image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    return np.array(image)


def table(rows: list[Row]) -> str:
    """Return the shares, by method and strength, in Markdown."""
    lines = [
        "| method | strength | n | median px | < 2 px | < 5 px | against own: median | < 2 px | "
        "< 5 px | refused | wrong (> 10 px) though confident |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        for strength in STRENGTHS:
            some = [row for row in rows if (row["method"], row["strength"]) == (method, strength)]
            if not some:
                continue
            sure = np.array([float(row["confidence"]) >= LEAST_CONFIDENCE for row in some])
            cells = [str(method), strength, str(len(some))]
            for kind in ("error", "own"):
                errors = np.array([float(row[kind]) for row in some])
                errors = np.where(np.isfinite(errors), errors, math.inf)
                cells.append(f"{np.median(errors):.2f}")
                cells += [f"{np.mean(sure & (errors < most)):.0%}" for most in (2, 5)]
            errors = np.array([float(row["error"]) for row in some])
            cells += [f"{np.mean(~sure):.0%}", f"{np.mean(sure & ~(errors <= 10)):.0%}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the CSV file")
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, help="of each set, spread over it; all by default")
    parser.add_argument("--width", type=int, default=320, help="0 keeps the full size")
    parser.add_argument("--no-opencv", action="store_true")
    args = parser.parse_args()
    methods: dict[str, Callable] = {"fusionzoo": ours}
    if not args.no_opencv:
        methods |= {
            "ECC affine": ecc("affine"),
            "ECC homography": ecc("homography"),
            "phase correlation": phase,
        }
    rows: list[Row] = []
    for name in SETS:
        for path in spread_over(args.data / name / args.split / "ir", args.pairs):
            rows += rows_of(path, name, args.width, methods)
            text = io.StringIO()
            writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_whole(args.output, text.getvalue().encode())
    print(table(rows))


if __name__ == "__main__":
    main()
