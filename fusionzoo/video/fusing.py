"""Two videos to one: decoding, fusing and encoding at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusionzoo.alignment import Alignment, Register, registration_once
from fusionzoo.errors import FusionZooError, InputError, check_choice, warn
from fusionzoo.inference import check_options
from fusionzoo.inference.ranges import Limits, check_range
from fusionzoo.overlap import ahead
from fusionzoo.video.matching import matched
from fusionzoo.video.planes import (
    Tags,
    canvas,
    deep_values,
    grey_values,
    luma_limits,
    neutral,
    plane,
    rgb_of,
    tags_of,
    with_luma,
)
from fusionzoo.video.ranges import StreamRange
from fusionzoo.video.sources import ImageSequence, LiveSource, Picture, Source, open_source
from fusionzoo.video.writer import NoFile, VideoWriter, check_output

__all__ = ["FusedVideo", "fuse_video"]

# From how many frames, all over the file, a fixed range is found.
_SAMPLES = 16
# How many pairs, and how many fused frames, may wait.
_WAITING = 2


@dataclass(frozen=True)
class FusedVideo:
    """What :func:`fuse_video` has written.

    Attributes:
        path: the file; None if there is none.
        frames: how many it holds, or were fused.
        seconds: when the last one is shown.
    """

    path: Path | None
    frames: int
    seconds: float


def fuse_video(
    model: Any,
    ir: str | os.PathLike[str],
    vi: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    *,
    offset: float = 0.0,
    fps: float = 25.0,
    ranges: str = "follow",
    ir_range: tuple[float, float] | None = None,
    vi_range: tuple[float, float] | None = None,
    resize: str | None = None,
    align: bool | Alignment | str | os.PathLike[str] | None = None,
    force: bool = False,
    track: bool = False,
    color: bool = True,
    codec: str | None = None,
    crf: int | None = None,
    pix_fmt: str | None = None,
    overwrite: bool = False,
    duration: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    show: Callable[[np.ndarray, float], bool | None] | None = None,
) -> FusedVideo:
    """Fuse an infrared with a visible video, and write or show the result.

    **Streams.** Each is a video file, a pattern of image files (``frames/ir_%05d.png``), a camera
    (``/dev/video0`` or its number, on Linux), or an address (``rtsp://``, ``udp://``, ...). Both
    are live, or neither is.

    **Matching.** The visible stream leads (with a medical model, the functional one): the result
    has its frames, times, size, colour and sound. To each of its frames belongs the nearest frame
    of the other stream in time. Leading frames before the other stream's begin and after its end
    are left out. Of live streams, frames that cannot be fused in time are left out.

    **Colour.** The network sees luma as the leading stream stores it. Chroma is copied, and so are
    the tags of colour space and range; RGB and image files become BT.709 of limited range.

    **Values.** 8-bit and colour video has a black and a white of its own. Grey video of more than
    8 bits has not; ``ranges`` says how they are found. ``"follow"`` moves them slowly (time
    constant 2 s), so that a hot object or the camera's own gain does not make the picture pump;
    ``"fixed"`` takes the mean of 16 frames from all over the file (live: the first frame);
    ``"each"`` looks at each frame alone.

    **Memory.** At most ten pairs of frames and as many results are in memory, besides what the
    network and the encoder need; it does not grow with the length of the video.

    **Ends.** The file is written under a temporary name, and gets its own when it is finished. If
    a stream breaks, or on ``KeyboardInterrupt``, what is fused is finished and kept before the
    error is raised. A killed process leaves nothing under the final name.

    Args:
        model: a loaded model, or what ``zoo.load_network`` returns.
        ir: the infrared stream.
        vi: the visible stream.
        out: the file to write: .mp4, .mov, .avi (H.264 by default), .mkv (FFV1) or .webm (VP9).
            None writes none, where ``show`` is given.
        offset: the time of the visible stream, in seconds, at which the infrared one began.
        fps: frames per second of image sequences.
        ranges: ``"follow"``, ``"fixed"`` or ``"each"``.
        ir_range: ``(lo, hi)`` of the infrared stream that become black and white, for all frames;
            of 8-bit video in 0 ... 255.
        vi_range: the same of the visible stream.
        resize: ``"ir"`` or ``"vi"`` scales that stream to the other's size, if they differ.
        align: brings the infrared stream onto the visible one, whatever its size: an
            :class:`fusionzoo.Alignment`, the path of one that was saved, or True to estimate it
            on the first pair of frames, for all.
        force: with ``align=True``: take the estimate even if its confidence is low.
        track: with ``align``: follow cameras that move slowly against each other.
        color: False gives a grey video.
        codec: h264, hevc, vp9, av1 or ffv1 (without loss).
        crf: quality, lower is better; h264: 0 ... 51, 18 by default.
        pix_fmt: FFmpeg's name, such as yuv420p (the default), yuv444p, yuv420p10le, gray. FFV1
            takes that of the leading stream by default.
        overwrite: replace a file that exists.
        duration: stop after so many seconds of the leading stream.
        progress: called with the number of frames written and that of all, if it is known.
        show: called in this thread with each fused frame, RGB uint8 ``(H, W, 3)``, and its time in
            seconds. If it gives False, that is the end of the stream: what was read is finished.
            :class:`fusionzoo.video.Window` has such a method.

    Raises:
        InputError, InputTypeError, MissingFileError, FileError, OutOfMemoryError: naming the file
            or argument, the problem, the remedy, and what was kept.
    """
    check_options(color=color, ir_range=ir_range, vi_range=vi_range, resize=resize)
    register = registration_once(align, force=force, track=track)
    for name, value in (("offset", offset), ("fps", fps), ("duration", duration or 1)):
        if not -1e9 < value < 1e9 or (name != "offset" and value <= 0):
            raise InputError(f"{name}={value!r}; pass a number of seconds or frames above 0")
    check_choice("ranges", ranges, ("follow", "fixed", "each"))
    if out is None and show is None:
        raise InputError("out=None goes with show; name a file, or pass a function that shows")
    out = None if out is None else Path(out)
    if out is not None:
        codec = check_output(out, codec, crf, pix_fmt, overwrite)
    color_from = _color_from(model)
    names = {"ir": ir, "vi": vi}
    sides = ("vi", "ir") if color_from == "vi" else ("ir", "vi")
    if out is not None:
        _spare(out, ir, vi)
    sources: dict[str, Source] = {}
    try:
        for side in sides:
            sources[side] = open_source(names[side], fps)
            if out is not None and isinstance(file := sources[side], ImageSequence):
                _spare(out, *(path for _, path in file.files))
        lead, follow = (sources[side] for side in sides)
        pairs = matched(lead, follow, offset if color_from == "vi" else -offset)
        given = {"ir": check_range(ir_range, "ir_range"), "vi": check_range(vi_range, "vi_range")}
        stream_ranges = {side: StreamRange(ranges, given[side]) for side in sides}
        if ranges == "fixed":
            for side in sides:
                _fix(stream_ranges[side], sources[side], side)
    except BaseException:
        for source in sources.values():
            if isinstance(source, LiveSource):
                source.close()
        raise
    writer: VideoWriter | NoFile = NoFile()
    if out is not None:
        assert codec is not None, "the check gives the codec"
        writer = VideoWriter(
            out, codec, crf=crf, pix_fmt=pix_fmt, rate=lead.rate,
            audio_from=lead.name if lead.audio else None,
            aspect=None if resize == sides[0] else lead.aspect,
        )  # fmt: skip
    job = _Job(
        fuse=model.prepared() if hasattr(model, "prepared") else model,
        sides=sides, names=(lead.name, follow.name), given=given, ranges=stream_ranges,
        resize=resize, register=register, color=color, writer=writer,
    )  # fmt: skip
    total = lead.count
    if duration is not None:
        total = None if lead.rate is None else min(total or 10**9, int(duration * lead.rate) + 1)
        pairs = _until(pairs, duration)
    closed = threading.Event()
    pairs = _while_open(pairs, closed)
    seconds = 0.0
    try:
        with closing(ahead(job.written(pairs), _WAITING)) as written:
            for number, seconds, frame in written:
                if progress is not None:
                    progress(number, total)
                if (
                    show is not None
                    and not closed.is_set()
                    and show(rgb_of(frame), seconds) is False
                ):
                    closed.set()
    except KeyboardInterrupt:
        if progress is not None and writer.frames:
            progress(writer.frames, total)
        raise
    except FusionZooError as error:
        if not writer.frames or out is None or not out.exists():
            raise
        kept = f"; the {writer.frames} frames before that are in {out}"
        raise type(error)(f"{error}{kept}") from error
    if not writer.frames:
        raise InputError(
            f"{lead.name} and {follow.name} have no time in common at offset {offset:g} s; "
            "nothing was written"
        )
    return FusedVideo(out, writer.frames, seconds)


def _color_from(model: Any) -> str:
    if hasattr(model, "prepared"):
        return str(model.color_from)
    return str(getattr(model, "keywords", {}).get("color_from", "vi"))


def _spare(out: Path, *sources: str | os.PathLike[str]) -> None:
    """Refuse to write over what is read."""
    for source in sources:
        if out.exists() and os.path.exists(source) and out.samefile(source):
            raise InputError(f"{out} is one of the videos to fuse; name another file")


def _fix(stream_range: StreamRange, source: Source, side: str) -> None:
    found: list[Limits] = []
    for picture in source.sample(_SAMPLES):
        values = deep_values(picture.image)
        if values is not None:
            limits = StreamRange("fixed").at(values, side, 0.0)
            assert limits is not None, "each frame has a range"
            found.append(limits)
    if found:
        low, high = np.mean(found, axis=0)
        stream_range.keep((float(low), float(high)))


def _until(
    pairs: Generator[tuple[Picture, Picture], None, None], duration: float
) -> Generator[tuple[Picture, Picture], None, None]:
    with closing(pairs):
        first: float | None = None
        for pair in pairs:
            first = pair[0].time if first is None else first
            if pair[0].time - first >= duration:
                return
            yield pair


def _while_open(
    pairs: Generator[tuple[Picture, Picture], None, None], closed: threading.Event
) -> Generator[tuple[Picture, Picture], None, None]:
    with closing(pairs):
        for pair in pairs:
            if closed.is_set():
                return
            yield pair


@dataclass(frozen=True)
class _Ready:
    """A pair as the network takes it, and what the way back to a frame needs."""

    time: float
    values: tuple[np.ndarray, np.ndarray]  # leading, following
    limits: tuple[Limits | None, Limits | None]
    base: Any  # gives the chroma; None where there is none
    tags: Tags


@dataclass(frozen=True)
class _Job:
    fuse: Callable[..., Any]
    sides: tuple[str, str]  # of the leading stream, and of the other
    names: tuple[str, str]
    given: dict[str, Limits | None]
    ranges: dict[str, StreamRange]
    resize: str | None
    register: Register | None
    color: bool
    writer: VideoWriter | NoFile

    def written(
        self, pairs: Generator[tuple[Picture, Picture], None, None]
    ) -> Generator[tuple[int, float, Any], None, None]:
        """Write all frames; gives the number and time of each. Whatever ends it, the file is whole.

        This and the stages below run in a thread each, so that Ctrl-C never meets the encoder.
        """
        try:
            with closing(ahead(self._fused(pairs), _WAITING)) as frames:
                for frame, one in frames:
                    self.writer.write(frame, one.time, one.tags)
                    yield self.writer.frames, one.time, frame
        finally:
            self.writer.finish()

    def _fused(
        self, pairs: Generator[tuple[Picture, Picture], None, None]
    ) -> Generator[tuple[Any, _Ready], None, None]:
        with closing(ahead(self._ready(pairs), _WAITING)) as ready:
            told = False
            for one in ready:
                frame, size = self._frame(one)
                if (frame.height, frame.width) != size and not told:
                    told = True
                    warn(
                        f"{self.writer.path}: {size[1]} x {size[0]} (width x height) is odd, and "
                        f"{frame.format.name} takes even sizes: the last row or column is left "
                        "out; yuv444p keeps it"
                    )
                yield frame, one

    def _ready(
        self, pairs: Generator[tuple[Picture, Picture], None, None]
    ) -> Generator[_Ready, None, None]:
        with closing(pairs):
            before = 0.0
            for lead, follow in pairs:
                yield self._prepared(lead, follow, lead.time - before)
                before = lead.time

    def _prepared(self, lead: Picture, follow: Picture, passed: float) -> _Ready:
        pix_fmt = self.writer.pix_fmt_for(lead.image)
        tags, base = tags_of(lead.image), None
        first, first_limits = self._deep(lead, 0, passed)
        second, second_limits = self._deep(follow, 1, passed)
        if second is None:
            second = grey_values(follow.image)
            second_limits = _in_units(self.given[self.sides[1]], second)
        if first is None:
            size = second.shape if self.resize == self.sides[0] else None
            base = canvas(lead.image, pix_fmt, size)
            first = plane(base, 0)
            black, white = luma_limits(pix_fmt, tags)
            low, high = self.given[self.sides[0]] or (0.0, 255.0)
            scale = (white - black) / 255
            first_limits = black + low * scale, black + high * scale
        return _Ready(lead.time, (first, second), (first_limits, second_limits), base, tags)

    def _deep(
        self, picture: Picture, number: int, passed: float
    ) -> tuple[np.ndarray | None, Limits | None]:
        values = deep_values(picture.image)
        if values is None:
            return None, None
        limits = self.ranges[self.sides[number]].at(values, self.names[number], passed)
        # With a range of its own for each frame, that of this one.
        return values, limits or StreamRange("fixed").at(values, self.names[number], passed)

    def _frame(self, one: _Ready) -> tuple[Any, tuple[int, int]]:
        """The fused frame, and the height and width that it would have with nothing left out."""
        by_side = dict(zip(self.sides, range(2), strict=True))
        ir, vi = by_side["ir"], by_side["vi"]
        shapes = [values.shape for values in one.values]
        if shapes[0] != shapes[1] and self.resize is None and self.register is None:
            told = " and ".join(
                f"{name} is {shape[1]} x {shape[0]}"
                for name, shape in zip(self.names, shapes, strict=True)
            )
            raise InputError(
                f"{told} (width x height); give videos of one size that show the same scene, or "
                "resize='ir' or resize='vi' to scale that one to the other's size, or align=True"
            )
        luma = self.fuse(
            one.values[ir], one.values[vi], ir_range=one.limits[ir], vi_range=one.limits[vi],
            resize=self.resize if shapes[0] != shapes[1] else None, register=self.register,
        )  # fmt: skip
        writer = self.writer
        pix_fmt = writer.pix_fmt_for(None)
        even = writer.even
        if one.base is not None:
            frame = with_luma(one.base, luma, pix_fmt, even=even, color=self.color)
            return frame, luma.shape
        assert one.limits[0] is not None, "frames without a black and a white have a range"
        low, high = one.limits[0]
        black, white = luma_limits(pix_fmt, one.tags)
        scaled = (luma.astype(np.float64) - low) / (high - low) * (white - black) + black
        kind = plane(neutral(np.zeros((2, 2)), pix_fmt, even=False), 0).dtype
        scaled = np.rint(scaled.clip(black, white)).astype(kind)
        return neutral(scaled, pix_fmt, even=even), luma.shape


def _in_units(given: Limits | None, grey: np.ndarray) -> Limits | None:
    """A range that is given in 0 ... 255, in the units of the grey values."""
    if grey.dtype == np.uint8:
        return given
    low, high = given or (0.0, 255.0)
    return low * 257, high * 257
