"""Where frames come from: video files, image sequences, cameras and network streams."""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fusionzoo.errors import FileError, InputError, MissingFileError
from fusionzoo.inference import read_image
from fusionzoo.video.names import CAMERA, LIVE_SCHEMES, NUMBER, SCHEME
from fusionzoo.video.pyav import damage_told, import_av, reason_of

__all__ = [
    "ImageSequence",
    "LiveSource",
    "Picture",
    "Source",
    "VideoFile",
    "open_source",
]

# Seconds until a live stream that sends nothing counts as ended.
_TO_OPEN, _TO_READ = 10.0, 5.0
# Of a live stream, as many of the last frames are kept for matching.
_RECENT = 8
_TURNS = {90: (("transpose", "cclock"),), 180: (("hflip", None), ("vflip", None))}
_TURNS[270] = (("transpose", "clock"),)


@dataclass(frozen=True)
class Picture:
    """One frame.

    Attributes:
        time: in seconds since the first frame of the stream; of a live stream, since any moment
            that all live streams share.
        image: an ``av.VideoFrame``, upright; or, from an image file, an array ``(H, W)`` or
            ``(H, W, 3)`` as :func:`fusionzoo.inference.read_image` gives it.
    """

    time: float
    image: Any


def open_source(where: object, fps: float = 25.0) -> Source:
    """Open a stream of frames.

    Args:
        where: a video file; a pattern of image files with one ``%d`` or ``%05d`` for the number; a
            camera, as ``/dev/video0`` or its number; or an address such as ``rtsp://...``.
        fps: frames per second of image sequences.

    Raises:
        MissingFileError: there is no such file, or PyAV is missing.
        FileError: the file cannot be read.
        InputError: it holds no video, is damaged, or is of a kind that is not read.
    """
    text = os.fspath(where) if isinstance(where, os.PathLike) else str(where)
    scheme = SCHEME.match(text)
    if scheme:
        if scheme[1].lower() not in LIVE_SCHEMES:
            known = ", ".join(f"{one}://" for one in LIVE_SCHEMES)
            raise InputError(f"{text}: streams are read from {known}; download a file first")
        return LiveSource(text, text)
    if not os.path.exists(text) or text.startswith("/dev/video"):
        if CAMERA.fullmatch(text):
            return _camera(text)
        if NUMBER.search(text):
            return ImageSequence(text, fps)
    return VideoFile(text)


class VideoFile:
    """The frames of a video file, in order, turned upright.

    Attributes:
        name: the path.
        rate: frames per second on average, as the file declares it, or None.
        count: how many frames there should be, or None.
        aspect: width by height of a pixel, or None.
        audio: whether there is sound.
        live: False.
    """

    live = False

    def __init__(self, path: str) -> None:
        av = import_av()
        self.name = path
        _check_file(path)
        told = damage_told(path, "cannot be read as a video; replace it, or convert it")
        with told, av.open(path) as container:
            if not container.streams.video:
                raise InputError(f"{path} holds no video, only other streams; check the path")
            stream = container.streams.video[0]
            self.rate: Fraction | None = stream.average_rate or stream.guessed_rate
            self.aspect: Fraction | None = stream.sample_aspect_ratio
            self.audio = len(container.streams.audio) > 0
            self._seconds = _declared_seconds(container, stream)
            frames = stream.frames
        if not frames and self._seconds and self.rate:
            frames = round(self._seconds * self.rate)
        self.count: int | None = frames or None

    def __iter__(self) -> Generator[Picture, None, None]:
        """Decode the frames.

        Raises:
            InputError: after the frames before the damage: the file is damaged, or ends early.
        """
        av = import_av()
        start: float | None = None
        now, last, count = 0.0, 0.0, 0
        upright = _Upright(self.name)
        with av.open(self.name) as container:
            stream = container.streams.video[0]
            frames = container.decode(stream)
            while True:
                damage = f"is damaged after {count} frames, at {now:.2f} s; get the whole file"
                with damage_told(self.name, damage):
                    frame = next(frames, None)
                if frame is None:
                    break
                if frame.is_corrupt:
                    if not count:
                        continue  # a recording that begins between two key frames
                    raise InputError(
                        f"{self.name}: is damaged after {count} frames, at {now:.2f} s"
                    )
                stamp = frame.time
                if stamp is None:
                    stamp = (start or 0.0) + count / float(self.rate or 25)
                start = stamp if start is None else start
                now = max(stamp - start, now)
                last = now + float((frame.duration or 0) * (frame.time_base or 0))
                count += 1
                yield Picture(now, upright(frame))
        if not count:
            raise InputError(f"{self.name} holds no frames; check the file")
        self._check_end(count, max(last, now))

    def _check_end(self, count: int, seconds: float) -> None:
        frame = 1 / float(self.rate or 25)
        if self._seconds is None or seconds > self._seconds - 4 * frame - self._seconds / 100:
            return
        raise InputError(
            f"{self.name} is cut short: it ends after {count} frames, at {seconds:.2f} s of "
            f"{self._seconds:.2f} s; get the whole file"
        )

    def sample(self, number: int) -> list[Picture]:
        """Return up to ``number`` frames from all over the file, first to last."""
        av = import_av()
        pictures: list[Picture] = []
        upright = _Upright(self.name)
        with damage_told(self.name, "cannot be searched"), av.open(self.name) as container:
            stream = container.streams.video[0]
            for part in range(number if self._seconds else 1):
                if part:
                    begin = stream.start_time or 0
                    reach = (self._seconds or 0) * part / number / float(stream.time_base)
                    container.seek(begin + int(reach), stream=stream)
                frame = next(container.decode(stream), None)
                if frame is not None:
                    pictures.append(Picture(frame.time or 0.0, upright(frame)))
        return pictures


