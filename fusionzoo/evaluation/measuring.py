"""Measuring every fused image of every method, and what that amounts to."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionzoo.data.decoding import Loaded, load_pair
from fusionzoo.errors import InputError
from fusionzoo.evaluation.methods import Method
from fusionzoo.metrics import get_protocol, per_image
from fusionzoo.pairing import Pair, is_pattern, pair_up
from fusionzoo.remote import as_path


@dataclass(frozen=True)
class Scores:
    """What one method got.

    Attributes:
        name: of the method.
        source: folder or model.
        images: for each pair, by name, the value of each metric.
    """

    name: str
    source: str
    images: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """The values of some methods on some pairs, by one protocol.

    Attributes:
        protocol: its name.
        higher_is_better: of each metric measured, in the order of the table; None where neither
            direction is better.
        stretch: whether fused images were spread over 0 ... 255 before they were measured.
        scores: one for each method.
        problems: a line for each file that is missing, left over or could not be measured.
    """

    protocol: str
    higher_is_better: Mapping[str, bool | None]
    stretch: bool
    scores: tuple[Scores, ...]
    problems: tuple[str, ...] = field(default=())

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics."""
        return list(self.higher_is_better)

    @cached_property
    def compared(self) -> list[str]:
        """Names of the pairs that every method was measured on: means are over these."""
        first, *others = self.scores
        return [name for name in first.images if all(name in other.images for other in others)]

    def values(self, method: str, metric: str) -> list[float]:
        """The values of the compared pairs.

        Raises:
            KeyError: no such method or metric.
        """
        scores = {scores.name: scores for scores in self.scores}[method]
        return [scores.images[name][metric] for name in self.compared]

    def mean(self, method: str, metric: str) -> float:
        """Mean over the compared pairs; NaN where one value is, or where there are none."""
        values = self.values(method, metric)
        return math.fsum(values) / len(values) if values else math.nan

    def std(self, method: str, metric: str) -> float:
        """Standard deviation between images, n - 1 in the denominator.

        NaN for one image, and where a value is not finite.
        """
        values = self.values(method, metric)
        if len(values) < 2 or not all(map(math.isfinite, values)):
            return math.nan
        return statistics.stdev(values)

    def best(self, metric: str) -> dict[str, int]:
        """The best method and the second best: ``{name: 1, other name: 2}``.

        Equal means share a place. Nothing is marked where there is one method only, or where
        neither direction is better.
        """
        means = {scores.name: self.mean(scores.name, metric) for scores in self.scores}
        return places(means, self.higher_is_better[metric])


def places(values: Mapping[str, float], higher_is_better: bool | None) -> dict[str, int]:
    """The keys of the best (1) and second best (2) values; NaN never is one of them.

    Values that agree in six digits are equal.
    """
    known = {key: float(f"{v:.6g}") for key, v in values.items() if not math.isnan(v)}
    if higher_is_better is None or len(values) < 2:
        return {}
    order = sorted(set(known.values()), reverse=higher_is_better)[:2]
    return {key: order.index(value) + 1 for key, value in known.items() if value in order}


def evaluate(
    ir: str | os.PathLike[str],
    vi: str | os.PathLike[str],
    methods: Iterable[Method],
    **how: Any,
) -> Evaluation:
    """Measure methods on the pairs of two folders, paired by name whatever the ending.

    Args:
        ir: folder of the infrared images or its URL, or a pattern with one ``*`` in place of the
            name, such as ``all/*_ir.png``; see :mod:`fusionzoo.pairing`.
        vi: the same for the visible images.
        methods: what is measured, see :func:`fused_folder` and :func:`fused_by`.
        how: as for :func:`evaluate_pairs`. Files without partner are left out and are among
            ``problems``.

    Raises:
        MissingFileError: a folder does not exist.
        InputError: there are no pairs, or what :func:`evaluate_pairs` refuses.
    """
    pairs, problems = find_sources(ir, vi)
    return evaluate_pairs(pairs, methods, problems=problems, **how)


def find_sources(
    ir: str | os.PathLike[str], vi: str | os.PathLike[str]
) -> tuple[list[Pair], list[str]]:
    """The pairs of two folders or patterns, and a line for each file that cannot be paired.

    Raises:
        MissingFileError: a folder does not exist.
        InputError: there are no pairs.
    """
    pairs, problems = pair_up(ir, vi)
    lines = [str(problem) for problem in problems]
    if not pairs:
        raise InputError("\n  ".join([f"{ir} and {vi}: no pairs of images", *lines]))
    return pairs, lines


