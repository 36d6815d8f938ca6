"""plot.grid: whose pixels lie where, and what it refuses."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_helpers import ASSETS, asset
from PIL import Image

import fusionzoo
from fusionzoo import plot

pytestmark = pytest.mark.usefixtures("one_thread")

pytest.importorskip("matplotlib")

IR, VI = ASSETS / "cli_ir.png", ASSETS / "cli_vi.png"  # 96 x 72, visible in colour
GAP = 4


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return fusionzoo.create_model("didfuse", channels=4).eval()


def pixels(figure):
    return np.asarray(figure.picture().convert("RGB"))


def rgb(image):
    return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def expected(model):
    return [rgb(Image.open(IR)), rgb(Image.open(VI)), rgb(model.fuse(IR, VI))]


def in_a_row(images):
    height = images[0].shape[0]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)]
    return np.concatenate(parts[1:], 1)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_pixels_are_those_of_the_sources_and_of_fuse(model, expected):
    figure = plot.grid(IR, VI, model, titles=False)
    assert np.array_equal(pixels(figure), in_a_row(expected))
    assert len(figure.axes) == 3


@pytest.mark.parametrize("side", [17, 29, 58, 71])
def test_no_size_loses_a_pixel_not_even_when_saved_tight(side):
    rows = [(np.arange(side * (side + n) * 3) % 251).astype(np.uint8) for n in (0, 1, 4)]
    images = [row.reshape(side, -1, 3) for row in rows]
    figure = plot.grid(images, images, titles=["a", "b"], names=["1", "2", "3"])
    drawn = pixels(figure)
    assert drawn.shape[1] == 24 + 2 * (side + 4) + GAP
    for n, image in enumerate(images):
        top = 24 + n * (side + GAP)
        indent = (side + 4 - image.shape[1]) // 2
        for left in (24 + indent, 24 + side + 4 + GAP + indent):
            place = drawn[top : top + side, left : left + image.shape[1]]
            assert np.array_equal(place, image)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight")
    tight = np.asarray(Image.open(stream).convert("RGB"))
    assert np.array_equal(tight[10:-10, 10:-10], drawn)


def test_saved_file_holds_the_same_and_grey_is_stored_as_grey(tmp_path, model):
    figure = plot.grid(IR, VI, model, path=tmp_path / "color.png")
    with Image.open(tmp_path / "color.png") as saved:
        assert saved.mode == "RGB"
        assert np.array_equal(np.asarray(saved), pixels(figure))
    grey = Image.open(VI).convert("L")
    plot.grid(IR, grey, model, path=tmp_path / "grey.png")
    with Image.open(tmp_path / "grey.png") as saved:
        assert saved.mode == "L"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["color.png", "grey.png"]


def test_notebooks_get_the_same_picture(model):
    figure = plot.grid(IR, VI, model)
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert np.array_equal(np.asarray(shown.convert("RGB")), pixels(figure))


def test_batches_and_lists_make_rows(model, expected):
    ir, vi = (torch.from_numpy(asset(name).copy()) for name in ("ir", "vi"))
    batch = plot.grid(
        torch.stack([ir, ir.flip(0)])[:, None],
        torch.stack([vi, vi.flip(0)]).permute(0, 3, 1, 2),
        model,
        titles=False,
    )
    drawn = pixels(batch)
    assert np.array_equal(drawn[:72], in_a_row(expected))
    assert drawn.shape[0] == 2 * 72 + GAP
    assert np.array_equal(drawn[76:, 100:196], expected[1][::-1])
    mixed = plot.grid([IR, asset("ir")[:40]], [VI, Image.open(VI).crop((0, 0, 96, 40))], model)
    assert mixed.get_figheight() * 100 == pytest.approx(24 + 72 + GAP + 40)


def test_radiance_is_drawn_by_its_range_and_fused_as_fuse_does(model, expected):
    radiance = asset("ir").astype(np.uint16) * 20 + 1000
    figure = plot.grid(radiance, VI, model, titles=False, ir_range=(1000, 1000 + 20 * 255))
    assert np.array_equal(pixels(figure), in_a_row(expected))
    by_percentiles = plot.grid(radiance, VI, titles=False)
    assert not np.array_equal(pixels(by_percentiles)[:, :96], expected[0])
    assert pixels(by_percentiles)[:, :96].max() == 255


def test_color_false_gives_a_grey_result(model):
    drawn = pixels(plot.grid(IR, VI, model, titles=False, color=False))[:, -96:]
    assert np.array_equal(drawn, rgb(model.fuse(IR, VI, color=False)))
    assert np.array_equal(drawn[..., 0], drawn[..., 2])


def test_crop_cuts_after_fusing(model, expected):
    left, top, right, bottom = box = (10, 20, 60, 50)
    figure = plot.grid(IR, VI, model, titles=False, crop=box)
    parts = [image[top:bottom, left:right] for image in expected]
    assert np.array_equal(pixels(figure), in_a_row(parts))
    for_each = plot.grid([IR, IR], [VI, VI], titles=False, crop=[None, box])
    assert pixels(for_each).shape[0] == 72 + GAP + 30
    # Four pairs with a box each are not one box of four numbers.
    four = plot.grid([IR] * 4, [VI] * 4, titles=False, crop=[None, box, box, box])
    assert pixels(four).shape[0] == 72 + 3 * (GAP + 30)


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_zoom_repeats_pixels_in_the_far_corner(expected, corner):
    left, top = 3 + corner[0] * 70, 3 + corner[1] * 50
    box = (left, top, left + 16, top + 12)
    drawn = pixels(plot.grid(IR, VI, titles=False, zoom=box))[:, :96]
    region = expected[0][box[1] : box[3], box[0] : box[2]]
    assert np.array_equal(drawn[box[1] : box[3], box[0] : box[2]], region)
    large = region.repeat(2, 0).repeat(2, 1)
    across = np.s_[2:34] if corner[0] else np.s_[-34:-2]
    down = np.s_[2:26] if corner[1] else np.s_[-26:-2]
    assert np.array_equal(drawn[down, across], large)
    assert not np.array_equal(drawn, expected[0])


def test_a_part_in_the_middle_is_not_hidden_by_its_enlargement(expected):
    box = (40, 29, 56, 43)
    drawn = pixels(plot.grid(IR, VI, titles=False, zoom=box))[:, :96]
    assert np.array_equal(drawn[29:43, 40:56], expected[0][29:43, 40:56])


def test_zoom_of_a_reduced_picture_shows_original_pixels(expected):
    box = (70, 50, 86, 60)
    drawn = pixels(plot.grid(IR, VI, titles=False, zoom=box, width=60))[:, :60]
    region = expected[0][50:60, 70:86]
    assert np.array_equal(drawn[2:12, 2:18], region)


@pytest.mark.parametrize(("width", "size"), [(48, 48), (96, 96), (200, 192), (300, 288)])
def test_width_reduces_and_enlarges_by_whole_factors_only(expected, width, size):
    drawn = pixels(plot.grid(IR, VI, titles=False, width=width))
    assert drawn.shape == (size * 3 // 4, 2 * size + GAP, 3)
    factor = size // 96
    if factor:
        assert np.array_equal(drawn[::factor, :size:factor], expected[0])
        assert np.array_equal(drawn[factor - 1 :: factor, factor - 1 : size : factor], expected[0])


def test_titles_names_and_wrapping(model, tmp_path):
    medical = fusionzoo.create_model("coconet")
    medical.modalities = ("functional", "MRI")
    model.save_pretrained(tmp_path / "mine")
    assert texts(plot.grid(IR, VI)) == ["infrared", "visible"]
    both = plot.grid(IR, VI, [model, tmp_path / "mine"])
    assert texts(both) == ["infrared", "visible", "didfuse", "mine"]
    figure = plot.grid([IR, IR], [VI, VI], {"A": model, "B": model}, names=["x", "y"])
    assert texts(figure) == ["infrared", "x", "visible", "A", "B", "y"]
    wrapped = plot.grid([IR, IR], [VI, VI], {"A": model, "B": model}, wrap=2)
    assert texts(wrapped) == ["infrared", "visible", "A", "B"] * 2
    assert pixels(wrapped).shape[:2] == (4 * (72 + 24) + 3 * GAP, 2 * 96 + GAP)
    assert texts(plot.grid(IR, VI, titles=["first", "second"])) == ["first", "second"]
    assert texts(plot.grid(IR, VI, {"C": medical}))[:2] == ["functional", "MRI"]


def test_published_weights_are_loaded_by_name(expected):
    drawn = pixels(plot.grid(IR, VI, "didfuse", titles=False))[:, -96:]
    assert np.array_equal(drawn, rgb(fusionzoo.load("didfuse").fuse(IR, VI)))


def test_resize_draws_both_in_one_size(model):
    small = Image.open(IR).resize((48, 36))
    figure = plot.grid(small, VI, model, titles=False, resize="ir")
    assert pixels(figure).shape == (72, 3 * 96 + 2 * GAP, 3)
    with pytest.raises(ValueError, match=r"pair 0.*36 x 48.*resize='ir'"):
        plot.grid(small, VI)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"width": 3}, ValueError, "width=3.*at least 16"),
        ({"wrap": 0}, ValueError, "wrap=0"),
        ({"crop": (0, 0, 97, 20)}, ValueError, r"crop of 0.*\(0, 0, 96, 72\)"),
        ({"crop": (5, 5, 5, 9)}, ValueError, "crop of 0"),
        ({"crop": [None, None]}, ValueError, "crop: give"),
        ({"zoom": (0, 0, 30, 30), "crop": (10, 0, 90, 60)}, ValueError, "zoom of 0"),
        ({"zoom": (0, 0, 90, 70)}, ValueError, "zoom.*smaller part"),
        ({"titles": ["one"]}, ValueError, "titles: give a list of 2"),
        ({"names": "one"}, ValueError, "names"),
        ({"resize": "up"}, ValueError, "resize must be one of .* not 'up'"),
        ({"models": 3}, TypeError, "models is a int"),
        ({"models": [3]}, TypeError, "models holds a int"),
        ({"models": ["didfuse", "didfuse"]}, ValueError, "two are called 'didfuse'"),
        ({"models": "nothing"}, ValueError, "unknown model"),
        ({"path": "x.bmpx"}, ValueError, "ends in .png"),
        ({"path": "nowhere/x.png"}, FileNotFoundError, "make it first"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        plot.grid(IR, VI, **options)


def test_bad_images_are_named(tmp_path):
    with pytest.raises(ValueError, match="ir holds 2 images and vi 1"):
        plot.grid([IR, IR], [VI])
    with pytest.raises(ValueError, match="vi is an empty list"):
        plot.grid(IR, [])
    with pytest.raises(FileNotFoundError, match=r"ir\[1\]"):
        plot.grid([IR, tmp_path / "none.png"], [VI, VI])


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    # Imported late: at the first call, not with the package.
    for name in list(sys.modules):
        if name.partition(".")[0] == "matplotlib" or name == "fusionzoo.plot.figure":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"^plot\.grid needs matplotlib: pip install 'fusionzoo"):
        plot.grid(IR, VI)


def test_figure_alone_imports_matplotlib():
    files = Path(plot.__file__).parent.glob("*.py")
    imports = {file.name: "\nfrom matplotlib" in file.read_text() for file in files}
    assert [name for name, there in imports.items() if there] == ["figure.py"]


def test_pyplot_does_not_keep_the_figure():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    plot.grid(IR, VI).picture()
    assert pyplot.get_fignums() == before
