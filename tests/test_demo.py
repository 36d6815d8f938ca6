"""What the demo page does with a pair, with clips and with errors; no browser, no Gradio."""

import re
import sys

import numpy as np
import pytest
import torch
from cli_helpers import ASSETS, ROOT, run_cli
from PIL import Image

import fusionzoo
from fusionzoo.alignment import Alignment
from fusionzoo.cli import main
from fusionzoo.demo import pairs
from fusionzoo.demo.examples import example_pairs
from fusionzoo.demo.pairs import NO_METRICS, Wish, fuse_pair, preview
from fusionzoo.demo.texts import as_alert, as_notes, as_table, told
from fusionzoo.errors import FileError, InputError, MissingFileError, warn
from fusionzoo.metrics import per_image
from fusionzoo.readers import open_image, save_image

pytestmark = pytest.mark.usefixtures("one_thread")

IR, VI = ASSETS / "cli_ir.png", ASSETS / "cli_vi.png"
PLAIN = Wish(protocol=NO_METRICS)


def wish(**changes):
    return Wish(**{"protocol": NO_METRICS, **changes})


def pixels(image):
    return np.asarray(image)


def grey(image):
    return torch.from_numpy(np.array(image.convert("L")))[None, None]


def test_a_pair_gives_pictures_files_and_notes(tmp_path):
    outcome = fuse_pair(IR, VI, wish(models=["lapnet", "lapnet.tiny"]), tmp_path)
    assert list(outcome.pictures) == ["infrared", "visible", "lapnet", "lapnet.tiny"]
    assert np.array_equal(pixels(outcome.pictures["visible"]), pixels(Image.open(VI)))
    for key in ("lapnet", "lapnet.tiny"):
        expected = pixels(fusionzoo.load(key).fuse(IR, VI))
        assert np.array_equal(pixels(outcome.pictures[key]), expected)
        assert np.array_equal(pixels(Image.open(outcome.files[key])), expected)
    assert outcome.files["lapnet.tiny"] == tmp_path / "lapnet.tiny.png"
    assert [note.split(":")[0] for note in outcome.notes] == ["Infrared", "Visible"]
    assert outcome.values == {}


def test_metrics_are_those_of_the_protocol_on_the_pictures(tmp_path):
    outcome = fuse_pair(IR, VI, Wish(protocol="tang", color=False), tmp_path)
    fused, *sources = (grey(outcome.pictures[name]) for name in ("lapnet", "infrared", "visible"))
    assert outcome.pictures["lapnet"].mode == "L"
    expected = per_image("tang", None, fused, *sources)
    assert outcome.values["lapnet"] == {name: v.item() for name, v in expected.items()}
    assert list(outcome.higher_is_better) == list(expected)


