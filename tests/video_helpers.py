"""Small real videos: a window that moves over a real pair, encoded by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from cli_helpers import asset

FORMATS = {".mp4": "mp4", ".mov": "mov", ".avi": "avi", ".mkv": "matroska", ".ts": "mpegts"}


def panned(side: str, count: int = 12, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """A window moving over the infrared ``(H, W)`` or visible ``(H, W, 3)`` image of a pair."""
    pixels = asset(side)
    if side == "ir" and pixels.ndim == 3:
        pixels = pixels[..., 0]
    down, right = (pixels.shape[axis] - size - 1 for axis, size in ((0, height), (1, width)))
    assert min(down, right) > 0
    return [
        np.ascontiguousarray(pixels[y : y + height, x : x + width])
        for y, x in ((2 * n % down, 3 * n % right) for n in range(count))
    ]


def write_video(
    path: Path,
    frames: list[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: list[float] | None = None,
    rate: int = 25,
    audio: bool = False,
    rotation: int = 0,
    tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode arrays ``(H, W)`` or ``(H, W, 3)``, uint8 or, grey, uint16."""
    tags = tags or {}
    with av.open(str(path), "w", format=FORMATS[path.suffix]) as container:
        stream = container.add_stream(codec, rate=rate, options=options or quality(codec))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for number, array in enumerate(frames):
            container.mux(stream.encode(video_frame(array, pix_fmt, number, times, rate, tags)))
            if sound is not None:
                container.mux(sound.encode(audio_frame(number)))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def quality(codec: str) -> dict[str, str]:
    return {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {}


def video_frame(
    array: np.ndarray,
    pix_fmt: str,
    number: int,
    times: list[float] | None,
    rate: int,
    tags: dict[str, int],
) -> Any:
    kind = {1: "gray", 2: "gray16le"}[array.itemsize] if array.ndim == 2 else "rgb24"
    frame = av.VideoFrame.from_ndarray(array, format=kind)
    if kind != pix_fmt:
        frame = frame.reformat(
            format=pix_fmt,
            src_color_range=2,
            dst_colorspace=tags.get("colorspace"),
            dst_color_range=tags.get("color_range", 1),
        )
    frame.time_base = Fraction(1, 1000) if times is not None else Fraction(1, rate)
    frame.pts = number if times is None else round(times[number] * 1000)
    return frame


def audio_frame(number: int) -> Any:
    """40 ms of a tone."""
    phase = (np.arange(640) + 640 * number) * (2 * np.pi * 440 / 16000)
    frame = av.AudioFrame.from_ndarray(
        np.sin(phase, dtype=np.float32)[None] * 0.5, format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts = 16000, 640 * number
    frame.time_base = Fraction(1, 16000)
    return frame


def read_video(path: Path, kind: str = "rgb24") -> tuple[list[np.ndarray], list[float]]:
    """All frames and their times."""
    frames, times = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format=kind))
            times.append(frame.time)
    return frames, times
