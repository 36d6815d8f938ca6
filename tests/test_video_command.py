"""``fusionzoo fuse`` and ``fusionzoo evaluate`` for videos."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cli_helpers import environment, files_of, run_cli, small_model
from PIL import Image
from video_helpers import panned, read_video, write_video

from fusionzoo.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "ir.mp4", panned("ir"))
    write_video(folder / "vi.mp4", panned("vi"))
    return folder


@pytest.fixture
def fuse(model):
    def run(*arguments):
        return main(["fuse", *map(str, arguments), "--model", str(model), "--device", "cpu"])

    return run


def test_two_videos(fuse, videos, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    assert fuse(videos / "ir.mp4", videos / "vi.mp4", "-o", out) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"fused 12 frames (0.44 s) to {out}, ")
    assert captured.out.endswith(" frames/s\n")
    assert len(read_video(out)[0]) == 12
    assert files_of(tmp_path) == {"out.mp4"}


def test_options(fuse, videos, tmp_path):
    out = tmp_path / "out.mkv"
    options = ("--codec", "h264", "--crf", 30, "--pix-fmt", "yuv444p", "--offset", 0.2)
    options += ("--range", "fixed", "--no-color", "--duration", 0.1, "--ir-range", 0, 200)
    assert fuse(videos / "ir.mp4", videos / "vi.mp4", "-o", out, *options) == 0
    frames, times = read_video(out)
    assert len(frames) == 3
    assert times[0] == pytest.approx(0.2, abs=2e-3)
    assert np.ptp(frames[0].astype(int), axis=2).max() <= 1


def test_numbered_images(fuse, tmp_path):
    for side in ("ir", "vi"):
        for number, frame in enumerate(panned(side, 3)):
            Image.fromarray(frame).save(tmp_path / f"{side}_{number:05d}.png")
    out = tmp_path / "out.mp4"
    assert fuse(tmp_path / "ir_%05d.png", tmp_path / "vi_%05d.png", "-o", out, "--fps", 5) == 0
    assert read_video(out)[1] == pytest.approx([0, 0.2, 0.4], abs=1e-3)


def test_a_video_that_exists_is_kept_unless_told(fuse, videos, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"mine")
    assert fuse(videos / "ir.mp4", videos / "vi.mp4", "-o", out) == 1
    assert "exists; name another file, or give --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert fuse(videos / "ir.mp4", videos / "vi.mp4", "-o", out, "--overwrite") == 0
    assert len(read_video(out)[0]) == 12


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("ir.mp4", "vi.mp4", "-o", "out.png"), 1, "'.png' is not written; use .mp4"),
        (("ir.mp4", "vi.mp4", "-o", "."), 1, "use .mp4"),
        (("ir.mp4", "nowhere.mp4", "-o", "out.mp4"), 1, "nowhere.mp4: no such file"),
        (("ir.mp4", "text.mp4", "-o", "out.mp4"), 1, "text.mp4: cannot be read as a video"),
        (("ir.mp4", "vi.mp4", "-o", "out.mp4", "--offset", "9"), 1, "have no time in common"),
        (("small.mp4", "vi.mp4", "-o", "out.mp4"), 1, "--resize ir or --resize vi"),
        (("ir.mp4", "vi.mp4", "-o", "out.mp4", "--codec", "h246"), 1, "did you mean 'h264'"),
        (("ir.mp4", "vi.mp4", "-o", "out.mp4", "--range", "no"), 2, "--range"),
        (("ir.mp4", "vi.mp4", "-o", "out.mp4", "--ir-range", "9", "1"), 2, "LO below HI"),
        (("picture.png", "picture.png", "-o", "out.png", "--crf", "9"), 2, "--crf is for videos"),
    ],
)
def test_mistakes_are_one_line(fuse, videos, tmp_path, arguments, status, message, capsys,
                               monkeypatch):  # fmt: skip
    for name in ("ir.mp4", "vi.mp4"):
        (tmp_path / name).write_bytes((videos / name).read_bytes())
    (tmp_path / "text.mp4").write_text("no video")
    Image.fromarray(panned("vi", 1)[0]).save(tmp_path / "picture.png")
    write_video(tmp_path / "small.mp4", panned("ir", 2, 32, 24))
    monkeypatch.chdir(tmp_path)
    before = files_of(tmp_path)
    assert fuse(*arguments) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert files_of(tmp_path) == before


def test_without_pyav_one_line_says_how_to_get_it(videos, tmp_path):
    (tmp_path / "av.py").write_text("raise ImportError('none here')")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    run = run_cli(
        *("fuse", videos / "ir.mp4", videos / "vi.mp4", "-o", tmp_path / "out.mp4"),
        env={"PYTHONPATH": path},
    )
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "fusionzoo: fuse: videos need PyAV, which is not installed; "
        "run: pip install 'fusionzoo[video]'"
    ]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_a_video_and_a_kill_nothing(tmp_path, how):
    for side in ("ir", "vi"):
        write_video(tmp_path / f"{side}.mp4", panned(side) * 30)
    out = tmp_path / "out.mp4"
    command = ["fuse", tmp_path / "ir.mp4", tmp_path / "vi.mp4", "-o", out, "--device", "cpu"]
    # So slow that it does not end by itself: 36 seconds.
    script = (
        "import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fusionzoo import zoo\n"
        "def slow(ir, vi, **options):\n    time.sleep(0.1); return vi\n"
        "zoo.load_network = lambda *args, **options: slow\n"
        "from fusionzoo.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, command)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    # The temporary file has content once frames are being written.
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob(".fusionzoo-*")):
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(how)
    error = run.communicate(timeout=60)[1]
    if how == signal.SIGKILL:
        assert not out.exists()
        return
    assert run.returncode == 130
    assert error.splitlines()[-1] == "fusionzoo: interrupted"
    frames = len(read_video(out)[0])
    assert f"the {frames} frames that are fused are in" in error
    assert 1 <= frames < 360
    assert files_of(tmp_path) == {"ir.mp4", "vi.mp4", "out.mp4"}
