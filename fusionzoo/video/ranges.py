"""Which values of a stream are black and white: the same over time, or slowly changing.

A thermal camera's 16-bit frames have no fixed black and white. If each frame had its own, the
picture would pump: a hot object that enters would darken all the rest at once.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from fusionzoo.errors import check_choice
from fusionzoo.inference.ranges import Limits, find_limits
from fusionzoo.inference.sources import read_source

__all__ = ["RANGES", "TIME_CONSTANT", "StreamRange"]

#: How ``lo`` and ``hi`` of a stream are found; see :class:`StreamRange`.
RANGES = ("follow", "fixed", "each")
#: Seconds after which a following range has made 63 % of a small sudden change.
TIME_CONSTANT = 2.0


class StreamRange:
    """The values of one stream that become black and white, frame by frame.

    What a single frame would have is what pictures have
    (:func:`fusionzoo.inference.fuse_images`): all of 8-bit frames, [0, 1] of floats in it, the 0.5
    and 99.5 percentiles of others.

    Args:
        how: ``"follow"`` moves ``lo`` and ``hi`` towards those of the frame, exponentially in
            time, by :data:`TIME_CONSTANT`, and never faster than ``hi - lo`` in that time;
            ``"fixed"`` keeps those of the first frame;
            ``"each"`` gives each frame its own, as for pictures.
        given: ``(lo, hi)`` that hold for all frames, whatever ``how`` says.

    Raises:
        InputError: ``how`` is none of :data:`RANGES`.
    """

    def __init__(self, how: str = "follow", given: Limits | None = None) -> None:
        check_choice("ranges", how, RANGES)
        self._how = how
        self._given = given
        self._now: Limits | None = None

    def keep(self, limits: Limits) -> None:
        """Begin with these limits instead of the first frame's."""
        self._now = limits

    def at(self, image: Any, name: str, passed: float) -> Limits | None:
        """Return ``(lo, hi)`` of the next frame; None leaves it to the frame itself.

        Args:
            image: the frame: an array, a tensor, a PIL image or a reading.
            name: of the stream, for errors.
            passed: seconds since the frame before.
        """
        if self._given is not None or self._how == "each":
            return self._given
        if self._now is not None and self._how == "fixed":
            return self._now
        source = read_source(image, name)
        every = [source.limits] if source.limits else find_limits(source.colors, name)
        # The images of a batch are shown alike.
        found = fmean(low for low, _ in every), fmean(high for _, high in every)
        if self._now is None:
            self._now = found
        elif found != self._now:
            step = 1 - math.exp(-max(passed, 0.0) / TIME_CONSTANT)
            span = self._now[1] - self._now[0]
            low, high = (
                old + step * min(max(new - old, -span), span)
                for old, new in zip(self._now, found, strict=True)
            )
            self._now = low, high
        return self._now
