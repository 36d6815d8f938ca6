"""Which frame of one stream belongs to which of the other: the nearest in time."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

from fusionzoo.errors import InputError
from fusionzoo.video.sources import LiveSource, Picture, Source

__all__ = ["matched", "nearest_in_time"]


def matched(
    lead: Source, follow: Source, offset: float = 0.0
) -> Generator[tuple[Picture, Picture], None, None]:
    """Pair each frame of the leading stream with the nearest of the other.

    Frames of files count from each file's first frame, those of live streams by their arrival.

    Args:
        lead: gives the times.
        follow: may have another frame rate.
        offset: the time of the leading stream at which the other one began, in seconds.

    Raises:
        InputError: one stream is live and the other is not; or reading fails.
    """
    if isinstance(lead, LiveSource) or isinstance(follow, LiveSource):
        if not (isinstance(lead, LiveSource) and isinstance(follow, LiveSource)):
            raise InputError(
                f"{lead.name} and {follow.name}: one is live and the other is not; record the live "
                "one first"
            )
        return _live(lead, follow, offset)
    frame = 1 / float(follow.rate or 25)
    return nearest_in_time(lead, follow, offset, frame)


def nearest_in_time(
    lead: Iterable[Picture], follow: Iterable[Picture], offset: float, frame: float
) -> Generator[tuple[Picture, Picture], None, None]:
    """Pair each leading picture with the nearest of the other stream, which lasts ``frame`` s.

    Leading pictures before the first and after the last of the other stream are left out.
    """
    almost = 0.99 * frame  # time stamps are rounded
    with closing(_generator(lead)) as leading, closing(_generator(follow)) as following:
        before: Picture | None = None
        after: Picture | None = next(following, None)
        for picture in leading:
            time = picture.time - offset
            while after is not None and after.time <= time:
                before, after = after, next(following, None)
            if before is None:
                if after is None:
                    return
                if after.time - time > almost:
                    continue
                nearest = after
            elif after is None:
                if time - before.time > almost:
                    return
                nearest = before
            else:
                nearest = before if time - before.time <= after.time - time else after
            yield picture, nearest


def _generator(pictures: Iterable[Picture]) -> Generator[Picture, Any, None]:
    yield from pictures


def _live(
    lead: LiveSource, follow: LiveSource, offset: float
) -> Generator[tuple[Picture, Picture], None, None]:
    start: float | None = None
    try:
        for picture in lead:
            nearest = follow.nearest(picture.time - offset)
            if nearest is None:
                return
            start = picture.time if start is None else start
            yield Picture(picture.time - start, picture.image), nearest
    finally:
        lead.close()
        follow.close()
