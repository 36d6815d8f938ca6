"""What is measured: where the fused image of a pair comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusionzoo.data.decoding import Loaded
from fusionzoo.errors import InputError, MissingFileError
from fusionzoo.inference import normalise, read_image
from fusionzoo.inference.ranges import to_unit
from fusionzoo.inference.sources import read_source
from fusionzoo.pairing import Pair, find_images, folder_of
from fusionzoo.readers import open_image

_SIXTEEN_BIT = (0.0, 65535.0)


@dataclass(frozen=True)
class Method:
    """One column of a comparison.

    Attributes:
        name: what the column is called.
        source: folder or model, for the record.
        fuse: gives the fused image ``(C, H, W)`` of a pair, uint8 or floats in [0, 1].
        eight_bit: floats are rounded to 8 bits before they are measured.
        files: fused images by the names of their pairs; None where there is one for every pair.
        problems: lines about files that were passed over.
    """

    name: str
    source: str
    fuse: Callable[[Pair, Loaded], Tensor]
    eight_bit: bool = False
    files: Mapping[str, Path] | None = field(default=None, repr=False)
    problems: tuple[str, ...] = ()

    def has(self, pair: Pair) -> bool:
        """Whether there is a fused image of this pair."""
        return self.files is None or pair.name in self.files


def fused_by(name: str, model: Any, *, color: bool = False, source: str | None = None) -> Method:
    """Fuse on the fly, as the published protocols have it: in grey, rounded to 8 bits.

    Args:
        name: of the column.
        model: has ``fuse(ir, vi, color=...)``, as every model of this package.
        color: fuse in colour; protocols that work on grey images convert the result.
        source: what the model was loaded from, for the record.
    """

    def fuse(pair: Pair, loaded: Loaded) -> Tensor:
        fused: Tensor = model.fuse(normalise(loaded.ir), normalise(loaded.vi), color=color)
        return fused

    return Method(name, name if source is None else source, fuse, eight_bit=True)


def fused_folder(name: str, folder: str | os.PathLike[str]) -> Method:
    """Fused images in a folder, called like their sources, whatever the ending.

    8-bit images are measured as they are. Deeper ones have the range of a visible image of the
    same kind, which is what ``fusionzoo fuse`` gives them; else 16 bits mean 0 ... 65535, and
    floats lie in [0, 1].

    Args:
        name: of the column.
        folder: the folder or its URL, or a pattern with one ``*`` in place of the pair's name.

    Raises:
        MissingFileError: there is no such folder.
        InputError: it holds no images.
    """
    if not folder_of(folder).is_dir():
        raise MissingFileError(f"{folder}: no such folder of fused images; check the path")
    files, problems = find_images(folder)
    if not files:
        raise InputError("\n  ".join([f"{folder}: holds no images", *map(str, problems)]))

    def fuse(pair: Pair, loaded: Loaded) -> Tensor:
        return _read_fused(files[pair.name], pair.vi)

    return Method(name, os.fspath(folder), fuse, files=files, problems=tuple(map(str, problems)))


def _read_fused(path: Path, visible: Path) -> Tensor:
    """A fused file as ``(1|3, H, W)``, uint8 or floats in [0, 1]; three equal channels stay."""
    array = read_image(path)
    if array.dtype == "uint8":
        planes = torch.from_numpy(array)
        return planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
    raw = open_image(visible)
    if raw.values.dtype == array.dtype:
        source = read_source(raw, str(visible))
        limits = to_unit(source.colors, source.limits, str(visible))[1][0]
        return normalise(array, limits, name=str(path))
    if array.dtype == "uint16":
        return normalise(array, _SIXTEEN_BIT, name=str(path))
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        return normalise(array, name=str(path))
    raise InputError(
        f"{path} is {array.dtype} from {array.min():g} to {array.max():g}, and {visible} is "
        f"{raw.values.dtype}: which values are black and white is not known; save it with 8 bits"
    )
