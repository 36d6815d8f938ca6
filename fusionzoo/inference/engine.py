"""The engine of `model.fuse`: any pair of images through a network and back to its own kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fusionzoo.errors import InputError, ResultError
from fusionzoo.inference.color import to_grey
from fusionzoo.inference.geometry import pad_to, padded_side, scale_like, scale_to
from fusionzoo.inference.hints import Hints
from fusionzoo.inference.memory import (
    DEFAULT_BYTES_PER_PIXEL,
    check_memory,
    memory_errors_explained,
)
from fusionzoo.inference.options import check_count, check_options
from fusionzoo.inference.ranges import Limits, check_range, from_unit, to_unit
from fusionzoo.inference.sources import Source, read_source

Run = Callable[[Tensor, Tensor], Tensor]


def fuse_images(
    run: Run,
    ir: Any,
    vi: Any,
    *,
    color: bool = True,
    ir_range: tuple[float, float] | None = None,
    vi_range: tuple[float, float] | None = None,
    resize: str | None = None,
    color_from: str = "vi",
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 1,
    size_multiple: int = 1,
    min_size: int = 1,
    value_range: tuple[float, float] = (0.0, 1.0),
    bytes_per_pixel: float | None = None,
    grad: bool = False,
) -> Any:
    """Fuse infrared with visible images by a network; the contract behind ``model.fuse``.

    **Kinds.** ``ir`` and ``vi`` are each, independently, a path (``str`` or ``os.PathLike``), the
    content of a file (``bytes`` or ``io.BytesIO``), a PIL image, a numpy array ``(H, W)`` /
    ``(H, W, 1|3|4)`` / ``(B, H, W)`` / ``(B, H, W, 1|3|4)``, or a torch tensor ``(H, W)`` /
    ``(C, H, W)`` / ``(B, C, H, W)`` with C of 1, 3 or 4; of uint8, uint16, int16, int32, int64,
    float16, float32 or float64. Or both are lists (or tuples) of the same length of any of these,
    of differing sizes and kinds. An array of three dimensions is one image if its last dimension is
    1, 3 or 4, and a batch of grey images otherwise; say ``(B, H, W, 1)`` for a batch of images that
    are so narrow. What :func:`fusionzoo.inference.read_image` says of files holds here. PIL images,
    from files or not, are turned upright by their EXIF orientation; palettes become RGB (grey, if
    all their colours are), CMYK and other colour spaces RGB, 1-bit images 8-bit grey.

    **What comes back** is of the kind of ``vi``, with its height and width, bit depth and device:
    for a file a PIL image; a PIL image of mode L, LA, RGB, RGBA, I;16, I or F, with the colour
    profile (ICC) of ``vi``; an array of ``vi``'s dtype and number of dimensions; a tensor likewise,
    on the device of ``vi``; for a list, a list. An alpha channel of ``vi`` comes back untouched;
    one of ``ir`` is dropped.

    **Colour.** The network sees grey. A colour ``vi`` is fused in luma and its chroma put back
    (full-range BT.601), clipped to the value range; three equal channels give three equal
    channels. A colour ``ir`` is reduced to luma. With ``color=False`` a single-channel image
    comes back, without alpha: ``(H, W)`` for an array ``(H, W, 3|4)``, ``(B, H, W)``
    for a batch, ``(1, H, W)`` for a tensor ``(3|4, H, W)``, a grey PIL image.

    With ``color_from="ir"`` the two change places in all of this: what comes back is of the kind
    of ``ir``, with its size, depth, alpha, values and colour (PET and SPECT, in pseudo-colour, are
    the first of their pairs).

    **Values.** For each image ``lo`` and ``hi`` become 0 and 1, values beyond are clipped, and the
    result is mapped back by those of ``vi``, rounded (never truncated) for integers and clipped
    to what the dtype holds, floats too: a float16 result never exceeds 65504, whatever ``hi``
    is. Values and ranges lie within ±1e300. ``lo`` and ``hi`` are

    - ``ir_range`` or ``vi_range``, in the image's own units, if given;
    - 0 and 255 for 8-bit images;
    - 0 and 1 for floats that lie in [0, 1], give or take 0.001;
    - else (16-bit, 32-bit and float radiance, and also floats in 0 ... 255) the 0.5 and 99.5
      percentiles of the image, over its colour channels together. Where these are equal, the
      least and greatest value; a constant image of value v becomes mid grey, ``lo`` and ``hi``
      being v - m and v + m with m = max(abs(v), 1).

    Each image of a list or batch has its own. Give ranges for video, so that frames agree.

    **Sizes.** ``ir`` and ``vi`` have the same height and width, at least 2 x 2, unless
    ``resize="ir"`` scales ``ir`` to the size of ``vi``, or ``resize="vi"`` the reverse, when
    the result has the size of ``ir``. Padding for the network is added and removed inside.

    **Gradients.** By default nothing is recorded. With ``grad=True`` the graph is kept from the
    result to float tensors ``ir`` and ``vi`` and to the network; ``vi`` must be a float tensor.
    ``lo`` and ``hi`` count as constants. Results are ordinary tensors in both cases.

    **Warnings.** A :class:`fusionzoo.errors.FusionZooWarning` of one line says, once a call, that
    the picture will probably be wrong: ``vi`` grey and ``ir`` in colour (the reverse with
    ``color_from="ir"``), ``resize`` to another aspect ratio (by more than 2 %), an array
    ``(3|4, H, W)`` taken for a batch, a file of which only the first page is read.

    **Memory.** On Linux, images whose network would take more memory than there is are refused
    before it is taken. ``FUSIONZOO_MEMORY_GB`` in the environment sets how much may be used.

    **No side effects.** Arguments are not modified, even if the network writes to its inputs;
    grad mode, random state and default dtype stay; the call keeps no state, so threads may share
    it; equal calls give equal bits as far as ``run`` does.

    Args:
        run: the network, ready on ``device`` in ``dtype``: takes two tensors ``(B, 1, H, W)`` in
            ``value_range`` and gives one.
        ir: infrared image or images.
        vi: visible image or images.
        color: False gives grey.
        ir_range: ``(lo, hi)`` of ``ir``.
        vi_range: ``(lo, hi)`` of ``vi``.
        resize: None, ``"ir"`` or ``"vi"``.
        color_from: ``"vi"`` or ``"ir"``: the image that the result takes after.
        device: where the network is; None is where ``vi`` is (the CPU for all but tensors).
        dtype: the network's floating dtype; conversions around it are float32, or float64 for
            int32, int64, float64 and very large values.
        batch_size: how many images of equal size go through the network at once; changes memory
            and time, not the result beyond float rounding.
        size_multiple: height and width the network takes are multiples of this.
        min_size: least height and width the network takes.
        value_range: what the network takes and gives; its output is clipped to it.
        bytes_per_pixel: the most memory of the CPU that fusing takes in float32, by the padded
            image's pixels; None supposes what many networks take.
        grad: keep the autograd graph.

    Raises:
        MissingFileError: a FileNotFoundError: a path leads nowhere.
        FileError: an OSError: a file cannot be opened.
        InputTypeError: a TypeError: a kind or dtype that is not listed (bool, complex, ...).
        InputError: a ValueError: differing sizes, sides under 2 pixels, NaN or infinite values,
            wrong channel counts, lists or batches of differing length, masked arrays, damaged
            files, wrong options. All errors name the argument, the problem and the remedy.
        OutOfMemoryError: a MemoryError: the memory does not suffice.
        ResultError: a RuntimeError: the network gave NaN or another shape.
    """
    check_options(
        color=color, ir_range=ir_range, vi_range=vi_range, resize=resize, color_from=color_from,
        device=device, dtype=dtype, batch_size=batch_size, grad=grad,
    )  # fmt: skip
    check_count("size_multiple", size_multiple)
    check_count("min_size", min_size)
    network = _Network(
        run, None if device is None else torch.device(device), dtype, size_multiple, min_size,
        check_range(value_range, "value_range") or (0.0, 1.0),
        DEFAULT_BYTES_PER_PIXEL if bytes_per_pixel is None else bytes_per_pixel,
    )  # fmt: skip
    ranges = check_range(ir_range, "ir_range"), check_range(vi_range, "vi_range")
    prepare = _Preparation(bool(color), *ranges, resize, color_from, bool(grad), Hints())
    ir_items, vi_items, is_list = _as_lists(ir, vi)

    def pairs() -> Iterator[_Pair]:
        for index, (one_ir, one_vi) in enumerate(zip(ir_items, vi_items, strict=True)):
            suffix = f"[{index}]" if is_list else ""
            yield prepare(index, one_ir, one_vi, suffix)

    with torch.set_grad_enabled(bool(grad)), memory_errors_explained():
        results = _fuse_pairs(pairs(), network, batch_size)
    return results if is_list else results[0]


@dataclass
class _Pair:
    """One item of the call: its images ready for the network, and what the way back needs."""

    index: int
    ir: Tensor  # (B, 1, H, W) in [0, 1]
    vi: Tensor  # the same: luma
    chroma: Tensor | None  # (B, 3, H, W): R - Y, G - Y, B - Y
    alpha: Tensor | None  # (B, 1, H, W), raw
    limits: list[Limits]
    source: Source  # the image that the result takes after
    dtype: torch.dtype  # that its values are computed in
    fused: dict[int, Tensor] = field(default_factory=dict)

    def finished(self) -> Any:
        """The result, of the source's kind, once ``fused`` holds all images."""
        fused = torch.stack([self.fused[number] for number in range(len(self.vi))])
        fused = fused.to(self.source.colors.device).to(self.dtype)
        if self.chroma is not None:
            # With CbCr kept, R - Y, G - Y and B - Y are kept too: the same as converting to YCbCr
            # and back, but exact for grey, whose differences are 0.
            fused = fused + self.chroma
        raw = from_unit(fused, self.limits, self.source.colors.dtype)
        if self.alpha is not None:
            raw = torch.cat([raw, self.alpha], 1)
        return self.source.give_back(raw)