def evaluate_pairs(
    pairs: Sequence[Pair],
    methods: Iterable[Method],
    *,
    protocol: str = "cddfuse",
    metrics: Sequence[str] | None = None,
    stretch: bool = False,
    prepare: Callable[[Loaded], Loaded] | None = None,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    problems: Iterable[str] = (),
) -> Evaluation:
    """Measure the fused images of all methods on all pairs.

    Images are measured as they would be read from 8-bit files; a file that cannot be read, or that
    has another size than its sources, becomes one of ``problems``, and all others are measured.

    Args:
        pairs: the sources.
        methods: of differing names.
        protocol: the definitions of the metrics.
        metrics: names; None takes the protocol's usual ones.
        stretch: spread each fused image over 0 ... 255 (min-max) before it is rounded and
            measured. Scripts of several papers do so; alone it can raise SD by a third.
        prepare: changes the sources, such as :func:`darkened`, before they are fused and measured.
        device: where to measure.
        progress: is told, as it goes, how many images are done and how many there are.
        problems: lines found before.

    Raises:
        InputError: unknown protocol or metric, no pairs, no methods, two methods of one name, or
            a folder where no image has the name of a pair.
    """
    entries = get_protocol(protocol).select(metrics)
    methods = list(methods)
    names = [method.name for method in methods]
    if not methods or not pairs:
        raise InputError("there is nothing to measure: give at least one pair and one method")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two methods are called {name!r}; give each its own name")
    problems = [*problems, *(line for method in methods for line in _unmatched(method, pairs))]
    columns = [entry.name for entry in entries]
    values_of: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    total = sum(method.has(pair) for pair in pairs for method in methods)
    done = 0
    for pair in pairs:
        present = [method for method in methods if method.has(pair)]
        try:
            loaded = load_pair(pair)
            if prepare is not None:
                loaded = prepare(loaded)
            sources = [_stack(image, device) for image in loaded]
            _check_sizes(pair, sources)
        except (ValueError, OSError) as error:
            problems.append(_line(pair.name, error))
            done, present = done + len(present), []
        for method in present:
            try:
                fused = _finished(method.fuse(pair, loaded), method.eight_bit, stretch)
                _check_fused(fused, sources[1])
                values = per_image(protocol, columns, fused[None].to(device), *sources)
            except (ValueError, OSError, RuntimeError) as error:
                problems.append(_line(f"{method.name}: {pair.name}", error))
            else:
                values_of[method.name][pair.name] = {
                    metric: float(value) for metric, value in values.items()
                }
            done += 1
            if progress is not None:
                progress(done, total)
    return Evaluation(
        protocol=get_protocol(protocol).name,
        higher_is_better={entry.name: entry.higher_is_better for entry in entries},
        stretch=stretch,
        scores=tuple(Scores(m.name, m.source, values_of[m.name]) for m in methods),
        problems=tuple(problems),
    )


def _unmatched(method: Method, pairs: Sequence[Pair]) -> list[str]:
    """Lines about pairs without fused image, and about fused images without pair."""
    if method.files is None:
        return list(method.problems)
    names = [pair.name for pair in pairs]
    if not method.files.keys() & set(names):
        raise InputError(
            f"{method.source}: no image there has the name of a pair (images: "
            f"{', '.join(sorted(method.files)[:3])}, ...; pairs: {', '.join(names[:3])}, ...); "
            "name fused images like their sources"
        )
    missing = [name for name in names if name not in method.files]
    strays = sorted(method.files.keys() - set(names))
    return [
        *method.problems,
        *(
            f"{_place(method.source, name)}: there is no fused image of this pair"
            for name in missing
        ),
        *(f"{method.files[name]}: belongs to no pair" for name in strays),
    ]


def _place(source: str, name: str) -> str:
    return source.replace("*", name) if is_pattern(source) else str(as_path(source) / name)


def stretched(image: Tensor) -> Tensor:
    """A float image with its least value at 0 and its greatest at 1; a constant one stays."""
    low, high = torch.aminmax(image)
    return image if low == high else (image - low) / (high - low)


def darkened(loaded: Loaded, ir: float = 1.0, vi: float = 1.0) -> Loaded:
    """Both images with their values multiplied; those of 8 bits are rounded to 8 bits again."""
    return Loaded(_dimmed(loaded.ir, ir), _dimmed(loaded.vi, vi))


def _dimmed(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return image
    dimmed: np.ndarray = image * np.float32(factor)
    return np.rint(dimmed).astype(np.uint8) if image.dtype == np.uint8 else dimmed


def _finished(fused: Tensor, eight_bit: bool, stretch: bool) -> Tensor:
    """The fused image as a file would hold it."""
    if stretch:
        fused = stretched(fused.double() / 255 if fused.dtype == torch.uint8 else fused)
    elif fused.dtype == torch.uint8 or not eight_bit:
        return fused
    return (fused * 255).round().to(torch.uint8)


def _stack(image: np.ndarray, device: torch.device | str | None) -> Tensor:
    """``(H, W)`` or ``(H, W, 3)`` as ``(1, C, H, W)`` of its own dtype."""
    planes = torch.from_numpy(image)
    planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
    return planes[None].to(device)


def _check_sizes(pair: Pair, sources: Sequence[Tensor]) -> None:
    ir, vi = (source.shape[-2:] for source in sources)
    if ir != vi:
        raise InputError(
            f"{pair.ir} is {_size(ir)} and {pair.vi} {_size(vi)} (width x height); register them"
        )


def _check_fused(fused: Tensor, source: Tensor) -> None:
    if fused.shape[-2:] != source.shape[-2:]:
        raise InputError(
            f"the fused image is {_size(fused.shape[-2:])} and its sources are "
            f"{_size(source.shape[-2:])} (width x height); fuse at the sources' size"
        )


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _line(what: str, error: Exception) -> str:
    return f"{what}: {error or type(error).__name__}"
