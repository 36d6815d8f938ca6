"""Streams of pairs, and videos: frames are matched, fused and encoded as they come.

PyAV, the extra ``fusionzoo[video]``, is imported when a video is opened.
"""

from fusionzoo.video.stream import fuse_stream

__all__ = ["fuse_stream"]
