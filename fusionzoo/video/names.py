"""What is called like a video; nothing is opened to find out."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["CAMERA", "LIVE_SCHEMES", "NUMBER", "SCHEME", "VIDEO_ENDINGS", "is_video"]

#: File endings that are taken for videos, in lower case.
VIDEO_ENDINGS = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".ts", ".m2ts", ".mts"),
        *(".mpg", ".mpeg", ".wmv", ".flv", ".y4m", ".mxf", ".3gp"),
    )
)
#: The beginning of a network stream's address.
SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
#: Of network streams; other addresses are those of files (`fusionzoo.remote`).
LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtp", "udp", "tcp", "srt")
#: The place of the number in the pattern of an image sequence.
NUMBER = re.compile(r"%(0\d+)?d")
#: A camera, by its device or number.
CAMERA = re.compile(r"/dev/video\d+|\d+")


def is_video(where: object) -> bool:
    """Whether this names a video, an image sequence, a camera or a network stream."""
    text = os.fspath(where) if isinstance(where, os.PathLike) else str(where)
    if os.path.isdir(text):
        return False
    if Path(text).suffix.lower() in VIDEO_ENDINGS:
        return True
    if "://" in text:
        scheme = SCHEME.match(text)
        return scheme is not None and scheme[1].lower() in LIVE_SCHEMES
    if text.startswith("/dev/video"):
        return True
    named = CAMERA.fullmatch(text) or NUMBER.search(text)
    return named is not None and not os.path.exists(text)
