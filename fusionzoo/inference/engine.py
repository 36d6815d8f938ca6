"""The engine of `model.fuse`: any pair of images through a network and back to its own kind."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionzoo.errors import InputError, ResultError
from fusionzoo.inference.color import to_grey
from fusionzoo.inference.geometry import pad_to, padded_side, scale_like, scale_to
from fusionzoo.inference.hints import Hints, sample
from fusionzoo.inference.memory import (
    ALWAYS_THERE,
    DEFAULT_BYTES_PER_PIXEL,
    check_memory,
    measured_bytes_per_pixel,
    memory_budget,
    memory_errors_explained,
    pixels_of_tile,
)
from fusionzoo.inference.options import check_count, check_options
from fusionzoo.inference.ranges import Limits, Scale, check_range, from_unit, scale_of
from fusionzoo.inference.sources import Source, read_pair
from fusionzoo.inference.tiles import fuse_in_tiles, halo_of

Run = Callable[[Tensor, Tensor], Tensor]
#: Brings grey ``ir`` ``(B, 1, h, w)`` onto the luma of ``vi`` ``(B, 1, H, W)``, both in [0, 1], and
#: says how much of it counts where, in [0, 1]: `fusionzoo.alignment.registration` makes it.
Register = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# Values of an image that are converted at once; more is no faster.
_AT_ONCE = 1 << 22
# A network that does not say how much memory it takes is asked, where it would have to take this
# many bytes a pixel to be too large.
_HARDLY_POSSIBLE = 10_000
_SAMPLE = 256


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
    tile: int | str = "auto",
    memory: float | None = None,
    size_multiple: int = 1,
    min_size: int = 1,
    value_range: tuple[float, float] = (0.0, 1.0),
    bytes_per_pixel: float | None = None,
    reach: int | None = None,
    grad: bool = False,
    register: Register | None = None,
) -> Any:
    """Fuse infrared with visible images by a network; the contract behind ``model.fuse``.

    **Kinds.** ``ir`` and ``vi`` are each, independently, a path (``str`` or ``os.PathLike``), the
    content of a file (``bytes`` or ``io.BytesIO``), what :func:`fusionzoo.open_image` gives, a PIL
    image, a numpy array ``(H, W)`` / ``(H, W, 1|3|4)`` / ``(B, H, W)`` / ``(B, H, W, 1|3|4)``, or a
    torch tensor ``(H, W)`` / ``(C, H, W)`` / ``(B, C, H, W)`` with C of 1, 3 or 4; of uint8,
    uint16, int16, int32, int64, float16, float32 or float64. A thermal camera's file as ``vi``
    means the photograph in it. Or both are lists (or tuples) of the same length of any of these, of
    differing sizes and kinds. An array of three dimensions is one image if its last dimension is
    1, 3 or 4, and a batch of grey images otherwise; say ``(B, H, W, 1)`` for a batch of images that
    are so narrow. What :func:`fusionzoo.inference.read_image` says of files holds here. PIL images,
    from files or not, are turned upright by their EXIF orientation; palettes become RGB (grey, if
    all their colours are), CMYK and other colour spaces RGB, 1-bit images 8-bit grey.

    **What comes back** is of the kind of ``vi``, with its height and width, bit depth and device:
    for a file that Pillow reads a PIL image, for another one a :class:`fusionzoo.Reading`; a PIL
    image of mode L, LA, RGB, RGBA, I;16, I or F, with the colour profile (ICC) of ``vi``; an array
    of ``vi``'s dtype and number of dimensions; a tensor likewise, on the device of ``vi``; for a
    list, a list. An alpha channel of ``vi`` comes back untouched; one of ``ir`` is dropped.

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
    - the range of a :class:`fusionzoo.Reading`, if its file gives one;
    - 0 and 255 for 8-bit images;
    - 0 and 1 for floats that lie in [0, 1], give or take 0.001;
    - else (16-bit, 32-bit and float radiance, and also floats in 0 ... 255) the 0.5 and 99.5
      percentiles of the image, over its colour channels together. Where these are equal, the
      least and greatest value; a constant image of value v becomes mid grey, ``lo`` and ``hi``
      being v - m and v + m with m = max(abs(v), 1).

    Each image of a list or batch has its own. Give ranges for video, so that frames agree.

    **Sizes.** ``ir`` and ``vi`` have the same height and width, at least 2 x 2, unless
    ``resize="ir"`` scales ``ir`` to the size of ``vi``, or ``resize="vi"`` the reverse, when
    the result has the size of ``ir``. Padding for the network is added and removed inside. With
    ``register`` sizes may differ: it brings ``ir`` to the size of ``vi``; where it says that ``ir``
    shows nothing, the result is ``vi``.

    **Gradients.** By default nothing is recorded. With ``grad=True`` the graph is kept from the
    result to float tensors ``ir`` and ``vi`` and to the network; ``vi`` must be a float tensor.
    ``lo`` and ``hi`` count as constants. Results are ordinary tensors in both cases.

    **Warnings.** A :class:`fusionzoo.errors.FusionZooWarning` of one line says, once a call, that
    the picture will probably be wrong: ``vi`` grey and ``ir`` in colour (the reverse with
    ``color_from="ir"``), ``resize`` to another aspect ratio (by more than 2 %), an array
    ``(3|4, H, W)`` taken for a batch, a file of which only the first page is read.

    **Memory.** Images whose network would take more than ``memory`` go through it tile by tile:
    ``docs/large_images.md`` tells how, and for which networks that gives the same result. By
    default that is half of what Linux or the GPU has free; ``FUSIONZOO_MEMORY_GB`` in the
    environment sets how much counts as free. With ``tile="off"`` such images are refused, on
    Linux, before their memory is taken.

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
        color_from: ``"vi"`` or ``"ir"``: the image whose kind, size and colour the result has.
        device: where the network is; None is where ``vi`` is (the CPU for all but tensors).
        dtype: the network's floating dtype; conversions around it are float32, or float64 for
            int32, int64, float64 and very large values.
        batch_size: how many images of equal size go through the network at once; changes memory
            and time, not the result beyond float rounding.
        tile: ``"auto"``, ``"off"``, or the side in pixels of a square that no tile is larger than,
            with the pixels that it reads around it, unless it has to be: four times ``reach``.
            With ``grad=True`` nothing is cut.
        memory: bytes that fusing may take beyond what is taken when it begins.
        size_multiple: height and width the network takes are multiples of this.
        min_size: least height and width the network takes.
        value_range: what the network takes and gives; its output is clipped to it.
        bytes_per_pixel: the most memory of the CPU that fusing takes in float32, by the padded
            image's pixels; None has it measured, for large images only.
        reach: how many pixels around a pixel of the result the network looks at; then tiles give
            what the whole image gives. None blends tiles.
        grad: keep the autograd graph.
        register: what aligns ``ir`` with ``vi``, made by :func:`fusionzoo.alignment.registration`.

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
        device=device, dtype=dtype, batch_size=batch_size, grad=grad, tile=tile, memory=memory,
    )  # fmt: skip
    check_count("size_multiple", size_multiple)
    check_count("min_size", min_size)
    network = _Network(
        run, None if device is None else torch.device(device), dtype, size_multiple, min_size,
        check_range(value_range, "value_range") or (0.0, 1.0), bytes_per_pixel, reach,
        "off" if grad else tile if isinstance(tile, str) else operator.index(tile),
        memory,
    )  # fmt: skip
    if register is not None and (resize is not None or color_from != "vi"):
        raise InputError(
            "align brings ir to the size and place of vi; drop resize, and take a model whose "
            "results have the size and colour of vi"
        )
    ranges = check_range(ir_range, "ir_range"), check_range(vi_range, "vi_range")
    prepare = _Preparation(bool(color), *ranges, resize, color_from, bool(grad), register, Hints())
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
    luma: Tensor  # of the image whose kind and size the result has
    chroma: Callable[[slice], Tensor] | None  # of rows: (B, 3, h, W): R - Y, G - Y, B - Y
    rows: list[slice]  # that are finished at a time
    alpha: Tensor | None  # (B, 1, H, W), raw
    limits: list[Limits]
    source: Source  # the image whose kind and size the result has
    dtype: torch.dtype  # that its values are computed in
    weight: Tensor | None = None  # how much of the fused image counts, (B or 1, 1, H, W)
    fused: dict[int, Tensor] = field(default_factory=dict)

    def finished(self) -> Any:
        """The result, of the source's kind, once ``fused`` holds all images."""
        images = [self.fused.pop(number) for number in range(len(self.vi))]
        fused = torch.stack(images) if len(images) > 1 else images[0][None]
        raw = _by_rows(lambda rows: self._raw(fused[..., rows, :], rows), self.rows)
        if self.alpha is not None:
            raw = torch.cat([raw, self.alpha], 1)
        return self.source.give_back(raw)

    def _raw(self, fused: Tensor, rows: slice) -> Tensor:
        fused = fused.to(self.source.colors.device).to(self.dtype)
        if self.weight is not None:
            alone = self.luma[..., rows, :]
            fused = torch.lerp(alone, fused, self.weight[..., rows, :])
        if self.chroma is not None:
            # With CbCr kept, R - Y, G - Y and B - Y are kept too: the same as converting to YCbCr
            # and back, but exact for grey, whose differences are 0.
            fused = fused + self.chroma(rows)
        return from_unit(fused, self.limits, self.source.colors.dtype)