@dataclass(frozen=True)
class _Preparation:
    color: bool
    ir_range: Limits | None
    vi_range: Limits | None
    resize: str | None
    color_from: str
    grad: bool
    hints: Hints

    def __call__(self, index: int, ir: Any, vi: Any, suffix: str) -> _Pair:
        ir, vi = read_source(ir, "ir" + suffix), read_source(vi, "vi" + suffix)
        # The result takes after the one; of the other only its grey image is needed.
        one, other = (vi, ir) if self.color_from == "vi" else (ir, vi)
        if self.grad and not one.float_tensor:
            raise InputError(
                f"grad=True needs {one.name} as a float tensor; convert it or drop grad"
            )
        _check_pair(ir, vi, self.resize)
        colors, limits = to_unit(one.colors, self._range_of(one, vi), one.name)
        other_colors, _ = to_unit(other.colors, self._range_of(other, vi), other.name)
        self._warn(one, other, colors, other_colors)
        other_grey = to_grey(other_colors)
        alpha = one.alpha if self.color else None
        if self.resize == self.color_from:
            colors = scale_to(colors, other.size)
            if alpha is not None:
                alpha = scale_like(alpha, other.size, colors.dtype)
        elif self.resize is not None:
            other_grey = scale_to(other_grey, one.size)
        luma = to_grey(colors)
        chroma = colors - luma if self.color and colors.shape[1] == 3 else None
        greys = (other_grey, luma) if one is vi else (luma, other_grey)
        return _Pair(index, *greys, chroma, alpha, limits, one, colors.dtype)

    def _warn(self, one: Source, other: Source, colors: Tensor, other_colors: Tensor) -> None:
        self.hints.swapped(colors, other_colors, (one.name, other.name), self.color_from)
        if self.resize is not None:
            scaled, target = (one, other) if self.resize == self.color_from else (other, one)
            self.hints.stretched(scaled.size, target.size, scaled.name, self.resize)
        for source in (one, other):
            if source.shape is not None:
                self.hints.channels_first(source.shape, source.name)

    def _range_of(self, source: Source, vi: Source) -> Limits | None:
        return self.vi_range if source is vi else self.ir_range


