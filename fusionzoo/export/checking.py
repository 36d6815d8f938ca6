"""The proof of an exported file: real pairs through it and through the network, in two processes.

The file runs in a process that has just started and has nothing of this one: what works only where
it was made does not pass.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fusionzoo.errors import ResultError
from fusionzoo.export.describing import ExportInfo
from fusionzoo.processes import ask, resident_memory

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

__all__ = ["Proof", "pairs_for", "prove"]

_PAIRS = Path(__file__).with_name("pairs")
# Images, height and width of the checks; none is what the tracer is given. Sizes are raised to
# what the network takes.
_SHAPES = ((1, 75, 101), (2, 120, 160), (3, 16, 40))

# Side of the image that tells the memory: large enough to stand out from what a runtime has anyway.
_MEMORY_SIDE = 320


class Proof(NamedTuple):
    """What running an exported file has shown.

    Attributes:
        difference: from the network at most, for images in [0, 1]; NaN where either gave that.
        bytes_per_pixel: memory that the file took; None where the system does not tell.
    """

    difference: float
    bytes_per_pixel: float | None


def prove(file: Path, info: ExportInfo, network: nn.Module) -> Proof:
    """Run an exported file on real pairs in a fresh process, and the network here.

    Args:
        file: the exported file.
        info: what it takes.
        network: which it was exported from; it is asked in eval mode, as ``model.fuse`` does.

    Raises:
        ResultError: the file does not run, or gives images of another size.
    """
    import numpy as np
    import torch

    from fusionzoo.network import ready_copy

    low, high = info.value_range
    ready = ready_copy(network, torch.device("cpu"), torch.float32)
    differences = [0.0]
    with tempfile.TemporaryDirectory() as folder:
        pairs = pairs_for(info)
        arrays: dict[str, Any] = {
            f"{n}{side}": x for n, pair in enumerate(pairs) for side, x in enumerate(pair)
        }
        np.savez(Path(folder, "pairs.npz"), **arrays)
        side = _raised(_MEMORY_SIDE, info)
        question = {"file": str(file.absolute()), "folder": folder}
        memory: float | None = ask(
            __name__, "run_pairs", {**question, "size": info.size or (side, side)},
            failure="the exported file does not run in a fresh process",
        )  # fmt: skip
        with np.load(Path(folder, "fused.npz"), allow_pickle=False) as found:
            for number, pair in enumerate(pairs):
                with torch.inference_mode():
                    wanted = ready(*map(torch.from_numpy, pair)).numpy()
                fused = found[str(number)]
                if fused.shape != wanted.shape:
                    raise ResultError(
                        f"the exported file gives {fused.shape} where the network gives "
                        f"{wanted.shape}"
                    )
                differences.append(float(np.abs(fused - wanted).max() / (high - low)))
    return Proof(float(np.max(differences)), memory)  # unlike max, this keeps NaN


def pairs_for(info: ExportInfo) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of real pairs, float32 ``(B, 1, H, W)`` in the value range, in sizes of all kinds.

    Images of a batch are the pair, upright and mirrored. Where the file takes one size only, the
    pair is scaled to it.
    """
    import numpy as np

    names = ("functional", "mri") if info.color_from == "ir" else ("infrared", "visible")
    low, high = info.value_range
    batches = []
    for count, *size in _SHAPES if info.size is None else _fixed(info.size):
        height, width = (_raised(side, info) for side in size) if info.size is None else size
        images = []
        for name in names:
            image = _image(name, height, width)
            views = [image, image[:, ::-1], image[::-1]]
            batch = np.stack([views[number % 3] for number in range(count)])[:, None]
            images.append((batch * (high - low) + low).astype(np.float32))
        batches.append((images[0], images[1]))
    return batches


def _fixed(size: tuple[int, int]) -> list[tuple[int, int, int]]:
    return [(count, *size[::-1]) for count in (1, 2)]


def _raised(side: int, info: ExportInfo) -> int:
    return -(-max(side, info.min_size) // info.size_multiple) * info.size_multiple


def _image(name: str, height: int, width: int) -> np.ndarray:
    """A grey image in [0, 1] of a size: cut from the middle, or scaled where it is too small."""
    import numpy as np
    from PIL import Image

    with Image.open(_PAIRS / f"{name}.png") as file:
        image = file.convert("L")
    if height > image.height or width > image.width:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    cut = image.crop((left, top, left + width, top + height))
    return np.asarray(cut, np.float32) / 255


# In the fresh process -----------------------------------------------------------------------------


def run_pairs(file: str, folder: str, size: Sequence[int]) -> float | None:
    """Fuse the pairs of ``pairs.npz`` in a folder by an exported file, into ``fused.npz``.

    Returns the bytes by pixel that an image of ``size`` (width, height) takes, where that is known.
    """
    import numpy as np

    from fusionzoo.export.running import open_exported

    run: Callable[..., np.ndarray] = open_exported(file).run
    width, height = size
    sample = np.zeros((1, 1, height, width), np.float32)
    before = resident_memory(peak=False)
    run(sample, sample)  # the first: runtimes keep memory for the next
    after = resident_memory()
    taken = None if before is None or after is None else (after - before) / (width * height)
    with np.load(Path(folder, "pairs.npz"), allow_pickle=False) as pairs:
        results: dict[str, Any] = {
            str(number): run(pairs[f"{number}0"], pairs[f"{number}1"])
            for number in range(len(pairs.files) // 2)
        }
    np.savez(Path(folder, "fused.npz"), **results)
    return taken if taken is None else max(round(taken), 1)
