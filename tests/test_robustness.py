"""Published infrared-visible weights where fusion tends to fail: night, weak infrared, rotation."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fusionzoo
from fusionzoo.models import MODELS

ASSETS = Path(__file__).parent / "assets"
DATA = os.environ.get("FUSIONZOO_TEST_DATA")
NIGHTS = ["00004N", "00016N", "00036N", "01023N"]
SIDE = 192  # of the crops: whole images take long, and the middle shows the street

KEYS = [
    key
    for key in fusionzoo.list_models(pretrained=True)
    if MODELS[key.partition(".")[0]].modalities_of(key) == ("infrared", "visible")
]

pytestmark = pytest.mark.parametrize("key", KEYS)
load = functools.cache(fusionzoo.load)


def grey(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def pair():
    """A real pair of 80 x 96 pixels."""
    return tuple(grey(ASSETS / f"data_tno_{kind}.png") for kind in ("ir", "vi"))


def fuse(key, ir, vi):
    return load(key).fuse(ir, vi).astype(np.float32)


TURNS = {
    "left-right": (np.fliplr, np.fliplr),
    "upside-down": (np.flipud, np.flipud),
    "quarter": (np.rot90, lambda x: np.rot90(x, -1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_pair_gives_the_turned_result(key, turn):
    """Within a few grey levels: kernels are learned, and not symmetric."""
    there, back = TURNS[turn]
    ir, vi = pair()
    turned = back(fuse(key, *(np.ascontiguousarray(there(x)) for x in (ir, vi))))
    assert np.abs(turned - fuse(key, ir, vi)).mean() < 4


def test_weak_infrared_leaves_the_visible_image(key):
    ir, vi = pair()
    weak = (100 + 0.05 * (ir.astype(np.float32) - ir.mean())).round().astype(np.uint8)
    fused = fuse(key, weak, vi)
    assert np.corrcoef(fused.ravel(), vi.ravel())[0, 1] > 0.85
    assert fused.std() > 0.6 * vi.std()


@pytest.mark.skipif(not DATA, reason="FUSIONZOO_TEST_DATA names no folder of real data")
@pytest.mark.parametrize("night", NIGHTS)
def test_nights_are_not_dark_grey_or_saturated(key, night):
    whole = [grey(Path(DATA) / "msrs" / "test" / kind / f"{night}.png") for kind in ("ir", "vi")]
    top, left = ((size - SIDE) // 2 for size in whole[0].shape)
    ir, vi = (np.ascontiguousarray(x[top : top + SIDE, left : left + SIDE]) for x in whole)
    fused = fuse(key, ir, vi)
    assert fused.mean() > 0.75 * (ir.mean() + vi.mean()) / 2
    assert fused.std() > 0.6 * max(ir.std(), vi.std())
    bright = max((x >= 250).mean() for x in (ir, vi))
    assert (fused >= 250).mean() < bright + 0.01
