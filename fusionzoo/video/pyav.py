"""PyAV, the bindings of FFmpeg's libraries: imported when a video is opened, and missed clearly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fusionzoo.errors import InputError, MissingFileError

__all__ = ["damage_told", "import_av", "reason_of"]


def import_av() -> Any:
    """Return the module ``av``.

    Raises:
        MissingFileError: PyAV is not installed; the message says how to install it.
    """
    try:
        import av
        import av.error
    except ImportError as error:
        raise MissingFileError(
            "videos need PyAV, which is not installed; run: pip install 'fusionzoo[video]'"
        ) from error
    av.logging.set_level(None)  # what matters is raised, and told once
    return av


@contextmanager
def damage_told(name: str, what: str) -> Iterator[None]:
    """Turn errors of FFmpeg's libraries within the block into one that names the stream.

    Raises:
        InputError: ``name: what (FFmpeg's reason)``.
    """
    av = import_av()
    try:
        yield
    except av.error.FFmpegError as error:
        raise InputError(f"{name}: {what} ({reason_of(error)})") from error


def reason_of(error: Any) -> str:
    """Return what FFmpeg's libraries say of an error; that of a time-out speaks of an exit."""
    if isinstance(error, import_av().error.ExitError):
        return "nothing came in time"
    return str(error.strerror or error).strip()
