"""Alignment of infrared with visible images: estimates on a real pair, bad input."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import fusionzoo
from fusionzoo.alignment import AlignmentError, align, align_rig
from fusionzoo.alignment.geometry import corner_distance, resampling, turn_about
from fusionzoo.alignment.warping import warped

ASSETS = __file__.replace("test_alignment.py", "assets/")


def grey(name):
    return np.asarray(Image.open(ASSETS + name).convert("L"))


@pytest.fixture(scope="module")
def pair():
    return grey("align_ir.jpg"), grey("align_vi.jpg")


@pytest.fixture(scope="module")
def unmoved(pair):
    """The alignment of the pair as it is: the data set's own error."""
    return align(*pair)


def moved(image, transform, size=None):
    plane = torch.from_numpy(image.copy())[None]
    return warped(plane, transform, size or image.shape)[0].numpy()


def off(alignment, transform, unmoved):
    """How far the estimate for a moved infrared image is from the known answer."""
    truth = torch.from_numpy(unmoved.transform.copy()) @ torch.linalg.inv(transform)
    found = torch.from_numpy(alignment.transform.copy())
    return corner_distance(found, truth, alignment.ir_size)


def test_a_pair_that_fits_stays_where_it_is(unmoved):
    assert unmoved.confidence > 0.8
    assert unmoved.corner_shift < 2.0


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"), [(1, 0.98, (5, -7)), (-4, 1.06, (-18, 9)), (7, 0.9, (25, 20))]
)
def test_a_known_similarity_is_found(pair, unmoved, degrees, scale, shift):
    ir, vi = pair
    transform = turn_about((160, 100), degrees, scale)
    transform[:2, 2] += torch.tensor(shift, dtype=torch.float64)
    found = align(moved(ir, transform), vi)
    assert found.model == "similarity"
    assert off(found, transform, unmoved) < 1.0
    assert found.confidence > 0.8


def test_a_known_homography_is_found(pair, unmoved):
    ir, vi = pair
    transform = turn_about((160, 100), 2, 1.0)
    transform[2, 0] = 2.5e-4
    found = align(moved(ir, transform), vi)
    assert found.model == "homography"
    assert off(found, transform, unmoved) < 4.0


def test_a_small_field_of_view_inside_a_large_one_of_another_size(pair, unmoved):
    ir, vi = pair
    inner = ir[50:150, 90:230]
    # The visible image at one and a half times its size, the infrared one as it is.
    large = np.asarray(Image.fromarray(vi).resize((480, round(vi.shape[0] * 1.5)), Image.BILINEAR))
    found = align(inner, large)
    cut = torch.eye(3, dtype=torch.float64)
    cut[0, 2], cut[1, 2] = 90, 50
    truth = resampling(1.5) @ torch.from_numpy(unmoved.transform.copy()) @ cut
    estimate = torch.from_numpy(found.transform.copy())
    assert corner_distance(estimate, truth, inner.shape) < 4.0
    assert found.warp(inner).shape == large.shape


def test_inverted_and_16_bit_infrared(pair, unmoved):
    ir, vi = pair
    transform = turn_about((160, 100), 3, 1.0)
    deep = (30000 - 20 * moved(ir, transform).astype(np.int64)).astype(np.uint16)
    assert off(align(deep, vi), transform, unmoved) < 1.5


def test_a_rig_is_estimated_from_all_its_pairs(pair, unmoved):
    ir, vi = pair
    transform = turn_about((160, 100), -3, 1.03)
    ir = moved(ir, transform)
    blank = np.random.default_rng(0).integers(0, 255, ir.shape, dtype=np.uint8)
    left, right = ir.copy(), ir.copy()
    left[:, 160:] = 60
    right[:, :160] = 60
    found = align_rig([(left, vi), (blank, vi), (right, vi)])
    assert found.pairs == 3
    assert off(found, transform, unmoved) < 1.5


def test_models_bound_what_is_found(pair):
    ir, vi = pair
    transform = torch.eye(3, dtype=torch.float64)
    transform[0, 2], transform[1, 2] = 9, -4
    found = align(moved(ir, transform), vi, "translation")
    assert found.model == "translation"
    assert np.allclose(found.transform[:2, :2], np.eye(2))
    assert math.dist(found.transform[:2, 2], (-9, 4)) < 2.0


def test_other_scenes_are_refused(pair):
    ir, _ = pair
    other = np.asarray(Image.open(ASSETS + "data_tno_vi.png").convert("L"))
    with pytest.raises(AlignmentError, match="different scenes") as caught:
        align(ir, other)
    assert isinstance(caught.value, ValueError)
    assert align(ir, other, force=True).confidence < 0.5


def test_a_mirrored_pair_is_refused_as_such(pair):
    ir, vi = pair
    with pytest.raises(AlignmentError, match="mirrored"):
        align(ir[:, ::-1], vi)


def test_noise_and_constant_images_are_refused(pair):
    ir, vi = pair
    noise = np.random.default_rng(1).integers(0, 255, ir.shape, dtype=np.uint8)
    with pytest.raises(AlignmentError):
        align(noise, vi)
    with pytest.raises(fusionzoo.errors.InputError, match="ir is constant"):
        align(np.full_like(ir, 7), vi)
    with pytest.raises(fusionzoo.errors.InputError, match="32 x 32"):
        align(ir[:20], vi)
    with pytest.raises(fusionzoo.errors.InputError, match="model must be one of"):
        align(ir, vi, "homografy")
    with pytest.raises(fusionzoo.errors.InputError, match="no pairs"):
        align_rig([])
    with pytest.raises(fusionzoo.errors.InputError, match="pair 1"):
        align_rig([(ir, vi), (ir[:-4], vi)])


def test_a_matcher_of_ones_own(pair):
    def matcher(ir, vi):
        assert ir.dtype == vi.dtype == np.float32
        points = np.array([[10, 10], [300, 12], [290, 180], [20, 170], [100, 90], [50, 50]], float)
        goals = points + np.array([3, -2])
        goals[-1] += 60  # one wrong match
        return points, goals

    found = align(*pair, "similarity", matcher=matcher)
    assert np.allclose(found.transform, [[1, 0, 3], [0, 1, -2], [0, 0, 1]], atol=1e-6)
    assert found.confidence == pytest.approx(5 / 6)
    with pytest.raises(TypeError, match="two arrays"):
        align(*pair, matcher=lambda ir, vi: None)


def test_equal_calls_give_equal_results_and_leave_no_trace(pair):
    state = torch.get_rng_state()
    first, second = align(*pair), align(*pair)
    assert np.array_equal(first.transform, second.transform)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
