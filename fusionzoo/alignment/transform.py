"""Alignment: a transform from infrared to visible pixels, and what can be done with it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fusionzoo.alignment.geometry import MODELS, Size
from fusionzoo.alignment.warping import Interpolation, covered, warped
from fusionzoo.errors import FileError, InputError, InputTypeError, MissingFileError
from fusionzoo.files import write_whole
from fusionzoo.inference.sources import read_source
from fusionzoo.readers.content import FILE_KINDS
from fusionzoo.readers.reading import Reading

_FORMAT = "fusionzoo-alignment-1"
#: How far the soft edge reaches, as a part of the visible image's longer side.
_SOFT = 0.02


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the pixels of an infrared image lie in those of a visible one.

    Attributes:
        transform: float64 ``(3, 3)``: takes homogeneous infrared pixel coordinates (x, y, 1) to
            visible ones; the centre of the top left pixel is (0, 0).
        ir_size: height and width of the infrared image.
        vi_size: the same of the visible one.
        model: "translation", "similarity", "affine" or "homography": what the transform is.
        confidence: in [0, 1]: how probable it is that the transform is right.
        residual: what the patches of the images would still move, root mean square, in visible
            pixels; NaN where nobody measured it.
        pairs: how many pairs it was estimated from.
    """

    transform: np.ndarray
    ir_size: Size
    vi_size: Size
    model: str = "homography"
    confidence: float = 1.0
    residual: float = float("nan")
    pairs: int = 1
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: they are no alignment.
        """
        transform = np.array(self.transform, dtype=np.float64)
        if transform.shape != (3, 3) or not np.isfinite(transform).all():
            raise InputError("transform is 3 x 3 finite numbers; check where it comes from")
        if abs(np.linalg.det(transform)) < 1e-12:
            raise InputError("transform cannot be inverted; check where it comes from")
        for name in ("ir_size", "vi_size"):
            size = getattr(self, name)
            if len(size) != 2 or not all(side >= 1 for side in size):
                raise InputError(f"{name} is a height and a width, not {size!r}")
            object.__setattr__(self, name, (int(size[0]), int(size[1])))
        transform.setflags(write=False)
        object.__setattr__(self, "transform", transform)

    def __str__(self) -> str:
        """Say in one line what it is."""
        return (
            f"{self.model}, {self.ir_size[1]} x {self.ir_size[0]} into {self.vi_size[1]} x "
            f"{self.vi_size[0]}, corners move {self.corner_shift:.1f} px, confidence "
            f"{self.confidence:.2f}, residual {self.residual:.2f} px"
        )

    # -- what it tells -----------------------------------------------------------------------

    @property
    def corner_shift(self) -> float:
        """How far the infrared corners lie from the visible ones, on average, in visible pixels."""
        ends = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
        ir = ends * [self.ir_size[1] - 1, self.ir_size[0] - 1]
        vi = ends * [self.vi_size[1] - 1, self.vi_size[0] - 1]
        return float(np.linalg.norm(self.points(ir) - vi, axis=1).mean())

    def points(self, ir: np.ndarray) -> np.ndarray:
        """Return where infrared points ``(N, 2)``, x and y, lie in the visible image."""
        moved = np.concatenate([ir, np.ones((len(ir), 1))], 1) @ self.transform.T
        points: np.ndarray = moved[:, :2] / moved[:, 2:]
        return points

    @property
    def region(self) -> np.ndarray:
        """Where in the visible image the infrared one shows something, as bool ``(H, W)``."""
        if "region" not in self._cache:
            region = covered(self.ir_size, self._matrix, self.vi_size).numpy()
            region.setflags(write=False)
            self._cache["region"] = region
        mask: np.ndarray = self._cache["region"]
        return mask

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The largest upright rectangle of the region: left, top, right, bottom (exclusive).

        Raises:
            InputError: the two images have no region in common.
        """
        if "box" not in self._cache:
            self._cache["box"] = _largest_rectangle(self.region)
        left, top, right, bottom = self._cache["box"]
        if right <= left or bottom <= top:
            raise InputError("the images have no region in common; there is nothing to cut to")
        return left, top, right, bottom

    def soft_region(self) -> Tensor:
        """Return the region as float32 ``(H, W)``, falling smoothly from 1 to 0 at its edge.

        Along the visible image's own border nothing falls.
        """
        from scipy.ndimage import distance_transform_edt

        if self.region.all():
            return torch.ones(self.vi_size)
        depth = distance_transform_edt(self.region).astype(np.float32)
        rise = np.clip(depth / max(2.0, _SOFT * max(self.vi_size)), 0, 1)
        return torch.from_numpy(rise * rise * (3 - 2 * rise))

    # -- what it does ------------------------------------------------------------------------

    def warp(
        self, image: Any, *, fill: float = 0, interpolation: Interpolation = "bilinear"
    ) -> Any:
        """Bring something of the infrared image's geometry into the visible image's.

        Args:
            image: a path, the bytes of a file, a PIL image (both give a PIL image), a numpy array
                ``(H, W)`` / ``(H, W, C)`` / ``(B, H, W)`` / ``(B, H, W, C)`` or a torch tensor
                ``(..., H, W)``, of any number of channels and any dtype, bool too. H and W are
                those of ``ir_size``.
            fill: value outside the infrared image.
            interpolation: "bilinear" or, for labels, "nearest".

        Returns:
            The same kind and dtype, with the height and width of ``vi_size``. Values are those of
            the image, interpolated; integers are rounded. A tensor keeps its gradients.

        Raises:
            InputError: another size than ``ir_size``.
            InputTypeError: another kind.
        """
        if interpolation not in ("bilinear", "nearest"):
            raise InputError(f"interpolation is 'bilinear' or 'nearest', not {interpolation!r}")
        if isinstance(image, (*FILE_KINDS, Image.Image, Reading)):
            return self._warp_picture(image, fill, interpolation)
        if isinstance(image, Tensor):
            self._check_size(tuple(image.shape[-2:]), image.shape)
            planes = image.reshape(-1, *self.ir_size)
            out = warped(planes, self._matrix, self.vi_size, fill, interpolation)
            return out.reshape(*image.shape[:-2], *self.vi_size)
        if isinstance(image, np.ndarray):
            return self._warp_array(image, fill, interpolation)
        raise InputTypeError(
            f"image is a {type(image).__name__}; pass a path, PIL image, numpy array or tensor"
        )

    def crop(self, image: Any) -> Any:
        """Cut something of the visible image's geometry to :attr:`box`.

        Args:
            image: a PIL image, an array ``(H, W)`` / ``(H, W, C)`` or a tensor ``(..., H, W)``.

        Raises:
            InputError: another size than ``vi_size``, or no region in common.
        """
        left, top, right, bottom = self.box
        if isinstance(image, Image.Image):
            self._check_visible((image.height, image.width))
            return image.crop((left, top, right, bottom))
        if isinstance(image, Tensor):
            self._check_visible(tuple(image.shape[-2:]))
            return image[..., top:bottom, left:right]
        self._check_visible(np.shape(image)[:2])
        return image[top:bottom, left:right]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            FileError: an OSError: it cannot be written there.
        """
        content = {
            "format": _FORMAT,
            "transform": self.transform.tolist(),
            "ir_size": list(self.ir_size),
            "vi_size": list(self.vi_size),
            "model": self.model,
            "confidence": round(self.confidence, 4),
            "residual": None if np.isnan(self.residual) else round(self.residual, 4),
            "pairs": self.pairs,
        }
        try:
            write_whole(path, f"{json.dumps(content, indent=2)}\n".encode())
        except OSError as error:
            raise FileError(f"{path}: cannot be written ({error.strerror})") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Alignment:
        """Read what :meth:`save` wrote.

        Raises:
            MissingFileError: a FileNotFoundError: there is no such file.
            FileError: an OSError: it cannot be read.
            InputError: a ValueError: it is no alignment.
        """
        try:
            content = json.loads(Path(path).read_bytes())
        except FileNotFoundError:
            raise MissingFileError(f"{path}: no such file; make it with fusionzoo align") from None
        except OSError as error:
            raise FileError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError):
            raise InputError(f"{path} is no JSON; name what fusionzoo align wrote") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InputError(f"{path} is no alignment; name what fusionzoo align wrote")
        try:
            residual = content.get("residual")
            made = cls(
                np.array(content["transform"], dtype=np.float64),
                tuple(content["ir_size"]),
                tuple(content["vi_size"]),
                str(content["model"]),
                float(content["confidence"]),
                float("nan") if residual is None else float(residual),
                int(content.get("pairs", 1)),
            )
            if made.model not in MODELS:
                raise InputError(f"model {made.model!r} is none of {', '.join(MODELS)}")
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path} is a damaged alignment; make it anew") from None
        return made

    # ----------------------------------------------------------------------------------------

    @property
    def _matrix(self) -> Tensor:
        return torch.from_numpy(self.transform.copy())

    def _warp_picture(self, image: Any, fill: float, interpolation: Interpolation) -> Any:
        source = read_source(image, "image")
        stack = (
            source.colors if source.alpha is None else torch.cat([source.colors, source.alpha], 1)
        )
        self._check_size(source.size, source.size)
        out = warped(stack[0], self._matrix, self.vi_size, fill, interpolation)
        return source.give_back(out[None])

    def _warp_array(self, array: np.ndarray, fill: float, interpolation: Interpolation) -> Any:
        shape = array.shape
        channels_last = array.ndim in (3, 4) and shape[-3:-1] == self.ir_size
        self._check_size(shape[-3:-1] if channels_last else shape[-2:], shape)
        if array.ndim > 4 or (array.ndim == 4 and not channels_last):
            raise InputError(f"image has shape {shape}; move the channels last")
        native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        try:
            values = torch.from_numpy(native if native.flags.writeable else native.copy())
        except TypeError:
            raise InputTypeError(f"image is {array.dtype}; convert it to numbers") from None
        if channels_last:
            values = values.movedim(-1, -3)
        planes = values.reshape(-1, *self.ir_size)
        out = warped(planes, self._matrix, self.vi_size, fill, interpolation)
        out = out.reshape(*values.shape[:-2], *self.vi_size)
        if channels_last:
            out = out.movedim(-3, -1)
        return np.ascontiguousarray(out.numpy(), dtype=array.dtype)

    def _check_size(self, size: tuple[int, ...], shape: tuple[int, ...]) -> None:
        if tuple(size) != self.ir_size:
            raise InputError(
                f"image has shape {tuple(shape)}, and this alignment is for infrared images of "
                f"{self.ir_size[0]} x {self.ir_size[1]} (height x width); pass such a one"
            )

    def _check_visible(self, size: tuple[int, ...]) -> None:
        if tuple(size) != self.vi_size:
            raise InputError(
                f"image is {' x '.join(map(str, size))} (height x width), and this alignment is "
                f"for visible images of {self.vi_size[0]} x {self.vi_size[1]}; pass such a one"
            )


def _largest_rectangle(region: np.ndarray) -> tuple[int, int, int, int]:
    """The largest upright rectangle in a mask, by heights of columns row by row."""
    factor = max(1, max(region.shape) // 400)
    height, width = (side // factor for side in region.shape)
    blocks = region[: height * factor, : width * factor]
    coarse = np.asarray(blocks.reshape(height, factor, width, factor).all((1, 3)))
    best, box = 0, (0, 0, 0, 0)
    heights = np.zeros(width + 1, dtype=int)
    for row in range(height):
        heights[:-1] = np.where(coarse[row], heights[:-1] + 1, 0)
        stack: list[int] = []
        for column, tall in enumerate(heights):
            while stack and heights[stack[-1]] >= tall:
                top = heights[stack.pop()]
                left = stack[-1] + 1 if stack else 0
                if (area := int(top) * (column - left)) > best:
                    best, box = area, (left, row + 1 - int(top), column, row + 1)
            stack.append(column)
    left, upper, right, lower = (side * factor for side in box)
    # What does not fill a block at the far sides belongs to it if it is covered too.
    if right == width * factor and region[upper:lower, right:].all():
        right = region.shape[1]
    if lower == height * factor and region[lower:, left:right].all():
        lower = region.shape[0]
    return left, upper, right, lower
