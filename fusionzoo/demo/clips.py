"""What the page does with two videos."""

from __future__ import annotations

from pathlib import Path

from fusionzoo.demo.pairs import load_once
from fusionzoo.errors import FusionZooError, InputError
from fusionzoo.video import fuse_video

__all__ = ["MAX_SECONDS", "fuse_clip"]

#: Longer videos are cut: the page is for a look, the command line for work.
MAX_SECONDS = 10.0


def fuse_clip(
    ir: str | Path | None, vi: str | Path | None, key: str, aligned: bool, folder: Path
) -> Path:
    """Fuse the first seconds of two videos to ``folder/fused.mp4``.

    Args:
        ir: the infrared video.
        vi: the visible video; it gives times, colour and sound.
        key: of published weights.
        aligned: estimate on the first frames how the infrared video lies in the visible one.
        folder: where the result is written; a result that is there is replaced.

    Raises:
        InputError, FileError, MissingFileError: one line for the user; files are called by name.
    """
    for file, name in ((ir, "infrared"), (vi, "visible")):
        if file is None:
            raise InputError(f"there is no {name} video; upload one")
    out = folder / "fused.mp4"
    try:
        fuse_video(
            load_once(key), str(ir), str(vi), out,
            align=aligned or None, overwrite=True, duration=MAX_SECONDS,
        )  # fmt: skip
    except FusionZooError as error:
        text = str(error)
        for file in (ir, vi):
            text = text.replace(str(file), Path(str(file)).name)
        raise type(error)(text) from error
    return out
