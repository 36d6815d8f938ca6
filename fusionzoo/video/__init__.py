"""Streams of pairs, and videos: frames are matched, fused and encoded as they come.

PyAV, the extra ``fusionzoo[video]``, is imported when a video is opened; torch when something
here is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusionzoo.lazy import lazily

if TYPE_CHECKING:
    from fusionzoo.video.flickering import Flicker, flicker
    from fusionzoo.video.fusing import FusedVideo, fuse_video
    from fusionzoo.video.stream import fuse_stream
    from fusionzoo.video.window import Window

__all__ = ["Flicker", "FusedVideo", "Window", "flicker", "fuse_stream", "fuse_video"]

_HOMES = {
    "Flicker": "fusionzoo.video.flickering",
    "flicker": "fusionzoo.video.flickering",
    "FusedVideo": "fusionzoo.video.fusing",
    "fuse_stream": "fusionzoo.video.stream",
    "fuse_video": "fusionzoo.video.fusing",
    "Window": "fusionzoo.video.window",
}


__getattr__, __dir__ = lazily(__name__, _HOMES)
