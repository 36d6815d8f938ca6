"""Target masks: how they are made, and how they come into training batches."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import asset, real_pairs, write
from jsonargparse import ArgumentParser

from fusionzoo.data import FusionDataModule, PairDataset, PairError, find_pairs, target_mask
from fusionzoo.data.decoding import check_pairs, load_pair, make_mask
from fusionzoo.data.masks import fill_small, mask_from_pixels, remove_small
from fusionzoo.data.pairs import scan_pairs

DATA = os.environ.get("FUSIONZOO_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="FUSIONZOO_TEST_DATA names no folder of real data")


def unit(array):
    return torch.from_numpy(array.astype(np.float32) / 255)[None]


# Regions ----------------------------------------------------------------------------------------


def flooded(mask, corners):
    """The regions of a mask as sets of places, by walking from pixel to pixel."""
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if corners or 0 in (a, b)]
    left = set(map(tuple, np.argwhere(mask).tolist()))
    regions = []
    while left:
        region, queue = set(), [left.pop()]
        while queue:
            row, column = queue.pop()
            region.add((row, column))
            near = {(row + a, column + b) for a, b in steps} & left
            left -= near
            queue += near
        regions.append(region)
    return regions


def random_masks():
    random = np.random.default_rng(3)
    for shape in ((1, 1), (1, 9), (9, 1), (6, 5), (24, 31)):
        for share in (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0):
            yield random.random(shape) < share


def test_small_regions_go_and_small_holes_close():
    for mask in random_masks():
        expected = np.zeros_like(mask)
        for region in flooded(mask, True):
            if len(region) >= 4:
                expected[tuple(zip(*region, strict=True))] = True
        assert np.array_equal(remove_small(mask, 4), expected)
        expected = mask.copy()
        for hole in flooded(~mask, False):
            if len(hole) < 4:
                expected[tuple(zip(*hole, strict=True))] = True
        assert np.array_equal(fill_small(mask, 4), expected)


# How masks are made -----------------------------------------------------------------------------


def night(height=120, width=160):
    """A noisy scene of mean 0.3 with nothing in it."""
    noise = np.random.default_rng(0).normal(0, 0.02, (height, width))
    return (0.3 + noise).clip(0, 1).astype(np.float32)


def marked(image, kind="saliency"):
    mask = target_mask(torch.from_numpy(image)[None], kind)
    assert mask.dtype == torch.bool
    assert mask.shape == (1, *image.shape)
    return mask[0].numpy()


def test_hot_targets_are_marked_and_nothing_else():
    scene = night()
    targets = np.zeros(scene.shape, bool)
    targets[40:60, 30:38] = targets[70:80, 100:125] = True
    scene[targets] = 0.8
    scene[20:30, 60:75] = 0.0  # cold: salient, but no target
    scene[100, 20] = 1.0  # a hot pixel of the sensor
    scene[74:76, 110:112] = 0.3  # a window in the second target
    assert np.array_equal(marked(scene), targets)


def test_what_surrounds_or_crosses_the_scene_is_no_target():
    for place in (np.s_[:14], np.s_[60:75], np.s_[-14:]):
        road, scene = night(), night()
        road[place] = 0.9
        scene[place] = 0.9
        scene[:, :5] = scene[:, -5:] = scene[:5] = scene[-5:] = 0.9
        assert not marked(road).any()
        assert not marked(scene).any()
    vignette = night()
    vignette[:4, 20:] = vignette[-4:, 20:] = vignette[:, -4:] = 0.9
    assert not marked(vignette).any()
    person = night()  # standing close, from top to bottom
    person[:, 60:80] = 0.9
    assert marked(person)[:, 60:80].all()


def test_targets_are_brighter_than_the_image_and_than_what_is_around_them():
    scene = night() + 0.4
    scene[:40] = 0.0  # the sky ...
    scene[:8, 60:75] = 0.25  # ... and a cloud: salient, warmer than the sky, colder than all else
    assert not marked(scene).any()
    scene = night()
    scene[70:, :90] = 0.8  # a field
    scene[20:30, 60:75] = 0.8
    mask = marked(scene)
    assert mask[20:30, 60:75].all()
    assert not mask[100:, :50].any()


def test_masks_never_cover_most_of_the_image():
    rows, columns = np.mgrid[:120, :160]
    bars = np.where((columns % 20 < 9) & (rows > 5) & (rows < 115), 0.9, 0.1).astype(np.float32)
    levels = np.where(bars > 0.5, 0.5 + columns.astype(np.float32) / 400, 0.1).astype(np.float32)
    warm = np.where(levels > 0.5, levels, 0.1)
    assert (bars > 0.5).mean() > 0.35
    assert not marked(bars).any()  # all alike: the scene itself
    mask = marked(warm)
    assert 0 < mask.mean() <= 0.25
    assert warm[mask].min() > warm[(warm > 0.5) & ~mask].max()  # the hottest ones stay


@pytest.mark.parametrize("kind", ["saliency", "foreground"])
@pytest.mark.parametrize("shape", [(40, 60), (2, 2), (1, 7), (3, 500)])
def test_flat_images_have_no_targets_whatever_their_size(kind, shape):
    for value in (0.0, 0.35, 1.0):
        assert not marked(np.full(shape, value, np.float32), kind).any()


def test_real_infrared():
    image = unit(asset("tno_ir.png"))
    mask = target_mask(image, "saliency")
    assert 0 < mask.float().mean() <= 0.25
    assert image[mask].mean() > image[~mask].mean() + image.std()
    assert torch.equal(target_mask(image.double(), "saliency"), mask)


def test_foreground_is_the_bright_class_without_specks_and_pinholes():
    image = asset("mri.png")
    image = image if image.ndim == 2 else image[..., 0]
    variances = []
    for level in range(255):
        dark, bright = image[image <= level], image[image > level]
        apart = bright.mean() - dark.mean() if dark.size and bright.size else 0.0
        variances.append(dark.size * bright.size * apart**2)
    plain = image > int(np.argmax(variances))
    mask = target_mask(unit(image), "foreground")[0].numpy()
    least = max(2, round(1e-3 * image.size))
    assert np.array_equal(mask, remove_small(fill_small(plain, least), least))
    assert 0.05 < mask.mean() < 0.95


def test_bad_arguments():
    with pytest.raises(ValueError, match="kind must be one of 'saliency', 'foreground', not 'hot'"):
        target_mask(torch.zeros(1, 4, 4), "hot")
    for shape in ((4, 4), (1, 1, 4, 4), (3, 4, 4)):
        with pytest.raises(ValueError, match="image "):
            target_mask(torch.zeros(shape), "saliency")


# Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_half_of_full_scale_marks_a_target(dtype, full):
    pixels = np.array([[0, 0.49, 0.51, 1]]) * full
    assert mask_from_pixels(pixels.astype(dtype)).tolist() == [[0, 0, 1, 1]]
    assert not mask_from_pixels(np.zeros((3, 4), dtype)).any()
    colored = np.repeat(pixels[..., None], 3, 2).astype(dtype)
    assert mask_from_pixels(colored).tolist() == [[0, 0, 1, 1]]


def random_mask(shape, seed):
    return (np.random.default_rng(seed).random(shape) < 0.3).astype(np.uint8) * 255


@pytest.fixture
def drawn(tmp_path):
    """Pairs whose infrared image is the very mask that lies beside it, in several formats."""
    for number, ending in enumerate(("png", "bmp", "tif", "png", "png")):
        pixels = random_mask((40, 30), number)
        write(tmp_path / f"ir/night/{number}.png", pixels)
        write(tmp_path / f"vi/night/{number}.png", asset("tno_vi.png")[:40, :30])
        write(tmp_path / f"mask/night/{number}.{ending}", pixels)
    return tmp_path


def batches(root, epochs=2, **options):
    data = FusionDataModule(str(root), seed=3, **options)
    data.setup("fit")
    loader = data.train_dataloader()
    result = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        result += list(loader)
    return result


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("crop_size", [16, 34])  # the latter is wider than the images
def test_masks_are_cropped_and_flipped_with_their_pairs(drawn, cache, crop_size):
    options = {"crop_size": crop_size, "flip": True, "batch_size": 2, "cache": cache}
    found = batches(drawn, mask="saliency", **options)
    for batch in found:
        assert batch["mask"].shape == batch["ir"].shape
        assert batch["mask"].dtype == torch.float32
        assert torch.equal(batch["mask"], batch["ir"])
    # Masks change nothing of what is drawn.
    for batch, plain in zip(found, batches(drawn, **options), strict=True):
        assert "mask" not in plain
        assert all(torch.equal(batch[key], plain[key]) for key in ("ir", "vi"))
        assert batch["name"] == plain["name"]


def test_workers_make_no_difference(drawn):
    options = {"mask": "saliency", "crop_size": 16, "flip": True, "batch_size": 2}
    alone, helped = batches(drawn, **options), batches(drawn, num_workers=2, **options)
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one["mask"], other["mask"])


@pytest.mark.parametrize("cache", [True, False])
def test_masks_are_made_where_no_file_is(tmp_path, cache):
    root = real_pairs(tmp_path, 4, size=60)
    (found,) = batches(root, 1, mask="saliency", batch_size=4, cache=cache)
    expected = torch.stack([target_mask(image, "saliency") for image in found["ir"]]).float()
    assert torch.equal(found["mask"], expected)
    assert expected.any()
    # One drawn mask changes that pair's alone; what is made and written is what is made anew.
    pairs = find_pairs(root)
    write(root / "mask/00.png", 255 - 255 * make_mask(pairs[0], "saliency"))
    write(root / "mask/01.png", 255 * make_mask(pairs[1], "saliency"))
    (mixed,) = batches(root, 1, mask="saliency", batch_size=4, cache=cache)
    first = mixed["name"].index("00")
    assert torch.equal(mixed["mask"][first], 1 - expected[first])
    others = [number for number in range(4) if number != first]
    assert torch.equal(mixed["mask"][others], expected[others])


def test_foreground_masks_are_of_the_image_in_the_visible_place(tmp_path):
    write(tmp_path / "pet/a.png", asset("pet.png"))
    write(tmp_path / "mri/a.png", asset("mri.png"))
    (batch,) = batches(tmp_path, 1, layout="harvard_pet", mask="foreground", color=True)
    assert torch.equal(batch["mask"][0], target_mask(batch["vi"][0], "foreground").float())
    assert not torch.equal(batch["mask"][0], target_mask(batch["ir"][0], "foreground").float())


def test_only_training_batches_have_masks(drawn):
    data = FusionDataModule(str(drawn), mask="saliency", holdout=2)
    data.setup()
    assert "mask" in next(iter(data.train_dataloader()))
    assert "mask" not in next(iter(data.val_dataloader()))
    data = FusionDataModule(test_root=str(drawn), mask="saliency")
    data.setup("test")
    assert "mask" not in next(iter(data.test_dataloader()))


def test_folders_of_masks_by_name_and_of_several_roots(drawn, tmp_path):
    (drawn / "mask").rename(drawn / "targets_train")
    found = batches(drawn, 1, mask="saliency", mask_dir="targets_{split}")
    assert all(torch.equal(batch["mask"], batch["ir"]) for batch in found)
    other = tmp_path / "other"
    for side in ("ir", "vi"):
        write(other / side / "night/1.png", asset(f"tno_{side}.png"))
    pairs, problems = scan_pairs([drawn, other], mask_dir="targets_train")
    assert not problems
    assert [pair.mask is not None for pair in pairs] == [True] * 5 + [False]
    assert pairs[-1].name == "other/night/1"


@pytest.mark.parametrize("cache", [True, False])
def test_what_is_wrong_with_masks_comes_with_everything_else(drawn, cache):
    folder = drawn / "mask/night"
    write(folder / "0.png", random_mask((40, 31), 0))
    (folder / "3.png").write_bytes(b"no image")
    write(folder / "4.bmp", random_mask((40, 30), 4))
    (drawn / "ir/night/2.png").unlink()
    with pytest.raises(PairError) as caught:
        batches(drawn, mask="saliency", cache=cache)
    found = {problem.path.name: problem for problem in caught.value.problems}
    assert set(found) == {"0.png", "2.png", "3.png", "4.png"}
    assert "is 31x40 (width x height)" in found["0.png"].what
    assert "30x40" in found["0.png"].what
    assert "cannot be read" in found["3.png"].what
    assert "has the same name as 4.bmp" in found["4.png"].what
    assert all(problem.remedy for problem in found.values())
    # Without masks nobody looks there.
    (drawn / "vi/night/2.png").unlink()
    assert batches(drawn, cache=cache)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (random_mask((40, 30), 0) // 255, "has values up to 1, where a mask marks targets by 255"),
        (random_mask((40, 30, 3), 0), "is in colour"),
    ],
)
def test_files_that_are_no_masks(drawn, pixels, message):
    write(drawn / "mask/night/0.png", pixels)
    with pytest.raises(PairError, match=message):
        batches(drawn, mask="saliency")
    with pytest.raises(ValueError, match=rf"0\.png: {message}.*then one is made"):
        batches(drawn, mask="saliency", cache=False)


def test_a_folder_of_other_files(drawn):
    (drawn / "mask/night").rename(drawn / "mask/day")
    with pytest.raises(PairError, match="holds no mask that is named as a pair is"):
        batches(drawn, mask="saliency")
    for mask_dir in ("ir", "vi/night"):
        with pytest.raises(PairError, match="set mask_dir to a folder of its own"):
            batches(drawn, mask="saliency", mask_dir=mask_dir)


def test_masks_count_for_the_memory(drawn):
    pairs, _ = scan_pairs(drawn, mask_dir="mask")
    need = 5 * 3 * 40 * 30 / 1e9
    assert check_pairs(pairs, cache=True, cache_limit=0.9 * need, mask="saliency") == (None, [])
    loaded, _ = check_pairs(pairs, cache=True, cache_limit=1.1 * need, mask="saliency")
    for pair, item in zip(pairs, loaded, strict=True):
        assert item.mask.dtype == np.uint8
        assert set(np.unique(item.mask)) == {0, 1}
        assert np.array_equal(item.mask, load_pair(pair, "saliency").mask)
    assert len(check_pairs(pairs, cache=True, cache_limit=0.9 * need)[0][0]) == 2  # no mask


def test_arguments(drawn):
    with pytest.raises(ValueError, match=r"mask must be one of 'saliency', .*, not 'hot'"):
        FusionDataModule(str(drawn), mask="hot")
    pairs = find_pairs(drawn)
    plain, _ = check_pairs(pairs, cache=True)
    with pytest.raises(ValueError, match="load the pairs with the same mask"):
        PairDataset(pairs, plain, mask="saliency")
    masked, _ = check_pairs(pairs, cache=True, mask="saliency")
    with pytest.raises(ValueError, match="load the pairs with the same mask"):
        PairDataset(pairs, masked)
    parser = ArgumentParser()
    parser.add_class_arguments(FusionDataModule, "data")
    parsed = parser.parse_args(["--data.mask=foreground", "--data.mask_dir=m"]).data
    assert (parsed.mask, parsed.mask_dir) == ("foreground", "m")
    assert parser.parse_args([]).data.mask is None


@needs_data
def test_masks_of_the_real_training_sets():
    for folder, options, kind, most in (
        ("tno/train", {}, "saliency", 0.25),
        ("roadscene/train", {}, "saliency", 0.25),
        ("harvard/pet_mri/train", {"layout": "harvard_pet"}, "foreground", 0.6),
    ):
        # A folder of masks that somebody keeps there is not what is tested.
        data = FusionDataModule(str(Path(DATA, folder)), mask=kind, mask_dir="no masks", **options)
        data.setup("fit")
        shares = np.array([item.mask.mean() for item in data.datasets["train"].loaded])
        assert shares.max() <= most
        assert (shares > 0).mean() > 0.9
