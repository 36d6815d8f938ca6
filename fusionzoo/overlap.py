"""Reading, computing and writing at the same time: an iterator that works ahead in a thread.

Stages are put in each other: ``ahead(map(fuse, ahead(read())))`` reads in one thread, fuses in
another, and leaves the results to the caller's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

__all__ = ["ahead"]

_Item = TypeVar("_Item")

# How long a thread waits before it looks whether it is still needed. On Windows a wait without an
# end would not notice Ctrl-C.
_PATIENCE = 0.2


class _End:
    """The last thing in a queue: no more items, or the error that ended them."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterable[_Item], limit: int = 2) -> Generator[_Item, None, None]:
    """Yield the items in order, while a thread takes up to ``limit`` more of them in advance.

    At most ``limit + 2`` items exist at once: those that wait, one that is being made, and one
    that the caller has. The thread starts with the first item that is asked for.

    An error of ``items`` is raised after the items before it. If the generator is closed or
    dropped early, the thread stops after the item that it is making, and closes ``items`` if that
    is a generator.

    Args:
        items: what to take in advance, in one thread of its own.
        limit: how many items may wait, at least 1.
    """
    waiting: queue.Queue[Any] = queue.Queue(limit)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_take, args=(items, waiting, stopped), name="fusionzoo", daemon=True
    )
    thread.start()
    try:
        while True:
            try:
                item = waiting.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
            del item  # or it would be kept until the next one is there
    finally:
        stopped.set()
        thread.join()


def _take(items: Iterable[Any], waiting: queue.Queue[Any], stopped: threading.Event) -> None:
    end = _End()
    try:
        for item in items:
            if not _put(waiting, item, stopped):
                break
            del item
    except BaseException as error:  # raised where the items are used
        end = _End(error)
    try:
        close = getattr(items, "close", None) if isinstance(items, Generator) else None
        if close is not None:
            close()
    except BaseException as error:
        end = _End(error)
    _put(waiting, end, stopped)


def _put(waiting: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=_PATIENCE)
            return True
        except queue.Full:
            continue
    return False