class ImageSequence:
    """Numbered image files as frames; a number that is missing is a frame that is missing.

    Attributes: as those of :class:`VideoFile`.
    """

    live = audio = False
    aspect = None

    def __init__(self, pattern: str, fps: float = 25.0) -> None:
        self.name = pattern
        self.rate = Fraction(fps).limit_denominator(1001)
        folder, name = os.path.split(pattern)
        numbers = list(NUMBER.finditer(name))
        if len(numbers) != 1:
            raise InputError(f"{pattern}: write one %d or %05d, in the file's name, for the number")
        (number,) = numbers
        digits = rf"\d{{{int(number[1])},}}" if number[1] else r"\d+"
        wanted = re.compile(
            f"{re.escape(name[: number.start()])}({digits}){re.escape(name[number.end() :])}"
        )
        try:
            found = [wanted.fullmatch(one) for one in os.listdir(folder or ".")]
        except OSError as error:
            raise MissingFileError(f"{pattern}: {error.strerror}; check the folder") from None
        files = sorted((int(one[1]), one[0]) for one in found if one)
        if not files:
            raise MissingFileError(f"{pattern}: no such files; check folder, name and digits")
        self.files = [(number, os.path.join(folder, name)) for number, name in files]
        self.count = len(files)

    def __iter__(self) -> Generator[Picture, None, None]:
        """Read the files.

        Raises:
            InputError, FileError: one cannot be read.
        """
        first = self.files[0][0]
        for number, path in self.files:
            yield Picture(float((number - first) / self.rate), read_image(path))

    def sample(self, number: int) -> list[Picture]:
        """Return up to ``number`` frames from all over the sequence, first to last."""
        step = max(1, len(self.files) // number)
        return [Picture(0.0, read_image(path)) for _, path in self.files[::step][:number]]


class LiveSource:
    """A camera or a network stream: what is not fused in time is left out.

    A thread reads as fast as frames come; the time of a frame is that of its arrival.

    Args:
        name: for messages.
        address: what FFmpeg opens.
        format: FFmpeg's name of the input device, for cameras.

    Raises:
        InputError: it cannot be opened, or sends no video.
    """

    live = True
    audio = False
    aspect = None
    count = None

    def __init__(self, name: str, address: str, format: str | None = None) -> None:
        av = import_av()
        self.name = name
        with damage_told(name, f"cannot be opened within {_TO_OPEN:g} s; check that it is there"):
            container = av.open(address, format=format, timeout=(_TO_OPEN, _TO_READ))
        if not container.streams.video:
            container.close()
            raise InputError(f"{name} sends no video; check the address")
        self.rate: Fraction | None = container.streams.video[0].average_rate
        self._container = container
        self._recent: deque[Picture] = deque(maxlen=_RECENT)
        self._news = threading.Condition()
        self._ended = False
        self._closed = False
        self._error: InputError | None = None
        self._thread = threading.Thread(target=self._read, name="fusionzoo", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        av = import_av()
        upright = _Upright(self.name)
        try:
            for packet in self._container.demux(self._container.streams.video[0]):
                if self._closed:
                    break
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    continue  # a lost packet: the stream goes on
                for frame in frames:
                    if not frame.is_corrupt:
                        self._tell(Picture(time.monotonic(), upright(frame)))
        except av.error.FFmpegError as error:
            self._error = InputError(
                f"{self.name} sends no more frames ({reason_of(error)}); it may have ended, or "
                "the network failed"
            )
        except InputError as error:
            self._error = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()
            self._container.close()

    def _tell(self, picture: Picture) -> None:
        with self._news:
            self._recent.append(picture)
            self._news.notify_all()

    def __iter__(self) -> Generator[Picture, None, None]:
        """Give the newest frame, each time, that has not been given.

        Raises:
            InputError: the stream broke off.
        """
        given = -1.0
        while (picture := self._newest(given)) is not None:
            given = picture.time
            yield picture

    def _newest(self, given: float) -> Picture | None:
        with self._news:
            self._news.wait_for(
                lambda: self._ended or (self._recent and self._recent[-1].time > given)
            )
            if self._recent and self._recent[-1].time > given:
                return self._recent[-1]
        if self._error is not None:
            raise self._error
        return None

    def nearest(self, moment: float) -> Picture | None:
        """Return the frame that arrived nearest to a moment; None if the stream has ended.

        Raises:
            InputError: the stream broke off.
        """
        with self._news:
            self._news.wait_for(lambda: self._ended or self._recent)
            if self._recent and not self._ended:
                return min(self._recent, key=lambda picture: abs(picture.time - moment))
        if self._error is not None:
            raise self._error
        return None

    def sample(self, number: int) -> list[Picture]:
        """Return the newest frame."""
        picture = self._newest(-1.0)
        return [] if picture is None else [picture]

    def close(self) -> None:
        """Stop reading; this may take as long as the stream is silent, at most 5 s."""
        self._closed = True
        self._thread.join()


Source = VideoFile | ImageSequence | LiveSource


def _camera(text: str) -> LiveSource:
    if not sys.platform.startswith("linux"):
        raise InputError(f"{text}: cameras are read on Linux only (v4l2); give an rtsp:// address")
    path = text if text.startswith("/") else f"/dev/video{text}"
    if not os.path.exists(path):
        raise MissingFileError(f"{path}: no such camera; ls /dev/video* shows those there are")
    return LiveSource(path, path, "v4l2")


def _check_file(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder; give a video file")
        if not stat.S_ISREG(mode):  # reading a FIFO may wait for ever
            raise InputError(f"{path} is no regular file; give a video file")
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty; replace it")
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise FileError(f"{path} cannot be opened ({why}); check its permissions") from error


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """How long a file says that its video is."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    written = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if written:
        hours, minutes, seconds = map(float, written.groups())
        return hours * 3600 + minutes * 60 + seconds
    if container.duration and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None


class _Upright:
    """Turns frames as their file's metadata says, as phones write it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._graph: Any = None
        self._kind: Any = None

    def __call__(self, frame: Any) -> Any:
        turn = round(frame.rotation) % 360
        if not turn:
            return frame
        if turn not in _TURNS:
            raise InputError(
                f"{self._name} is to be turned by {turn} degrees when shown; save it upright first"
            )
        kind = (frame.format.name, frame.width, frame.height, turn)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = self._made(frame, turn), kind
        self._graph.push(frame)
        turned = self._graph.pull()
        turned.pts, turned.time_base = frame.pts, frame.time_base
        return turned

    @staticmethod
    def _made(frame: Any, turn: int) -> Any:
        from av.filter import Graph

        graph = Graph()
        last = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1000),
        )
        for name, arguments in (*_TURNS[turn], ("buffersink", None)):
            following = graph.add(name, arguments) if arguments else graph.add(name)
            last.link_to(following)
            last = following
        graph.configure()
        return graph
