"""What is done with an alignment: warping, files, regions, points, fusing. Nothing is estimated."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fusionzoo.alignment import (
    Alignment,
    AlignmentError,
    checkerboard,
    fit_points,
    read_points,
    registration,
    registration_once,
)
from fusionzoo.cli import main
from fusionzoo.errors import FileError, InputError, MissingFileError
from fusionzoo.inference import fuse_images
from fusionzoo.readers.writing import save_image

DTYPES = [
    *("uint8", "uint16", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "bool"),
]


def shifted(x, y, ir=(6, 8), vi=(6, 8), **options):
    return Alignment(np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]]), ir, vi, **options)


def values(shape, dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) * 200).astype(dtype)


def mean(ir, vi):
    return (ir + vi) / 2


# -- warping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (2, 6, 8), (2, 6, 8, 5)])
def test_whole_shifts_keep_every_value(dtype, shape):
    image = values(shape, dtype)
    before = image.copy()
    out = shifted(3, -1).warp(image, fill=1)
    assert out.dtype == image.dtype
    assert out.shape == shape
    axis = 0 if len(shape) == 2 or shape[0] == 6 else 1
    turned, was = (
        np.moveaxis(out, (axis, axis + 1), (0, 1)),
        np.moveaxis(image, (axis, axis + 1), (0, 1)),
    )
    assert np.array_equal(turned[:5, 3:], was[1:, :5])
    assert (turned[5] == 1).all()
    assert (turned[:, :3] == 1).all()
    assert np.array_equal(image, before)


def test_large_integers_keep_their_bits():
    image = np.full((6, 8), 2**40 + 1, dtype=np.int64)
    assert np.array_equal(shifted(0, 0).warp(image), image)


def test_between_pixels_values_are_bilinear():
    image = np.arange(48, dtype=np.float64).reshape(6, 8)
    out = shifted(0.25, 0.5).warp(image)
    assert out[2, 3] == pytest.approx(image[2, 3] - 0.25 - 4)
    assert out[0, 0] == 0
    labels = shifted(0.25, 0.4).warp(image, interpolation="nearest")
    assert labels[2, 3] == image[2, 3]


def test_nan_beside_a_pixel_does_not_reach_it():
    image = np.ones((6, 8), dtype=np.float32)
    image[2, 3] = np.nan
    out = shifted(1, 0).warp(image)
    assert np.isnan(out).sum() == 1


def test_sizes_and_kinds_may_differ(tmp_path):
    alignment = shifted(2, 1, vi=(9, 12))
    tensor = torch.from_numpy(values((2, 3, 6, 8), "float32")).requires_grad_()
    out = alignment.warp(tensor)
    assert out.shape == (2, 3, 9, 12)
    out.sum().backward()
    assert (tensor.grad == 1).all()
    picture = Image.fromarray(values((6, 8, 4)))
    warped = alignment.warp(picture)
    assert (warped.mode, warped.size) == ("RGBA", (12, 9))
    assert np.array_equal(np.asarray(warped)[1:7, 2:10], np.asarray(picture))
    save_image(tmp_path / "ir.png", picture)
    assert np.array_equal(np.asarray(alignment.warp(tmp_path / "ir.png")), np.asarray(warped))
    big_endian = values((6, 8), ">u2")
    assert alignment.warp(big_endian).dtype == big_endian.dtype


def test_warp_refuses_other_sizes_and_kinds():
    with pytest.raises(InputError, match=r"\(7, 8\).*6 x 8"):
        shifted(0, 0).warp(np.zeros((7, 8)))
    with pytest.raises(InputError, match="6 x 8"):
        shifted(0, 0).warp(torch.zeros(6, 9))
    with pytest.raises(TypeError, match="list"):
        shifted(0, 0).warp([[1]])
    with pytest.raises(InputError, match="bilinear"):
        shifted(0, 0).warp(np.zeros((6, 8)), interpolation="cubic")


def test_strips_do_not_show(monkeypatch):
    alignment = Alignment(
        np.array([[0.9, 0.1, 2], [-0.1, 1.1, 3], [1e-3, 0, 1]]), (60, 80), (70, 90)
    )
    image = values((60, 80), "float32")
    whole = alignment.warp(image)
    monkeypatch.setattr("fusionzoo.alignment.warping._AT_ONCE", 500)
    assert np.array_equal(alignment.warp(image), whole)


# -- regions and files ------------------------------------------------------------------------


def test_region_box_and_crop():
    alignment = shifted(3, -1)
    assert np.array_equal(np.nonzero(alignment.region.any(1))[0], range(5))
    assert alignment.box == (3, 0, 8, 5)
    image = values((6, 8, 3))
    assert np.array_equal(alignment.crop(image), image[:5, 3:])
    assert alignment.crop(Image.fromarray(image)).size == (5, 5)
    assert alignment.crop(torch.zeros(3, 6, 8)).shape == (3, 5, 5)
    with pytest.raises(InputError, match="no region in common"):
        shifted(30, 0).crop(image)
    with pytest.raises(InputError, match="visible images of 6 x 8"):
        alignment.crop(image[:5])


def test_box_of_a_large_image_lies_in_the_region():
    turn = np.array([[0.98, -0.17, 90], [0.17, 0.98, -40], [0, 0, 1]])
    alignment = Alignment(turn, (900, 1200), (900, 1200))
    left, top, right, bottom = alignment.box
    assert alignment.region[top:bottom, left:right].all()
    assert (right - left) * (bottom - top) > 0.6 * alignment.region.sum()


def test_saved_and_loaded_it_is_the_same(tmp_path):
    one = shifted(1.5, 2, model="translation", confidence=0.75, residual=0.5, pairs=3)
    one.save(tmp_path / "rig.json")
    other = Alignment.load(tmp_path / "rig.json")
    assert str(other) == str(one)
    assert np.array_equal(other.transform, one.transform)
    assert (other.ir_size, other.vi_size, other.pairs) == (one.ir_size, one.vi_size, 3)
    shifted(0, 0).save(tmp_path / "rig.json")
    assert np.isnan(Alignment.load(tmp_path / "rig.json").residual)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no JSON"),
        ("[]", "is no alignment"),
        ('{"format": "fusionzoo-alignment-1"}', "damaged"),
        ({"transform": [[1, 0], [0, 1]]}, "3 x 3"),
        ({"transform": [[1, 0, 0], [0, 0, 0], [0, 0, 1]]}, "inverted"),
        ({"ir_size": [0, 4]}, "height and a width"),
        ({"model": "spline"}, "none of"),
    ],
)
def test_files_that_are_none_are_refused(content, words, tmp_path):
    path = tmp_path / "rig.json"
    shifted(0, 0).save(path)
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content)
    path.write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        Alignment.load(path)
    assert str(path) in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(MissingFileError, match="fusionzoo align"):
        Alignment.load(tmp_path / "none.json")
    with pytest.raises(FileError, match="cannot be written"):
        shifted(0, 0).save(tmp_path / "none" / "rig.json")


# -- points -----------------------------------------------------------------------------------

CORNERS = np.array([[0, 0], [100, 5], [95, 80], [3, 70], [50, 40], [20, 60], [70, 15], [80, 60.0]])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_points_give_the_largest_model_that_they_suffice_for(count):
    expected = {1: "translation", 2: "similarity", 3: "affine"}.get(count, "homography")
    found = fit_points(CORNERS[:count], CORNERS[:count] * 1.0 + 7, (90, 120), (100, 130))
    assert found.model == expected
    assert np.allclose(found.transform, [[1, 0, 7], [0, 1, 7], [0, 0, 1]], atol=1e-6)


def test_wrong_points_do_not_count():
    goals = CORNERS * 1.1 + 4
    goals[2] += (40, 0)
    found = fit_points(CORNERS, goals, (90, 120), (100, 130), "similarity")
    assert np.allclose(found.transform, [[1.1, 0, 4], [0, 1.1, 4], [0, 0, 1]], atol=1e-6)
    assert found.confidence == pytest.approx(7 / 8)
    chaos = np.random.default_rng(0).random((8, 2)) * 100
    with pytest.raises(AlignmentError, match=r"points agree|no sensible"):
        fit_points(CORNERS, chaos, (90, 120), (100, 130), "similarity")
    with pytest.raises(AlignmentError, match="spread them"):
        fit_points(CORNERS[[0, 0, 0]], CORNERS[[0, 0, 0]], (90, 120), (90, 120), "affine")


def test_files_of_points(tmp_path):
    path = tmp_path / "points.txt"
    path.write_text("# ir, vi\n1 2 3 4\n\n5, 6; 7 8.5 # door\n")
    ir, vi = read_points(path)
    assert ir.tolist() == [[1, 2], [5, 6]]
    assert vi.tolist() == [[3, 4], [7, 8.5]]
    for text, words in (("1 2 3\n", "line 1"), ("1 2 3 x", "four numbers"), ("#\n", "no points")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_points(path)
    with pytest.raises(MissingFileError):
        read_points(tmp_path / "none.txt")


# -- fusing -----------------------------------------------------------------------------------


def test_fusing_brings_infrared_into_place_with_a_soft_edge():
    ir, vi = values((60, 80), seed=1), values((90, 100, 3), seed=2)
    register = registration(shifted(10, 20, ir.shape, vi.shape[:2]))
    fused = fuse_images(mean, ir, vi, register=register)
    assert fused.shape == vi.shape
    inner, plain = fused[30:70, 20:80], fuse_images(mean, ir[10:50, 10:70], vi[30:70, 20:80])
    assert np.abs(inner.astype(int) - plain).max() <= 1
    outside = ~shifted(10, 20, ir.shape, vi.shape[:2]).region
    assert np.abs(fused.astype(int) - vi)[outside].max() <= 1


def test_an_identity_changes_nothing():
    ir, vi = values((30, 40), seed=1), values((30, 40, 3), seed=2)
    register = registration(shifted(0, 0, (30, 40), (30, 40)))
    assert np.array_equal(fuse_images(mean, ir, vi, register=register), fuse_images(mean, ir, vi))


def test_gradients_pass_the_alignment():
    ir = torch.rand(1, 12, 16, requires_grad=True)
    register = registration(shifted(0, 0, (12, 16), (12, 16)))
    fuse_images(mean, ir, torch.rand(1, 12, 16), register=register, grad=True).sum().backward()
    assert (ir.grad > 0).all()


def test_fusing_refuses_what_does_not_fit():
    ir, vi = values((30, 40)), values((30, 40))
    with pytest.raises(InputError, match=r"6 x 8.*align this pair anew"):
        fuse_images(mean, ir, vi, register=registration(shifted(0, 0)))
    register = registration(shifted(0, 0, (30, 40), (30, 40)))
    with pytest.raises(InputError, match="drop resize"):
        fuse_images(mean, ir, vi, register=register, resize="ir")
    with pytest.raises(TypeError, match="align is a int"):
        registration(3)
    assert registration(None) is None
    assert registration(False) is None


@pytest.mark.parametrize("start", [True, "an alignment"])
def test_a_tracked_stream_follows_slowly_and_outlives_what_shows_too_little(start, monkeypatch):
    size = (30, 40)
    answers = {"x": 0.0}

    def answer(ir, vi, force=False):
        if answers["x"] is None:
            raise AlignmentError("too few edges")
        return shifted(answers["x"], 0, size, size)

    # By name, the package gives the function of that name and not the module.
    monkeypatch.setattr(sys.modules["fusionzoo.alignment.registration"], "align_pair", answer)
    stay = start if start is True else shifted(0, 0, size, size)
    register = registration_once(stay, track=True)
    ir, vi = (torch.from_numpy(values(size, "float32", seed))[None, None] / 255 for seed in (1, 2))

    for x, expected in ((0.0, 0.0), (9.0, 3.0), (None, 3.0), (9.0, 5.0)):
        answers["x"] = x
        for _ in range(25 + (expected == 0)):
            moved, weight = register(ir, vi)
        assert register._known.alignment.transform[0, 2] == pytest.approx(expected, abs=1e-6)
    inner = weight[..., 10:-10] > 0.999
    assert torch.allclose(moved[..., 10:-10][inner], ir[..., 5:-15][inner], atol=1e-5)
    with pytest.raises(InputError, match="pass align, too"):
        registration_once(None, track=True)


# -- commands ---------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    for side, seed in (("ir", 1), ("vi", 2)):
        save_image(tmp_path / f"{side}.png", values((40, 48), seed=seed))
    return tmp_path


def test_points_to_a_rig_to_a_cut_picture(files, capsys):
    ir, vi, rig = (str(files / name) for name in ("ir.png", "vi.png", "rig.json"))
    (files / "points.txt").write_text("0 0 4 2\n40 0 44 2\n40 30 44 32\n5 30 9 32\n")
    arguments = ["--points", str(files / "points.txt"), "--model", "similarity"]
    arguments += ["--checkerboard", str(files / "board.png")]
    assert main(["align", ir, vi, "-o", rig, *arguments]) == 0
    assert "similarity, 48 x 40 into 48 x 40" in capsys.readouterr().out
    assert Image.open(files / "board.png").size == (48 + 8 + 48, 40)
    out = str(files / "fused.png")
    assert main(["fuse", ir, vi, "-o", out, f"--align={rig}", "--crop", "--device", "cpu"]) == 0
    assert Image.open(out).size == (44, 38)


def test_a_checkerboard_shows_both_images_by_turns_before_and_after(files):
    ir, vi = (np.asarray(Image.open(files / name), float) for name in ("ir.png", "vi.png"))
    picture = np.asarray(
        checkerboard(
            files / "ir.png", files / "vi.png", shifted(5, 0, (40, 48), (40, 48)), squares=2
        )
    )
    assert picture.shape == (40, 48 + 8 + 48)
    before, after = picture[:, :48].astype(float), picture[:, 56:].astype(float)
    assert (picture[:, 48:56] == 255).all()

    def alike(one, other):
        return np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99

    assert alike(before[:20, :20], ir[:20, :20])
    assert alike(before[:20, 20:40], vi[:20, 20:40])
    assert alike(after[:20, 5:20], ir[:20, :15])
    assert alike(after[:20, :5], vi[:20, :5])  # the infrared image does not reach there
    with pytest.raises(InputError, match="8 x 6"):
        checkerboard(files / "ir.png", files / "vi.png", shifted(5, 0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["align", "IR", "VI"], "-o OUT"),
        (["align", "IR", "VI", "-o", "OUT", "--checkerboard", "x.gog"], "'.gog' is no format"),
        (["align", "IR", "VI", "-o", "OUT", "--checkerboard", "IR"], "would replace"),
        (["align"], "--check FOLDER"),
        (["align", "IR", "none.png", "-o", "OUT"], "none.png does not exist"),
        (["align", "IR", "VI", "-o", "none/rig.json"], "there is no folder none"),
        (["align", "IR", "--check", "DIR"], "--check takes a folder alone"),
        (["align", "--check", "DIR"], "no such folder"),
        (["fuse", "IR", "VI", "-o", "OUT", "--crop"], "--crop goes with --align"),
        (["fuse", "IR", "VI", "-o", "OUT", "--track"], "--track goes with --align"),
        (["fuse", "IR", "VI", "-o", "OUT", "--align", "--track"], "--track is for videos"),
        (["fuse", "IR", "VI", "-o", "OUT", "--align", "--resize", "ir"], "drop --resize"),
    ],
)
def test_wrong_usage_is_one_line(arguments, words, files, capsys):
    names = {"IR": files / "ir.png", "VI": files / "vi.png", "OUT": files / "out.png", "DIR": files}
    assert main([str(names.get(word, word)) for word in arguments]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
