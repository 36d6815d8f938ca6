"""Flicker: the figure, its command, and that no model makes what the sources do not."""

import math

import numpy as np
import pytest
from cli_helpers import ASSETS
from PIL import Image
from video_helpers import panned, write_video

import fusionzoo
from fusionzoo import zoo
from fusionzoo.cli import main
from fusionzoo.errors import InputError
from fusionzoo.inference import fuse_images
from fusionzoo.video import Flicker, flicker, fuse_video

pytestmark = pytest.mark.usefixtures("one_thread")


def figure(fused, ir, vi):
    found = Flicker()
    for frames in zip(fused, ir, vi, strict=True):
        found.add(*(np.asarray(frame, np.float32) for frame in frames))
    return found.figure


def test_the_figure_of_known_changes():
    rng = np.random.default_rng(0)
    ir, vi = rng.random((2, 5, 8, 9))
    larger = np.maximum(np.abs(np.diff(ir, axis=0)), np.abs(np.diff(vi, axis=0))).mean()
    assert figure(vi, ir, vi) == pytest.approx(np.abs(np.diff(vi, axis=0)).mean() / larger)
    assert figure((ir + vi) / 2, ir, vi) < 1
    restless = vi + 1.5 * (np.arange(5) % 2)[:, None, None]
    assert figure(restless, ir, vi) > 1.2


def test_static_and_short_videos():
    frame = np.full((3, 4, 4), 0.5)
    assert figure(frame, frame, frame) == 1
    assert figure(frame * np.arange(3)[:, None, None], frame, frame) == math.inf
    assert math.isnan(figure(frame[:1], frame[:1], frame[:1]))
    with pytest.raises(InputError, match="4 x 4, 4 x 4, 3 x 4"):
        Flicker().add(frame[0], frame[0], frame[0][:, :3])


def panned_pet_and_mri(count):
    pet, mri = (
        np.asarray(Image.open(ASSETS / f"data_{name}.png").convert("L")) for name in ("pet", "mri")
    )
    height, width = pet.shape
    rows = [slice(n, n + height - count) for n in range(count)]
    return [pet[row, n : n + width - count] for n, row in enumerate(rows)], [
        mri[row, n : n + width - count] for n, row in enumerate(rows)
    ]


@pytest.mark.parametrize("key", fusionzoo.list_models(pretrained=True))
def test_no_model_flickers_on_a_panned_real_pair(key):
    if "medical" in key:
        irs, vis = panned_pet_and_mri(3)
    else:
        irs = panned("ir", 3)
        vis = [np.asarray(Image.fromarray(frame).convert("L")) for frame in panned("vi", 3)]
    fuse = zoo.load_network(key)
    fused = [fuse(ir, vi) for ir, vi in zip(irs, vis, strict=True)]
    assert np.std(fused) > 10
    assert figure(*([frame / 255 for frame in frames] for frames in (fused, irs, vis))) < 1.2


@pytest.mark.parametrize("offset", [0, 0.12])
def test_of_files(tmp_path, offset):
    ir = write_video(tmp_path / "ir.mp4", panned("ir"))
    vi = write_video(tmp_path / "vi.mp4", panned("vi"))

    def average(ir, vi, **options):
        return fuse_images(lambda one, other: (one + other) / 2, ir, vi, **options)

    fuse_video(average, ir, vi, tmp_path / "out.mkv", offset=offset)
    found = flicker(tmp_path / "out.mkv", ir, vi, offset=offset)
    assert found.frames == (9 if offset else 12)
    # An average changes less than the more lively source, wherever frames belong together.
    assert 0.4 < found.figure < 1
    if offset:
        assert flicker(tmp_path / "out.mkv", ir, vi).figure != pytest.approx(found.figure, abs=0.01)


def test_the_command(tmp_path, capsys):
    ir = write_video(tmp_path / "ir.mp4", panned("ir"))
    vi = write_video(tmp_path / "vi.mp4", panned("vi"))
    sources = ["evaluate", "--ir", str(ir), "--vi", str(vi)]
    assert main([*sources, "--fused", str(vi)]) == 0
    expected = flicker(vi, ir, vi).figure
    said = capsys.readouterr().out
    assert said.startswith(f"{vi}: flicker {expected:.3f} over 12 frames")
    for arguments, status, message in (
        ([], 2, "give --fused FILE"),
        (["--model", "lapnet"], 2, "--model is for images"),
        (["--fused", str(tmp_path / "no.mp4")], 1, "no.mp4: no such file"),
        (["--fused", str(vi), "--offset", "7"], 1, "flicker needs two frames"),
    ):
        assert main([*sources, *arguments]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