@dataclass(frozen=True)
class _Network:
    run: Run
    device: torch.device | None
    dtype: torch.dtype
    size_multiple: int
    min_size: int
    value_range: Limits
    bytes_per_pixel: float

    def place(self, vi: Tensor) -> torch.device:
        return vi.device if self.device is None else self.device

    def __call__(self, irs: Sequence[Tensor], vis: Sequence[Tensor]) -> Tensor:
        """Fuse like-sized ``(1, H, W)`` in [0, 1] to ``(B, 1, H, W)`` in [0, 1]."""
        height, width = vis[0].shape[-2:]
        if self.place(vis[0]).type == "cpu":
            check_memory(len(vis) * self._bytes_for(height, width), len(vis), height, width)
        inputs = [self._to_network(images, self.place(vis[0])) for images in (irs, vis)]
        output = self.run(*inputs)
        if not isinstance(output, Tensor) or output.shape != inputs[1].shape:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ResultError(f"the network gave {shape} for {tuple(inputs[1].shape)}")
        low, high = self.value_range
        output = (output[..., :height, :width].to(self._exact) - low) / (high - low)
        if output.isnan().any():
            raise ResultError(
                f"the network gave NaN in {self.dtype}; use float32, or check the weights"
            )
        return output.clamp(0, 1)

    def _bytes_for(self, height: int, width: int) -> float:
        pixels = 1
        for side in (height, width):
            pixels *= padded_side(side, self.size_multiple, self.min_size)
        return pixels * self.bytes_per_pixel * (2 if self.dtype == torch.float64 else 1)

    @property
    def _exact(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def _to_network(self, images: Sequence[Tensor], device: torch.device) -> Tensor:
        low, high = self.value_range
        batch = torch.stack([image.to(self._exact).to(device) for image in images])
        if self.value_range != (0.0, 1.0):
            batch = batch * (high - low) + low
        return pad_to(batch, self.size_multiple, self.min_size).to(self.dtype)


def _fuse_pairs(pairs: Iterator[_Pair], network: _Network, batch_size: int) -> list[Any]:
    """Group images of equal size, run full groups at once, finish items as soon as they can be."""
    results: dict[int, Any] = {}
    waiting: dict[Any, list[tuple[_Pair, int]]] = {}

    def fuse(group: list[tuple[_Pair, int]]) -> None:
        fused = network(
            [pair.ir[number] for pair, number in group], [pair.vi[number] for pair, number in group]
        )
        for (pair, number), image in zip(group, fused, strict=True):
            pair.fused[number] = image
            if len(pair.fused) == len(pair.vi):
                results[pair.index] = pair.finished()

    for pair in pairs:
        key = (pair.vi.shape[-2:], network.place(pair.vi))
        for number in range(len(pair.vi)):
            group = waiting.setdefault(key, [])
            group.append((pair, number))
            if len(group) == batch_size:
                fuse(waiting.pop(key))
    for group in waiting.values():
        fuse(group)
    return [results[index] for index in sorted(results)]


def _as_lists(ir: Any, vi: Any) -> tuple[Sequence[Any], Sequence[Any], bool]:
    many_ir, many_vi = isinstance(ir, list | tuple), isinstance(vi, list | tuple)
    if many_ir != many_vi:
        one, other = ("ir", "vi") if many_ir else ("vi", "ir")
        raise InputError(f"{one} is a list and {other} is not; pass both as lists, or neither")
    if not many_ir:
        return [ir], [vi], False
    if len(ir) != len(vi):
        raise InputError(
            f"ir lists {len(ir)} images and vi {len(vi)}; pass lists of equal length, pair by pair"
        )
    return ir, vi, True


def _check_pair(ir: Source, vi: Source, resize: str | None) -> None:
    if len(ir.colors) != len(vi.colors):
        for one, other in ((ir, vi), (vi, ir)):
            if one.shape is not None:
                raise InputError(
                    f"{one.name} has shape {one.shape}, a batch of {len(one.colors)} grey images, "
                    f"and {other.name} holds {len(other.colors)}; pass batches of equal length, or "
                    "move the channels last if it is one colour image"
                )
        raise InputError(
            f"{ir.name} holds {len(ir.colors)} images and {vi.name} {len(vi.colors)}; "
            "pass batches of equal length"
        )
    if ir.size != vi.size and resize is None:
        raise InputError(
            f"{ir.name} is {ir.size[0]} x {ir.size[1]} (height x width) and {vi.name} "
            f"{vi.size[0]} x {vi.size[1]}; pass images of one size that show the same scene, or "
            "resize='ir' or resize='vi' to scale that one to the other's size"
        )
