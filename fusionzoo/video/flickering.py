"""Flicker: how much more a fused video changes from frame to frame than its sources do."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusionzoo.errors import InputError
from fusionzoo.video.matching import matched, nearest_in_time
from fusionzoo.video.planes import deep_values, grey_values
from fusionzoo.video.ranges import StreamRange
from fusionzoo.video.sources import LiveSource, Picture, open_source

__all__ = ["Flicker", "flicker"]


@dataclass
class Flicker:
    """Adds up the changes of frames that :meth:`add` is given in order.

    The figure is the sum over all pairs of consecutive frames and all pixels of ``|dF|``, the
    absolute change of the fused frame, divided by that of ``max(|dIR|, |dVI|)``, the larger change
    of the two sources at the same pixel. 1 is as lively as the sources; a static scene whose
    fused frames change has no end (inf). Frames are luma in [0, 1].

    Attributes:
        fused: sum of mean ``|dF|``.
        sources: sum of mean ``max(|dIR|, |dVI|)``.
        frames: how many frames were added.
    """

    fused: float = 0.0
    sources: float = 0.0
    frames: int = 0
    _last: tuple[np.ndarray, ...] | None = field(default=None, init=False, repr=False)

    def add(self, fused: np.ndarray, ir: np.ndarray, vi: np.ndarray) -> None:
        """Add the next frame: three arrays ``(H, W)`` of one size, in [0, 1].

        Raises:
            InputError: the sizes differ.
        """
        if not fused.shape == ir.shape == vi.shape:
            shapes = ", ".join(f"{one.shape[1]} x {one.shape[0]}" for one in (fused, ir, vi))
            raise InputError(
                f"the fused, infrared and visible frames are {shapes} (width x height); give "
                "videos of one size"
            )
        if self._last is not None:
            frames = zip((fused, ir, vi), self._last, strict=True)
            changes = [np.abs(now - last) for now, last in frames]
            self.fused += float(changes[0].mean())
            self.sources += float(np.maximum(changes[1], changes[2]).mean())
        self._last = fused, ir, vi
        self.frames += 1

    @property
    def figure(self) -> float:
        """Change of the fused frames by that of the sources; nan for less than two frames."""
        if self.frames < 2:
            return float("nan")
        if self.sources == 0:
            return 1.0 if self.fused == 0 else float("inf")
        return self.fused / self.sources


def flicker(
    fused: str | os.PathLike[str],
    ir: str | os.PathLike[str],
    vi: str | os.PathLike[str],
    *,
    offset: float = 0.0,
    fps: float = 25.0,
) -> Flicker:
    """Measure the flicker of a fused video against the videos that it was made of.

    Frames are matched by their times, as :func:`fusionzoo.video.fuse_video` matches them; 16-bit
    grey streams are shown by ranges that follow slowly.

    Args:
        fused: video file or pattern of numbered images.
        ir: of the infrared stream.
        vi: of the visible stream.
        offset: that fusing was told.
        fps: frames per second of numbered images.

    Raises:
        InputError, MissingFileError, FileError: naming the file, the problem and the remedy.
    """
    sources = [open_source(path, fps) for path in (vi, ir, fused)]
    for source in sources:
        if isinstance(source, LiveSource):
            source.close()
            raise InputError(f"{source.name} is live; flicker is measured of files")
    visible, infrared, result = sources
    ranges = [StreamRange("follow") for _ in sources]
    found = Flicker()

    def unit(picture: Picture, number: int, passed: float) -> np.ndarray:
        return _unit(picture.image, sources[number].name, ranges[number], passed)

    def pairs() -> Generator[Picture, None, None]:
        # A file counts from its first frame, and the first frame of the fused one is that of the
        # first pair.
        start: float | None = None
        for lead, other in matched(visible, infrared, offset):
            start = lead.time if start is None else start
            yield Picture(lead.time - start, (lead, other))

    frame = 1 / float(visible.rate or 25)
    before = 0.0
    for both, made in nearest_in_time(pairs(), result, 0.0, frame):
        lead, other = both.image
        passed, before = both.time - before, both.time
        found.add(unit(made, 2, passed), unit(other, 1, passed), unit(lead, 0, passed))
    return found


def _unit(image: Any, name: str, stream_range: StreamRange, passed: float) -> np.ndarray:
    """Luma in [0, 1], float32."""
    values = deep_values(image)
    if values is None:
        grey = grey_values(image)
        return grey.astype(np.float32) / np.iinfo(grey.dtype).max
    limits = stream_range.at(values, name, passed)
    assert limits is not None, "a following range is always there"
    low, high = limits
    unit: np.ndarray = ((values.astype(np.float32) - low) / (high - low)).clip(0, 1)
    return unit
