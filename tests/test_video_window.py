"""Fused videos that are shown: by a function, by the command, in a window."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cli_helpers import small_model
from video_helpers import panned, read_video, write_video

from fusionzoo import video
from fusionzoo.cli import main
from fusionzoo.errors import InputError
from fusionzoo.inference import fuse_images
from fusionzoo.video import Window, fuse_video

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES = 30  # more than wait between the stages


def visible_only(ir, vi, **options):
    return fuse_images(lambda one, other: other, ir, vi, **options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{side}.mp4", panned(side, FRAMES)) for side in ("ir", "vi")]


def test_frames_are_shown_as_the_file_has_them(videos, tmp_path):
    shown = []
    done = fuse_video(
        *(visible_only, *videos, tmp_path / "out.mkv"),
        show=lambda frame, time: shown.append((frame, time)),
        duration=0.2,
    )
    assert done.frames == len(shown) == 5
    frames, times = read_video(tmp_path / "out.mkv")
    assert [time for _, time in shown] == pytest.approx(times, abs=2e-3)
    for (frame, _), stored in zip(shown, frames, strict=True):
        assert frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - stored).mean() < 2


def test_without_a_file(videos):
    shown = []
    done = fuse_video(
        *(visible_only, *videos, None), show=lambda frame, time: shown.append(frame), duration=0.1
    )
    assert (done.path, done.frames, len(shown)) == (None, 3, 3)
    visible = read_video(videos[1])[0]
    assert np.abs(shown[2].astype(int) - visible[2]).mean() < 2
    with pytest.raises(InputError, match="out=None goes with show"):
        fuse_video(visible_only, *videos, None)


def test_closing_ends_the_stream_and_finishes_the_file(videos, tmp_path):
    shown = []

    def close_at_the_second(frame, time):
        shown.append(time)
        return len(shown) < 2

    done = fuse_video(visible_only, *videos, tmp_path / "out.mp4", show=close_at_the_second)
    assert len(shown) == 2
    assert 2 <= done.frames < FRAMES
    assert len(read_video(tmp_path / "out.mp4")[0]) == done.frames


@pytest.fixture
def window(monkeypatch):
    """What stands for a window: it is closed by its second frame."""

    class Shown:
        times, titles, closed = [], [], []

        def __init__(self, title):
            self.titles.append(title)

        def show(self, frame, time):
            self.times.append(time)
            return len(self.times) < 2

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.closed.append(True)

    monkeypatch.setattr(video, "Window", Shown, raising=False)
    return Shown


def test_the_command_shows_with_and_without_a_file(videos, tmp_path, window, capsys):
    model = small_model(tmp_path / "model")
    arguments = ["fuse", *map(str, videos), "--model", str(model), "--device", "cpu", "--live"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "frames (" in told
    assert " to " not in told
    assert len(window.times) == 2
    assert window.closed == [True]
    assert str(videos[0]) in window.titles[0]
    assert main([*arguments, "-o", str(tmp_path / "out.mp4")]) == 0
    assert read_video(tmp_path / "out.mp4")[0]


def test_the_command_needs_a_file_or_a_window(videos, tmp_path, capsys):
    assert main(["fuse", *map(str, videos)]) == 2
    assert "required: -o/--output" in capsys.readouterr().err
    pictures = [str(tmp_path), str(tmp_path)]
    assert main(["fuse", *pictures, "--live"]) == 2
    assert "--live is for videos" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="there is always a display")
def test_without_a_display_one_line_says_so(videos, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["fuse", *map(str, videos), "--live"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs a display" in line or "needs tkinter" in line


@pytest.fixture
def display(monkeypatch):
    """A display: the one there is, or that of Xvfb."""
    pytest.importorskip("tkinter")
    if os.environ.get("DISPLAY") or sys.platform != "linux":
        yield
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no display, and no Xvfb to make one")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as number:
        monkeypatch.setenv("DISPLAY", f":{number.readline().strip()}")
    yield
    server.terminate()
    server.wait()


def test_a_window_shows_scales_and_closes(display):
    frame = panned("vi", 1)[0]
    with Window("fused") as window:
        assert window.show(frame, 5.0)
        assert window.show(frame, 5.02)
        assert window._root.state() == "normal"
        assert (window._picture.width(), window._picture.height()) == (64, 48)
        screen = window._root.winfo_screenwidth()
        assert window.show(np.zeros((40, 2 * screen, 3), np.uint8), 5.03)
        assert window._picture.width() <= screen
        close = window._root.protocol("WM_DELETE_WINDOW")
        window._root.tk.call(close)
        assert window.show(frame, 5.04) is False