@dataclass(frozen=True)
class _Preparation:
    color: bool
    ir_range: Limits | None
    vi_range: Limits | None
    resize: str | None
    color_from: str
    grad: bool
    register: Register | None
    hints: Hints

    def __call__(self, index: int, ir: Any, vi: Any, suffix: str) -> _Pair:
        ir, vi = read_pair(ir, vi, suffix)
        # The result has the kind of the one; of the other only its grey image is needed.
        one, other = (vi, ir) if self.color_from == "vi" else (ir, vi)
        if self.grad and not one.float_tensor:
            raise InputError(
                f"grad=True needs {one.name} as a float tensor; convert it or drop grad"
            )
        _check_pair(ir, vi, self.resize, self.register is not None)
        scale = scale_of(one.colors, self._range_of(one, vi), one.name)
        other_scale = scale_of(other.colors, self._range_of(other, vi), other.name)
        self._warn(one, other, scale, other_scale)
        other_grey = _by_rows(
            lambda rows: to_grey(other_scale(other.colors[..., rows, :])), self._rows(other.colors)
        )
        alpha = one.alpha if self.color else None
        rows = self._rows(one.colors)
        colors = None
        if self.resize == self.color_from:
            colors, rows = scale_to(scale(one.colors), other.size), [slice(None)]
            if alpha is not None:
                alpha = scale_like(alpha, other.size, colors.dtype)
        elif self.resize is not None:
            other_grey = scale_to(other_grey, one.size)
        if colors is None and len(rows) == 1:
            colors = scale(one.colors)

        def unit(part: slice) -> Tensor:
            """The colours of some rows; large images are converted twice, rather than kept."""
            return scale(one.colors[..., part, :]) if colors is None else colors[..., part, :]

        luma = _by_rows(lambda part: to_grey(unit(part)), rows)
        has_chroma = self.color and one.colors.shape[1] == 3
        chroma = (lambda part: unit(part) - luma[..., part, :]) if has_chroma else None
        weight = None
        if self.register is not None:
            other_grey, weight = self.register(other_grey.to(luma), luma)
        elif other.valid is not None:
            weight = _weight_of(other.valid, luma)
        greys = (other_grey, luma) if one is vi else (luma, other_grey)
        return _Pair(
            index, *greys, luma, chroma, rows, alpha, scale.limits, one, scale.dtype, weight
        )

    def _rows(self, images: Tensor) -> list[slice]:
        """Which rows are converted at a time; autograd records all at once."""
        batch, channels, height, width = images.shape
        step = height if self.grad else max(1, _AT_ONCE // (batch * channels * width))
        return [slice(row, min(row + step, height)) for row in range(0, height, step)]

    def _warn(self, one: Source, other: Source, scale: Scale, other_scale: Scale) -> None:
        if other.colors.shape[1] == 3:
            thin = scale(sample(one.colors)), other_scale(sample(other.colors))
            self.hints.swapped(*thin, (one.name, other.name), self.color_from)
        if self.resize is not None:
            scaled, target = (one, other) if self.resize == self.color_from else (other, one)
            self.hints.stretched(scaled.size, target.size, scaled.name, self.resize)
        if self.register is None and one.spacing and other.spacing:
            self.hints.fields_of_view(
                (one.name, one.size, one.spacing), (other.name, other.size, other.spacing)
            )
        for source in (one, other):
            if source.shape is not None:
                self.hints.channels_first(source.shape, source.name)

    def _range_of(self, source: Source, vi: Source) -> Limits | None:
        given = self.vi_range if source is vi else self.ir_range
        return source.limits if given is None else given


@dataclass(frozen=True)
class _Network:
    run: Run
    device: torch.device | None
    dtype: torch.dtype
    size_multiple: int
    min_size: int
    value_range: Limits
    bytes_per_pixel: float | None
    reach: int | None
    tile: int | str
    memory: float | None

    def place(self, vi: Tensor) -> torch.device:
        return vi.device if self.device is None else self.device

    def __call__(self, irs: Sequence[Tensor], vis: Sequence[Tensor]) -> Tensor:
        """Fuse like-sized ``(1, H, W)`` in [0, 1] to ``(B, 1, H, W)`` in [0, 1]."""
        pixels = self._pixels_of_tile(vis)
        if pixels is None:
            return self._whole(irs, vis)
        fused = [self._in_tiles(*pair, pixels) for pair in zip(irs, vis, strict=True)]
        return torch.cat(fused) if len(fused) > 1 else fused[0]

    def _whole(self, irs: Sequence[Tensor], vis: Sequence[Tensor]) -> Tensor:
        height, width = vis[0].shape[-2:]
        inputs = [self._to_network(images, self.place(vis[0])) for images in (irs, vis)]
        output = self.run(*inputs)
        if not isinstance(output, Tensor) or output.shape != inputs[1].shape:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ResultError(f"the network gave {shape} for {tuple(inputs[1].shape)}")
        low, high = self.value_range
        output = (output[..., :height, :width].to(self._exact) - low) / (high - low)
        self._check_numbers(output)
        return output.clamp(0, 1)

    def _in_tiles(self, ir: Tensor, vi: Tensor, pixels: int) -> Tensor:
        height, width = vi.shape[-2:]
        device = self.place(vi)
        padded = [pad_to(image[None], self.size_multiple, self.min_size) for image in (ir, vi)]
        output = fuse_in_tiles(
            self.run,
            *padded,
            pixels=pixels,
            reach=self.reach,
            size_multiple=self.size_multiple,
            min_size=self.min_size,
            enter=lambda part: self._entering(part.clone(), device),
            device=device,
        )
        low, high = self.value_range
        # What the memory is short of is not copied.
        output = output[..., :height, :width].to(self._exact)
        if self.value_range != (0.0, 1.0):
            output.sub_(low).div_(high - low)
        self._check_numbers(output)
        return output.clamp_(0, 1)

    def _check_numbers(self, output: Tensor) -> None:
        if output.isnan().any():
            raise ResultError(
                f"the network gave NaN in {self.dtype}; use float32, or check the weights"
            )

    def _pixels_of_tile(self, vis: Sequence[Tensor]) -> int | None:
        """Pixels that a tile may have, or None where the images go through the network whole."""
        count, (height, width) = len(vis), vis[0].shape[-2:]
        size = self._padded(height), self._padded(width)
        pixels, device = size[0] * size[1], self.place(vis[0])
        halo = halo_of(self.reach, self.size_multiple, self.min_size)
        if isinstance(self.tile, int):
            return None if pixels <= self.tile**2 else self.tile**2
        if self.tile == "off":
            if device.type == "cpu":
                need = (
                    count * pixels * self._scaled(self.bytes_per_pixel or DEFAULT_BYTES_PER_PIXEL)
                )
                check_memory(need, count, height, width)
            return None
        per_pixel = self._scaled(self.bytes_per_pixel or _HARDLY_POSSIBLE)
        if self.memory is None and count * pixels * per_pixel <= ALWAYS_THERE:
            return None
        budget = memory_budget(device, self.memory)
        if budget is None or count * pixels * per_pixel <= budget.usual:
            return None
        if self.bytes_per_pixel is None:
            per_pixel = self._measured(device)
        if pixels * per_pixel <= budget.usual:  # one image at a time, if not all
            return None if count * pixels * per_pixel <= budget.usual else pixels
        return pixels_of_tile(budget, per_pixel, (4 * halo) ** 2, size, count)

    def _padded(self, side: int) -> int:
        return padded_side(side, self.size_multiple, self.min_size)

    def _scaled(self, bytes_in_float32: float) -> float:
        return bytes_in_float32 * (2 if self.dtype == torch.float64 else 1)

    def _measured(self, device: torch.device) -> float:
        side = self._padded(_SAMPLE)
        sample = torch.linspace(0, 1, side).expand(1, 1, side, side)
        return measured_bytes_per_pixel(
            self.run, *(self._entering(image.clone(), device) for image in (sample, sample.mT))
        )

    @property
    def _exact(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def _to_network(self, images: Sequence[Tensor], device: torch.device) -> Tensor:
        batch = torch.stack([image.to(self._exact).to(device) for image in images])
        batch = self._entering(batch, device)
        return pad_to(batch, self.size_multiple, self.min_size)

    def _entering(self, images: Tensor, device: torch.device) -> Tensor:
        """Images ``(B, 1, H, W)`` in [0, 1] as the network takes them."""
        images = images.to(self._exact).to(device)
        low, high = self.value_range
        if self.value_range != (0.0, 1.0):
            images = images * (high - low) + low
        return images.to(self.dtype)


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


def _weight_of(valid: np.ndarray, like: Tensor) -> Tensor:
    """How much of the fused image counts, where the other image has values in places only."""
    weight = torch.from_numpy(valid).to(like)[None, None]
    size = like.shape[-2], like.shape[-1]
    return weight if weight.shape[-2:] == size else scale_to(weight, size)


def _by_rows(convert: Callable[[slice], Tensor], rows: list[slice]) -> Tensor:
    """What ``convert`` gives of some rows after the other, ``(B, C, h, W)`` each, as one."""
    if len(rows) == 1:
        return convert(slice(None))
    out: Tensor | None = None
    for part in rows:
        values = convert(part)
        if out is None:
            batch, channels, _, width = values.shape
            # Laid out in memory as the rows are.
            is_last = channels > 1 and values.stride(1) == 1
            out = values.new_empty((batch, channels, rows[-1].stop, width)).contiguous(
                memory_format=torch.channels_last if is_last else torch.contiguous_format
            )
        out[..., part, :] = values
    assert out is not None, "an image has rows"
    return out


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


def _check_pair(ir: Source, vi: Source, resize: str | None, registered: bool) -> None:
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
    if ir.size != vi.size and resize is None and not registered:
        raise InputError(
            f"{ir.name} is {ir.size[0]} x {ir.size[1]} (height x width) and {vi.name} "
            f"{vi.size[0]} x {vi.size[1]}; pass images of one size that show the same scene, or "
            "resize='ir' or resize='vi' to scale that one to the other's size, or align=True"
        )
