"""Encoded video files: whole under their final name, or not there."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from fusionzoo.errors import FileError, InputError, MissingFileError, check_choice, warn
from fusionzoo.files import temporary_name
from fusionzoo.video.planes import Tags, check_pix_fmt, own_pix_fmt, tag
from fusionzoo.video.pyav import import_av

__all__ = ["CODECS", "CONTAINERS", "NoFile", "VideoWriter", "check_output"]


@dataclass(frozen=True)
class Codec:
    """An encoder and its defaults.

    Attributes:
        encoder: FFmpeg's name.
        crf: default of the constant rate factor, lower is better; None if it is without loss.
        worst: the largest factor.
        even: sizes have to be even where chroma is at half size.
        options: other options of the encoder.
    """

    encoder: str
    crf: int | None
    worst: int = 0
    even: bool = True
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec("libx264", 18, 51),
    "hevc": Codec("libx265", 20, 51, options=(("x265-params", "log-level=none"),)),
    "vp9": Codec("libvpx-vp9", 24, 63, even=False, options=(("b", "0"), ("row-mt", "1"))),
    "av1": Codec("libsvtav1", 25, 63),
    # Every frame a key frame, with a checksum: what archives ask for.
    "ffv1": Codec(
        "ffv1", None, even=False, options=(("level", "3"), ("g", "1"), ("slicecrc", "1"))
    ),
}
#: File ending: FFmpeg's name of the container, and the codec by default.
CONTAINERS = {
    ".mp4": ("mp4", "h264"),
    ".mov": ("mov", "h264"),
    ".mkv": ("matroska", "ffv1"),
    ".avi": ("avi", "h264"),
    ".webm": ("webm", "vp9"),
}
_TICKS = Fraction(1, 90_000)
# Audio that begins this much before the first frame is still part of it.
_AUDIO_LEAD = 0.25


def check_output(
    path: Path, codec: str | None, crf: int | None, pix_fmt: str | None, overwrite: bool
) -> str:
    """Refuse what cannot be written before anything is read; returns the codec.

    Raises:
        InputError: an unknown ending, codec or pixel format, values that do not fit each other,
            or a file that exists.
        MissingFileError: the folder does not exist.
    """
    if path.suffix.lower() not in CONTAINERS:
        known = ", ".join(CONTAINERS)
        raise InputError(f"{path}: {path.suffix or 'no ending'!r} is not written; use {known}")
    container, default = CONTAINERS[path.suffix.lower()]
    codec = codec or default
    check_choice("codec", codec, CODECS)
    av = import_av()
    known_to_container = _supported(container)
    if codec not in known_to_container:
        fitting = [name for name in CODECS if name in known_to_container]
        raise InputError(f"{path}: {path.suffix} does not hold {codec}; use {', '.join(fitting)}")
    entry = CODECS[codec]
    if crf is not None:
        if entry.crf is None:
            raise InputError(f"{codec} is without loss; leave crf out, or use another codec")
        if not 0 <= crf <= entry.worst:
            raise InputError(f"crf is {crf}; {codec} takes 0 (best) to {entry.worst}")
    try:
        encoder = av.Codec(entry.encoder, "w")
    except ValueError:
        raise InputError(
            f"this PyAV has no encoder {entry.encoder} for {codec}; use another codec"
        ) from None
    if pix_fmt is not None:
        check_pix_fmt(pix_fmt)
        formats = [one.name for one in encoder.video_formats or ()]
        if formats and pix_fmt not in formats:
            usual = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le", "gray")
            fitting = [name for name in usual if name in formats]
            raise InputError(f"{codec} does not take {pix_fmt}; use {', '.join(fitting)}")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.exists():
        if not path.is_file():
            raise InputError(f"{path} is no regular file, and is not replaced; name another file")
        if not overwrite:
            raise InputError(f"{path} exists; name another file, or allow overwriting")
    return codec


class VideoWriter:
    """Writes frames to a temporary file beside ``path``; :meth:`finish` gives it its name.

    Args:
        path: of the file; :func:`check_output` has passed it.
        codec: a name of :data:`CODECS`.
        crf: constant rate factor; None for the codec's default.
        pix_fmt: pixel format; None for yuv420p, or without loss the leading stream's own.
        rate: frames per second, a hint; .avi has no other times.
        audio_from: a video file whose first audio stream is copied.
        aspect: width by height of a pixel; None for square ones.
    """

    def __init__(
        self,
        path: Path,
        codec: str,
        *,
        crf: int | None = None,
        pix_fmt: str | None = None,
        rate: Fraction | None = None,
        audio_from: str | None = None,
        aspect: Fraction | None = None,
    ) -> None:
        self.path = path
        self.frames = 0
        self._entry = CODECS[codec]
        self._codec = codec
        self._crf = crf
        self._pix_fmt = pix_fmt
        self._rate = rate or Fraction(25)
        self._audio_from = audio_from
        self._aspect = aspect
        self._aside = temporary_name(path)
        self._container: Any = None
        self._stream: Any = None
        self._audio: _AudioCopy | None = None
        self._tick = _TICKS
        self._last = -1
        self._broken = False

    def pix_fmt_for(self, image: Any) -> str:
        """Return the pixel format that frames made of such images have to be in."""
        if self._pix_fmt is None:
            self._pix_fmt = own_pix_fmt(image) if self._entry.crf is None else "yuv420p"
        return self._pix_fmt

    @property
    def even(self) -> bool:
        """Whether frames must have even sides."""
        assert self._pix_fmt is not None, "pix_fmt_for comes first"
        format = import_av().VideoFormat(self._pix_fmt)
        return self._entry.even and len(format.components) > 1 and format.chroma_width(2) == 1

    def write(self, frame: Any, time: float, tags: Tags) -> None:
        """Encode a frame.

        Args:
            frame: an ``av.VideoFrame``, all of one size and pixel format.
            time: in seconds since the first frame of the leading stream.
            tags: its colours.

        Raises:
            FileError: the file cannot be written.
            InputError: the size differs from that of the first frame.
        """
        if self._container is None:
            self._open(frame, tags)
        context = self._stream.codec_context
        if (frame.width, frame.height) != (context.width, context.height):
            raise InputError(
                f"the frame at {time:.2f} s is {frame.width} x {frame.height} (width x height), "
                f"and the first one {context.width} x {context.height}; a video has one size"
            )
        self._last = max(self._last + 1, round(time / self._tick))
        frame.pts, frame.time_base = self._last, self._tick
        tag(frame, tags)
        with self._told():
            self._container.mux(self._stream.encode(frame))
            if self._audio is not None:
                self._audio.copy_until(time)
        self.frames += 1

    def _open(self, frame: Any, tags: Tags) -> None:
        av = import_av()
        ending = self.path.suffix.lower()
        format = CONTAINERS[ending][0]
        options = {"movflags": "faststart"} if ending in (".mp4", ".mov") else {}
        with self._told():
            self._container = av.open(str(self._aside), "w", format=format, options=options)
            settings = dict(self._entry.options)
            if self._entry.crf is not None:
                settings["crf"] = str(self._entry.crf if self._crf is None else self._crf)
            if ending == ".avi":
                # Its frames have no times, and come in the order in which they are decoded.
                self._tick = 1 / self._rate
                settings |= {"bf": "0"}
            stream = self._container.add_stream(
                self._entry.encoder, rate=self._rate, options=settings
            )
            stream.width, stream.height = frame.width, frame.height
            stream.pix_fmt = frame.format.name
            context = stream.codec_context
            context.time_base = self._tick
            tag(context, tags)
            if self._aspect:
                stream.sample_aspect_ratio = self._aspect
            self._stream = stream
            if self._audio_from is not None:
                self._audio = _AudioCopy.of(self._audio_from, self._container, self.path)
            self._container.start_encoding()

    @contextlib.contextmanager
    def _told(self) -> Any:
        av = import_av()
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._broken = True
            why = error.strerror or error
            raise FileError(
                f"{self.path} cannot be written ({why}); make room there, check the folder's "
                "permissions, or choose other settings"
            ) from error

    def finish(self) -> None:
        """Write what the encoder still holds, and give the file its name; no frames, no file.

        Raises:
            FileError: the file cannot be written.
        """
        try:
            if self._container is None:
                return
            if self._broken or not self.frames:
                with contextlib.suppress(Exception):
                    self._container.close()
                return
            with self._told():
                try:
                    self._container.mux(self._stream.encode(None))
                    if self._audio is not None:
                        end = self._last * self._tick + 1 / self._rate
                        self._audio.copy_until(float(end))
                finally:
                    self._container.close()
                os.replace(self._aside, self.path)
        finally:
            self._container = None
            if self._audio is not None:
                self._audio.close()
            with contextlib.suppress(OSError):
                self._aside.unlink(missing_ok=True)


class NoFile:
    """Takes frames that are shown, and not written; what :class:`VideoWriter` has, without a file.

    Attributes:
        frames: how many there were.
    """

    path = Path("the window")
    even = False

    def __init__(self) -> None:
        self.frames = 0

    def pix_fmt_for(self, image: Any) -> str:
        """Return the pixel format that frames have to be in: full chroma, of odd sizes too."""
        return "yuv444p"

    def write(self, frame: Any, time: float, tags: Tags) -> None:
        """Count a frame, and tell it its colours.

        Args:
            frame: an ``av.VideoFrame``.
            time: in seconds since the first frame of the leading stream.
            tags: its colours.
        """
        tag(frame, tags)
        self.frames += 1

    def finish(self) -> None:
        """Do nothing."""


class _AudioCopy:
    """Packets of a file's first audio stream, as they are, up to the time of the pictures."""

    def __init__(self, source: Any, stream: Any, target: Any, start: float) -> None:
        self._source = source
        self._target = target
        self._into = stream
        self._start = start
        self._audio = source.streams.audio[0]
        self._packets = source.demux(self._audio)
        self._next = next(self._packets, None)

    @classmethod
    def of(cls, name: str, target: Any, path: Path) -> _AudioCopy | None:
        """Open a file for copying; None, with a warning, where its codec does not fit."""
        av = import_av()
        source = av.open(name)
        codec = source.streams.audio[0].codec_context.name
        canonical = source.streams.audio[0].codec_context.codec.canonical_name
        if not {codec, canonical} & _supported(target.format.name):
            source.close()
            warn(f"{path}: {path.suffix} does not hold the sound of {name} ({codec}); use .mkv")
            return None
        video = source.streams.video[0]
        start = float((video.start_time or 0) * video.time_base)
        stream = target.add_stream_from_template(source.streams.audio[0])
        return cls(source, stream, target, start)

    def copy_until(self, time: float) -> None:
        """Copy all packets that begin up to a time, in seconds since the first frame."""
        base = self._audio.time_base
        shift = round(self._start / base)
        while (packet := self._next) is not None:
            if packet.pts is None or packet.dts is None:  # the end
                self._next = next(self._packets, None)
                continue
            now = float((packet.pts - shift) * base)
            if now > time:
                return
            self._next = next(self._packets, None)
            if now < -_AUDIO_LEAD:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self._into
            self._target.mux_one(packet)

    def close(self) -> None:
        self._source.close()


def _supported(container: str) -> set[str]:
    av = import_av()
    known: set[str] = set()
    with contextlib.suppress(Exception):
        known = set(av.open(os.devnull, "w", format=container).supported_codecs)
    return known
