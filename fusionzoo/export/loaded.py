"""An exported file as a model: the same ``fuse``, by another runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusionzoo.errors import InputError
from fusionzoo.export.describing import ExportInfo
from fusionzoo.export.formats import FORMATS
from fusionzoo.export.running import Exported, open_exported
from fusionzoo.inference import check_options, fuse_images
from fusionzoo.video import fuse_stream

__all__ = ["ExportedModel", "load_exported"]


class ExportedModel:
    """What :func:`fusionzoo.load` makes of a ``.onnx`` or ``.xml``: it fuses, and no more.

    Attributes:
        name: of the model that was exported.
        modalities: what goes where in ``fuse(first, second)``.
        color_from: which of the two gives the result its colour, ``"ir"`` or ``"vi"``.
        info: all that the file says of itself.
    """

    def __init__(self, exported: Exported) -> None:
        self.info: ExportInfo = exported.info
        self.name = self.info.name
        self.modalities = self.info.modalities
        self.color_from = self.info.color_from
        self._run = exported.run

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __call__(self, ir: Tensor, vi: Tensor) -> Tensor:
        """The bare network on float32 tensors ``(B, 1, H, W)`` in its own value range.

        Raises:
            InputError: the file takes images of one size only, and these have another.
        """
        size = self.info.size
        if size is not None and tuple(vi.shape[-2:]) != size[::-1]:
            raise InputError(
                f"this exported {self.name} takes images of {size[0]} x {size[1]} (width x "
                f"height) only, not {vi.shape[-1]} x {vi.shape[-2]}; scale them, or export it "
                "without --size"
            )
        arrays = (image.detach().float().cpu().contiguous().numpy() for image in (ir, vi))
        # A runtime may give memory of its own, which is not to be written to.
        return torch.from_numpy(self._run(*arrays).copy())

    def fuse(self, ir: Any, vi: Any, **options: Any) -> Any:
        """Fuse as :meth:`fusionzoo.module.FusionModule.fuse` does, with the same options.

        The runtime computes on the CPU in float32, so ``device`` and ``dtype`` can be nothing
        else, and ``grad`` is False.

        Raises:
            InputError, InputTypeError, MissingFileError, FileError, OutOfMemoryError: as there.
        """
        device, dtype = options.pop("device", None), options.pop("dtype", torch.float32)
        grad = options.pop("grad", False)
        check_options(device=device, dtype=dtype, grad=grad)
        if grad:
            raise InputError("grad=True: an exported network keeps no gradients; load the model")
        return self.prepared(device=device, dtype=dtype)(ir, vi, **options)

    def prepared(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> Callable[..., Any]:
        """Return a function that fuses as :meth:`fuse` does; it is here for loops, as there.

        Raises:
            InputError: another device than the CPU, or another dtype than float32.
        """
        check_options(device=device, dtype=dtype)
        if device is not None and torch.device(device).type != "cpu":
            raise InputError(f"device={str(device)!r}: exported networks run on the CPU here")
        if dtype != torch.float32:
            raise InputError(f"dtype={dtype}: exported networks compute in torch.float32")
        return partial(
            fuse_images,
            self,
            color_from=self.color_from,
            device="cpu",
            value_range=self.info.value_range,
            size_multiple=self.info.size_multiple,
            min_size=self.info.min_size,
            bytes_per_pixel=self.info.bytes_per_pixel,
            reach=self.info.reach,
            tile="auto" if self.info.size is None else "off",
        )

    def stream(
        self, pairs: Iterable[tuple[Any, Any]], **options: Any
    ) -> Generator[Any, None, None]:
        """Fuse pairs as they come, as :meth:`fusionzoo.module.FusionModule.stream` does."""
        how = {name: options.pop(name) for name in ("device", "dtype") if name in options}
        return fuse_stream(self.prepared(**how), pairs, **options)


def load_exported(path: str | os.PathLike[str]) -> ExportedModel:
    """Load a ``.onnx`` or ``.xml`` that :func:`fusionzoo.export.export_model` wrote.

    It runs with as many threads as torch has at this moment (``torch.set_num_threads``).

    Raises:
        InputError: a ``.pt2``, which may hold code; a file that is damaged or not of this
            package; or its runtime is not installed.
        MissingFileError, FileError: it is not there, or cannot be read.
    """
    if Path(path).suffix.lower() == ".pt2":
        able = " or ".join(ending for ending in FORMATS if ending != ".pt2")
        raise InputError(
            f"{path}: torch can run code from a .pt2 when it opens one, so this does not; export "
            f"{able}, or open a file that you trust with torch.export.load"
        )
    return ExportedModel(open_exported(path, threads=torch.get_num_threads()))
