"""Any stream of pairs through a network: read, fused and used at the same time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from fusionzoo.errors import InputError, InputTypeError
from fusionzoo.inference.options import check_count
from fusionzoo.inference.ranges import check_range
from fusionzoo.overlap import ahead
from fusionzoo.readers import decode
from fusionzoo.readers.content import FILE_KINDS
from fusionzoo.video.ranges import StreamRange

__all__ = ["fuse_stream"]

# What a following range takes for the time between two pairs, which have no time stamps here.
_SECONDS_PER_PAIR = 1 / 25


def fuse_stream(
    fuse: Callable[..., Any],
    pairs: Iterable[tuple[Any, Any]],
    *,
    ranges: str = "follow",
    ir_range: tuple[float, float] | None = None,
    vi_range: tuple[float, float] | None = None,
    lookahead: int = 2,
    **options: Any,
) -> Generator[Any, None, None]:
    """Yield the fused image of each pair, in order; the contract behind ``model.stream``.

    One thread takes pairs from ``pairs`` and decodes files, a second one fuses, and the caller's
    own uses the results, all at the same time. At most ``lookahead + 2`` pairs and as many results
    are in memory, however long the stream is.

    An error of ``pairs`` or of a pair is raised after the results before it, and ends the stream.
    Closing the generator, or dropping it, stops both threads after what they are doing, and closes
    ``pairs`` if that is a generator.

    Args:
        fuse: fuses one pair, as ``model.prepared()`` or ``zoo.load_network()`` give it.
        pairs: of ``(ir, vi)``, each anything that ``fuse`` takes.
        ranges: how the values that become black and white are found, for 16-bit and float images
            without ``ir_range`` or ``vi_range``: ``"follow"`` lets them change slowly, by 2 % of
            the way a pair; ``"fixed"`` takes those of the first pair; ``"each"`` gives each image
            its own, for pairs that have nothing to do with each other.
        ir_range: ``(lo, hi)`` of all infrared images.
        vi_range: ``(lo, hi)`` of all visible images.
        lookahead: how many pairs, and how many results, may wait.
        options: other options of ``fuse``, such as ``color`` and ``resize``.

    Raises:
        InputError, InputTypeError, MissingFileError, FileError, OutOfMemoryError: as ``fuse``; or
            an item of ``pairs`` is no pair. Wrong options are refused at once, before the first
            result is asked for.
    """
    check_count("lookahead", lookahead)
    given = {"ir": check_range(ir_range, "ir_range"), "vi": check_range(vi_range, "vi_range")}
    limits = {side: StreamRange(ranges, given[side]) for side in ("ir", "vi")}

    def read() -> Generator[tuple[Any, Any], None, None]:
        try:
            for number, pair in enumerate(pairs):
                yield _opened(pair, number)
        finally:
            if isinstance(pairs, Generator):
                pairs.close()

    def fused() -> Generator[Any, None, None]:
        reading = ahead(read(), lookahead)
        try:
            for ir, vi in reading:
                yield fuse(
                    ir,
                    vi,
                    ir_range=limits["ir"].at(ir, "ir", _SECONDS_PER_PAIR),
                    vi_range=limits["vi"].at(vi, "vi", _SECONDS_PER_PAIR),
                    **options,
                )
        finally:
            reading.close()

    return ahead(fused(), lookahead)


def _opened(pair: Any, number: int) -> tuple[Any, Any]:
    """The pair, with files decoded: that is the reading thread's work."""
    try:
        ir, vi = pair
    except (TypeError, ValueError):
        raise InputTypeError(
            f"pairs[{number}] is no pair (ir, vi) but a {type(pair).__name__}; give tuples of two"
        ) from None
    for image, side in ((ir, "ir"), (vi, "vi")):
        if isinstance(image, list | tuple):
            raise InputError(
                f"pairs[{number}]: {side} is a list; a stream takes one pair at a time"
            )
    ir, vi = (
        decode(image, f"{side}[{number}]") if isinstance(image, FILE_KINDS) else image
        for image, side in ((ir, "ir"), (vi, "vi"))
    )
    return ir, vi