def test_16_bit_files_keep_their_depth_and_obey_the_range(tmp_path):
    deep = pixels(Image.open(VI).convert("L")).astype(np.uint16) * 100 + 5000
    for name, values in (("ir", deep[:, ::-1]), ("vi", deep)):
        save_image(tmp_path / f"{name}.tif", np.ascontiguousarray(values))
    files = tmp_path / "ir.tif", tmp_path / "vi.tif"
    out = tmp_path / "out"
    out.mkdir()
    outcome = fuse_pair(*files, wish(vi_range=(5000, 30500)), out)
    assert np.array_equal(pixels(outcome.pictures["visible"]), (deep - 5000) // 100)
    assert "black is 5000, white 30500" in outcome.notes[1]
    fused = open_image(outcome.files["lapnet"]).values
    assert fused.dtype == np.uint16
    expected = fusionzoo.load("lapnet").fuse(
        *(open_image(file).values for file in files), vi_range=(5000, 30500)
    )
    assert np.array_equal(fused, expected)
    shown = pixels(outcome.pictures["lapnet"]).astype(float)
    assert np.abs(shown - (fused.astype(float) - 5000) / 100).max() < 0.51
    # Left to the file, black and white are percentiles of its values.
    low, high = np.percentile(deep, (0.5, 99.5))
    note = fuse_pair(*files, PLAIN, out).notes[1]
    assert [float(n) for n in re.findall(r"(?:black is|white) (\d+)", note)] == [low, high]
    for wrong in ((30500, 5000), (float("nan"), 1)):
        with pytest.raises(InputError, match="black has to be the smaller"):
            fuse_pair(*files, wish(ir_range=wrong), out)


def test_sizes_that_differ_need_a_choice(tmp_path):
    small = tmp_path / "small.png"
    Image.open(IR).resize((64, 48)).save(small)
    size = Image.open(VI).size
    with pytest.raises(InputError, match=rf"64 x 48 and {size[0]} x {size[1]} .*'align'.*'scale'"):
        fuse_pair(small, VI, PLAIN, tmp_path)
    outcome = fuse_pair(small, VI, wish(fit="scale"), tmp_path)
    assert {picture.size for picture in outcome.pictures.values()} == {size}
    expected = fusionzoo.load("lapnet").fuse(small, VI, resize="ir")
    assert np.array_equal(pixels(outcome.pictures["lapnet"]), pixels(expected))


def test_points_align_and_metrics_are_of_the_common_region(tmp_path):
    shift = Alignment(np.array([[1, 0, 12], [0, 1, 6], [0, 0, 1.0]]), (80, 100), (96, 128))
    vi = Image.open(VI).resize((128, 96))
    ir = Image.open(IR).resize((128, 96)).crop((12, 6, 112, 86))
    for name, image in (("ir", ir), ("vi", vi)):
        image.save(tmp_path / f"{name}.png")
    files = tmp_path / "ir.png", tmp_path / "vi.png"
    points = [(5, 7), (90, 10), (50, 70)]
    chosen = {"fit": "align by points", "ir_points": points}
    there = [(x + 12, y + 6) for x, y in points]
    outcome = fuse_pair(*files, Wish(**chosen, vi_points=there), tmp_path)
    assert outcome.notes[2].startswith("Alignment: ")
    inner = np.s_[10:80, 16:108]
    moved = pixels(shift.warp(ir)).astype(int)[inner]
    assert np.abs(pixels(outcome.pictures["infrared"]).astype(int)[inner] - moved).max() <= 1
    box = (12, 6, 112, 86)
    values = per_image(
        "cddfuse", ["SD"],
        *(grey(outcome.pictures[n].crop(box)) for n in ("lapnet", "infrared", "visible")),
    )  # fmt: skip
    assert outcome.values["lapnet"]["SD"] == pytest.approx(values["SD"].item(), rel=0.02)
    for side in (there[:1], there[:2], []):
        with pytest.raises(InputError, match=f"3 points in the first image and {len(side)} in"):
            fuse_pair(*files, Wish(**chosen, vi_points=side), tmp_path)


def test_align_searches(tmp_path, monkeypatch):
    seen = []
    found = Alignment(np.eye(3), Image.open(IR).size[::-1], Image.open(VI).size[::-1])
    monkeypatch.setattr(pairs, "align", lambda *both: seen.append(both) or found)
    outcome = fuse_pair(IR, VI, wish(fit="align"), tmp_path)
    assert np.array_equal(seen[0][0].values, pixels(Image.open(IR)))
    assert str(found) in outcome.notes[2]


@pytest.mark.parametrize(
    ("ir", "vi", "changes", "error", "text"),
    [
        (None, VI, {}, InputError, "^there is no infrared image; choose an example, or upload"),
        (IR, VI, {"models": []}, InputError, "no model is chosen"),
        (IR, VI, {"models": ["lapnet"] * 7}, InputError, "choose 6 at most"),
        (IR, VI, {"models": ["lapnet", "lapnet.medical"]}, InputError, "models of one kind"),
        (IR, VI, {"models": ["lapnot"]}, InputError, "lapnet"),
        (IR, VI, {"fit": "stretch"}, InputError, "fit must be one of"),
        (IR, VI, {"protocol": "paper"}, InputError, "protocol must be one of"),
        (IR, VI, {"max_pixels": 1000}, InputError, r"^cli_ir\.png is .* pixels, and this page"),
        ("lost.png", VI, {}, MissingFileError, r"^lost\.png: no such file"),
    ],
)
def test_wrong_wishes_are_refused(ir, vi, changes, error, text, tmp_path):
    ir = tmp_path / ir if isinstance(ir, str) else ir
    with pytest.raises(error, match=text):
        fuse_pair(ir, vi, wish(**changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_garbage_is_called_by_its_own_name(tmp_path):
    garbage = tmp_path / "holiday.png"
    garbage.write_bytes(b"this is no image")
    with pytest.raises(InputError) as caught:
        fuse_pair(IR, garbage, PLAIN, tmp_path)
    assert str(caught.value).startswith("holiday.png")
    assert str(tmp_path) not in str(caught.value)


def test_doubts_become_notes_and_so_do_metrics_that_fail(tmp_path, monkeypatch):
    tiny = tmp_path / "tiny.png"
    Image.open(VI).crop((0, 0, 8, 6)).save(tiny)
    network = fusionzoo.load("lapnet")

    class Doubting:
        modalities, color_from = network.modalities, network.color_from

        def fuse(self, *images, **options):
            warn("this looks swapped")
            return network.fuse(*images, **options)

    monkeypatch.setattr(pairs, "load_once", lambda key: Doubting())
    outcome = fuse_pair(tiny, tiny, Wish(models=["a", "b"]), tmp_path)
    assert outcome.notes[2:3] == ("this looks swapped",)
    assert outcome.notes[3].startswith("No metrics: ")
    assert outcome.values == {}


def test_preview_has_the_size_of_the_file():
    assert preview(None, None, 1) is None
    assert np.array_equal(pixels(preview(VI, None, 10**6)), pixels(Image.open(VI)))
    dark = pixels(preview(IR, (0, 2550), 10**6))
    assert dark.max() <= 26
    with pytest.raises(InputError, match="pixels"):
        preview(VI, None, 10)


def test_examples_are_there_and_travel_in_the_wheel():
    found = example_pairs()
    assert len(found) == 3
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for pair in found:
        modalities = fusionzoo.load(pair.model).modalities
        assert ("MRI" in pair.title) == ("MRI" in modalities)
        for file in (pair.ir, pair.vi):
            line = f'"examples/{file.name}" = "fusionzoo/examples/{file.name}"'
            assert line in settings


def test_clips_are_fused_and_their_errors_name_files(tmp_path):
    pytest.importorskip("av")
    from video_helpers import panned, write_video

    from fusionzoo.demo.clips import fuse_clip

    files = [write_video(tmp_path / f"{side}.mp4", panned(side, 4)) for side in ("ir", "vi")]
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):  # the second time replaces the first
        assert fuse_clip(*files, "lapnet.tiny", False, out) == out / "fused.mp4"
    with pytest.raises(InputError, match="there is no visible video"):
        fuse_clip(files[0], None, "lapnet.tiny", False, out)
    garbage = tmp_path / "holiday.mp4"
    garbage.write_bytes(b"no video")
    with pytest.raises((InputError, FileError)) as caught:
        fuse_clip(garbage, files[1], "lapnet.tiny", False, out)
    assert "holiday.mp4" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_texts_cannot_carry_markup(capsys):
    for text in (as_alert("<b>"), as_notes(["<b>"]), as_table({"<b>": {"SD": 1.0}}, {"SD": None})):
        assert "<b>" not in text
        assert "&lt;b&gt;" in text
    table = as_table({"one": {"SD": 12.3456, "MSE": float("nan")}}, {"SD": True, "MSE": False})
    assert "SD ↑</th><td>12.35</td>" in table
    assert "MSE ↓</th><td>–</td>" in table
    assert as_table({}, {}) == ""
    assert told(InputError("it is too dark; click")) == "it is too dark; click"
    assert "choose 'as they are'" in told(InputError("force=True takes the pair as it is"))
    assert "memory" in told(MemoryError())
    assert capsys.readouterr().err == ""
    assert "defect of fusionzoo (KeyError)" in told(KeyError("x"))
    assert "KeyError: 'x'" in capsys.readouterr().err


def test_command_line(monkeypatch, capsys):
    assert main(["demo", "--port", "99999"]) == 2
    assert "--port 99999" in capsys.readouterr().err
    assert main(["demo", "--max-pixels", "0"]) == 2
    assert "0 is less than 1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'fusionzoo[demo]'" in said


def test_help_says_that_the_page_stays_here():
    text = run_cli("demo", "--help").stdout
    assert "127.0.0.1" in text
    assert "no password" in text
