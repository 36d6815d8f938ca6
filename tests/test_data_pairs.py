"""Finding, checking and reading pairs."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import asset, real_pairs, write
from PIL import Image

from fusionzoo.data import PairDataset, PairError, find_pairs
from fusionzoo.data.dataset import Draw, collate_pairs
from fusionzoo.data.decoding import check_pairs, load_pair
from fusionzoo.inference import normalise, rgb_to_ycbcr, save_image
from fusionzoo.pairing import Pair


def names(pairs):
    return [pair.name for pair in pairs]


def loaded(pairs):
    images, problems = check_pairs(pairs, cache=True)
    assert not problems
    return images


def test_pairs_by_stem_whatever_the_ending_at_any_depth(tmp_path):
    grey = asset("tno_ir.png")
    write(tmp_path / "ir/night/01.png", grey)
    write(tmp_path / "vi/night/01.JPG", grey)
    write(tmp_path / "ir/a.b.TIFF", grey)
    write(tmp_path / "vi/a.b.bmp", grey)
    (tmp_path / "ir/.hidden.png").write_bytes(b"")
    (tmp_path / "ir/.thumbs").mkdir()
    (tmp_path / "ir/.thumbs/x.png").write_bytes(b"")
    (tmp_path / "ir/readme.txt").write_text("not an image")
    pairs = find_pairs(tmp_path)
    assert names(pairs) == ["a.b", "night/01"]
    assert pairs[1].ir == tmp_path / "ir/night/01.png"
    assert pairs[1].vi == tmp_path / "vi/night/01.JPG"
    assert np.array_equal(load_pair(pairs[0]).vi, grey)


def test_linked_folders_are_followed_once(tmp_path):
    real_pairs(tmp_path / "far", 2)
    for side in ("ir", "vi"):
        (tmp_path / "near" / side).mkdir(parents=True)
        os.symlink(tmp_path / "far" / side, tmp_path / "near" / side / "far")
        os.symlink(tmp_path / "near" / side, tmp_path / "near" / side / "again")
    assert names(find_pairs(tmp_path / "near")) == ["far/00", "far/01"]


def test_names_of_several_roots_are_told_apart_only_where_needed(tmp_path):
    real_pairs(tmp_path / "tno/train", 2)
    real_pairs(tmp_path / "road/train", 1)
    both = find_pairs([tmp_path / "tno/train", tmp_path / "road/train"])
    assert names(both) == ["tno/train/00", "tno/train/01", "road/train/00"]
    for side in ("ir", "vi"):
        (tmp_path / "road/train" / side / "00.png").rename(tmp_path / "road/train" / side / "b.png")
    assert names(find_pairs([tmp_path / "tno/train", tmp_path / "road/train"])) == [
        "00",
        "01",
        "b",
    ]
    with pytest.raises(PairError, match="given twice"):
        find_pairs([tmp_path / "tno/train", tmp_path / "tno/../tno/train"])


@pytest.mark.parametrize("cache", [True, False])
def test_all_that_is_wrong_comes_in_one_error(tmp_path, cache):
    root = real_pairs(tmp_path, 8)
    road = asset("road_vi.jpg")
    (root / "vi/00.png").unlink()
    (root / "ir/01.png").unlink()
    (root / "ir/02.png").write_bytes(b"no image at all")
    whole = (root / "vi/03.png").read_bytes()
    (root / "vi/03.png").write_bytes(whole[: len(whole) // 2])
    write(root / "vi/04.png", asset("tno_vi.png")[:30, :20])
    write(root / "ir/05.jpg", asset("tno_ir.png")[:40, :40])
    (root / "ir/06.png").unlink()
    (root / "vi/06.png").unlink()
    write(root / "ir/06.jpg", road[:40, :40])
    write(root / "vi/06.jpg", road[:40, :40])
    jpeg = (root / "vi/06.jpg").read_bytes()
    (root / "vi/06.jpg").write_bytes(jpeg[: len(jpeg) * 2 // 3])

    from fusionzoo.data import FusionDataModule

    data = FusionDataModule(str(root), cache=cache)
    with pytest.raises(PairError) as caught:
        data.setup("fit")
    error = caught.value
    assert isinstance(error, ValueError)
    found = {problem.path.relative_to(root).as_posix(): problem.what for problem in error.problems}
    assert set(found) == {
        "ir/00.png",
        "vi/01.png",
        "ir/02.png",
        "vi/03.png",
        "vi/04.png",
        "ir/05.png",
        "vi/06.jpg",
    }
    assert found["ir/00.png"] == found["vi/01.png"] == "has no partner"
    assert "20x30" in found["vi/04.png"]
    assert "40x40" in found["vi/04.png"]
    assert "05.jpg" in found["ir/05.png"]
    for broken in ("ir/02.png", "vi/03.png", "vi/06.jpg"):
        assert "cannot be read" in found[broken]
    text = str(error)
    assert all(str(problem) in text for problem in error.problems)
    assert all(problem.remedy for problem in error.problems)
    assert str(pickle.loads(pickle.dumps(error))) == text
    assert data.datasets == {}


def test_a_long_list_is_cut_in_the_message_only(tmp_path):
    for number in range(100):
        path = tmp_path / "ir" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "vi").mkdir()
    with pytest.raises(PairError, match="and 60 more") as caught:
        find_pairs(tmp_path)
    assert len(caught.value.problems) == 100


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(PairError, match="no such folder"):
        find_pairs(tmp_path / "nowhere")
    (tmp_path / "pet").mkdir()
    with pytest.raises(PairError, match=r"set ir_dir to one of the folders there \(pet\)"):
        find_pairs(tmp_path, "ir", "pet")
    (tmp_path / "ir").mkdir()
    with pytest.raises(PairError, match="holds no images"):
        find_pairs(tmp_path, "ir", "pet")


def test_turned_photographs_count_as_they_are_shown(tmp_path):
    grey = asset("tno_vi.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    write(tmp_path / "vi/a.jpg", np.rot90(grey).copy(), exif=exif, quality=95)
    write(tmp_path / "ir/a.png", grey)
    pair = find_pairs(tmp_path)[0]
    images = loaded([pair])
    assert images[0].vi.shape == images[0].ir.shape == grey.shape
    assert np.abs(images[0].vi.astype(int) - grey).mean() < 3
    assert check_pairs([pair], cache=False) == (None, [])


def test_what_does_not_fit_in_memory_is_read_from_disk(tmp_path):
    pairs = find_pairs(real_pairs(tmp_path, 3))
    need = 3 * 2 * 40 * 40 / 1e9
    assert check_pairs(pairs, cache=True, cache_limit=0.9 * need) == (None, [])
    images = check_pairs(pairs, cache=True, cache_limit=1.1 * need)[0]
    options = {"crop_size": 16, "flip": True}
    in_memory, on_disk = PairDataset(pairs, images, **options), PairDataset(pairs, **options)
    for index in range(3):
        a, b = in_memory[Draw(index, 2, index)], on_disk[Draw(index, 2, index)]
        assert torch.equal(a["ir"], b["ir"])
        assert torch.equal(a["vi"], b["vi"])
    shutil.rmtree(tmp_path)
    assert in_memory[0]["name"] == "00"
    with pytest.raises(FileNotFoundError, match=r"00\.png"):
        on_disk[0]


def test_grey_and_colour(tmp_path):
    road = asset("road_vi.jpg")
    write(tmp_path / "vi/a.png", road)
    write(tmp_path / "ir/a.png", asset("road_ir.jpg"))
    write(tmp_path / "vi/b.png", np.repeat(road[..., :1], 3, 2))  # grey, stored as RGB
    write(tmp_path / "ir/b.png", asset("road_ir.jpg"))
    pairs = find_pairs(tmp_path)
    images = loaded(pairs)
    assert images[1].vi.ndim == 2
    expected = rgb_to_ycbcr(torch.from_numpy(road.copy()).permute(2, 0, 1) / 255)
    plain = PairDataset(pairs, images)[0]
    assert plain["ir"].shape == plain["vi"].shape == (1, *road.shape[:2])
    assert plain["ir"].dtype == plain["vi"].dtype == torch.float32
    assert "cbcr" not in plain
    assert torch.allclose(plain["vi"], expected[:1], atol=1e-6)
    colored = PairDataset(pairs, images, color=True)
    assert torch.allclose(colored[0]["cbcr"], expected[1:], atol=1e-6)
    assert (colored[1]["cbcr"] == 0.5).all()
    assert torch.equal(colored[1]["vi"][0], torch.from_numpy(road[..., 0] / np.float32(255)))
    batch = collate_pairs([colored[0], colored[1]])
    assert batch["cbcr"].shape == (2, 2, *road.shape[:2])
    assert batch["name"] == ["a", "b"]


def test_colour_can_come_from_the_image_in_place_of_infrared(tmp_path):
    write(tmp_path / "pet/a.png", asset("pet.png"))
    write(tmp_path / "mri/a.png", asset("mri.png"))
    pairs = find_pairs(tmp_path, "pet", "mri")
    sample = PairDataset(pairs, color=True, color_from="ir")[0]
    expected = rgb_to_ycbcr(torch.from_numpy(asset("pet.png").copy()).permute(2, 0, 1) / 255)
    assert torch.allclose(sample["ir"], expected[:1], atol=1e-6)
    assert torch.allclose(sample["cbcr"], expected[1:], atol=1e-6)
    assert (PairDataset(pairs, color=True)[0]["cbcr"] == 0.5).all()


def test_deep_images_are_scaled_as_fuse_scales_them(tmp_path):
    grey = asset("tno_ir.png")
    thermal = grey.astype(np.uint16) * 12 + 7000
    radiance = grey.astype(np.float32) * 0.1 + 280
    write(tmp_path / "ir/a.png", thermal)
    write(tmp_path / "vi/a.png", grey)
    write(tmp_path / "ir/b.tiff", radiance)
    write(tmp_path / "vi/b.png", grey)
    pairs = find_pairs(tmp_path)
    whole = PairDataset(pairs, loaded(pairs))
    for index, values in enumerate((thermal, radiance)):
        ir = whole[index]["ir"]
        assert torch.equal(ir, normalise(values))
        low, high = np.percentile(values, [0.5, 99.5])
        expected = np.clip((values - low) / (high - low), 0, 1)
        assert np.allclose(ir[0], expected, atol=1e-4)
    # The range is that of the image, not of the crop.
    crop = PairDataset(pairs, loaded(pairs), crop_size=16, crop="center")[0]["ir"]
    top, left = (grey.shape[0] - 16 + 1) // 2, (grey.shape[1] - 16 + 1) // 2
    assert torch.equal(crop, whole[0]["ir"][:, top : top + 16, left : left + 16])


def test_eight_bit_values_are_exactly_those_of_normalise(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write(tmp_path / "ir/a.png", ramp)
    write(tmp_path / "vi/a.png", ramp)
    sample = PairDataset(find_pairs(tmp_path))[0]
    assert torch.equal(sample["ir"], normalise(ramp))


def test_crops_and_flips_are_joint_and_cover_the_image(tmp_path):
    """Every crop is a (flipped) window of the image at the same place in both modalities."""
    rows, columns = np.mgrid[:24, :32].astype(np.uint8)
    write(tmp_path / "ir/a.png", rows * 8)
    write(tmp_path / "vi/a.png", columns * 8)
    pairs = find_pairs(tmp_path)
    dataset = PairDataset(pairs, loaded(pairs), crop_size=20, flip=True, seed=3)
    places, flips = set(), set()
    for position in range(1000):
        sample = dataset[Draw(0, 0, position)]
        row = (sample["ir"][0] * 255 / 8).round().int()
        column = (sample["vi"][0] * 255 / 8).round().int()
        down, right = int(row[1, 0] - row[0, 0]), int(column[0, 1] - column[0, 0])
        assert abs(down) == abs(right) == 1
        top, left = int(row.min()), int(column.min())
        expected_rows = torch.arange(top, top + 20)
        expected_rows = expected_rows if down > 0 else expected_rows.flip(0)
        expected_columns = torch.arange(left, left + 20)
        expected_columns = expected_columns if right > 0 else expected_columns.flip(0)
        assert (row == expected_rows[:, None]).all()
        assert (column == expected_columns[None]).all()
        places.add((top, left))
        flips.add((down, right))
    assert places == {(top, left) for top in range(5) for left in range(13)}
    assert len(flips) == 4


def test_items_depend_on_seed_epoch_and_position_only(tmp_path):
    pairs = find_pairs(real_pairs(tmp_path, 2))
    make = lambda seed: PairDataset(pairs, crop_size=16, flip=True, seed=seed)  # noqa: E731
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    first = make(1)[Draw(0, 4, 7)]["ir"]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    state = torch.get_rng_state()
    assert torch.equal(first, make(1)[Draw(0, 4, 7)]["ir"])
    assert torch.equal(state, torch.get_rng_state())
    others = [make(1)[Draw(0, 4, 8)], make(1)[Draw(0, 5, 7)], make(2)[Draw(0, 4, 7)]]
    assert not any(torch.equal(first, other["ir"]) for other in others)


def test_a_share_of_the_draws_is_darkened(tmp_path):
    """Each image by a factor of its own; crops, flips and the other draws stay as they were."""
    pairs = find_pairs(real_pairs(tmp_path, 1))
    options = {"crop_size": 16, "flip": True, "seed": 5}
    plain = PairDataset(pairs, loaded(pairs), **options)
    half = PairDataset(pairs, loaded(pairs), darken=0.5, **options)
    every = PairDataset(pairs, loaded(pairs), darken=1, **options)
    untouched, factors = 0, []
    for position in range(200):
        key = Draw(0, 0, position)
        before, mixed, after = plain[key], half[key], every[key]
        factors.append([float(after[side].sum() / before[side].sum()) for side in ("ir", "vi")])
        for side, factor in zip(("ir", "vi"), factors[-1], strict=True):
            torch.testing.assert_close(after[side], before[side] * factor)
            assert after[side].dtype == torch.float32
        same = all(torch.equal(mixed[side], before[side]) for side in ("ir", "vi"))
        assert same or all(torch.equal(mixed[side], after[side]) for side in ("ir", "vi"))
        untouched += same
    assert 70 < untouched < 130
    logarithms = np.log10(factors)
    assert logarithms.min() > -1 - 1e-6
    assert logarithms.max() < 1e-6
    np.testing.assert_allclose(logarithms.mean(0), -0.5, atol=0.1)
    assert abs(np.corrcoef(logarithms.T)[0, 1]) < 0.2


def test_a_share_of_the_draws_is_halved(tmp_path):
    """Twice the window by 2 x 2 means; the draws that are not halved stay as they were."""
    pairs = find_pairs(real_pairs(tmp_path, 1))
    whole = load_pair(pairs[0])
    plain = PairDataset(pairs, loaded(pairs), crop_size=16)
    mixed = PairDataset(pairs, loaded(pairs), crop_size=16, halve=0.5)
    halved = PairDataset(pairs, loaded(pairs), crop_size=20, crop="center", halve=1)[0]
    for side, pixels in (("ir", whole.ir), ("vi", whole.vi)):
        means = torch.nn.functional.avg_pool2d(torch.from_numpy(pixels).float()[None], 2) / 255
        torch.testing.assert_close(halved[side], means, atol=0.5 / 255 + 1e-6, rtol=0)
    keys = [Draw(0, 0, position) for position in range(60)]
    untouched = sum(torch.equal(plain[key]["ir"], mixed[key]["ir"]) for key in keys)
    assert 15 < untouched < 45


def test_small_images_are_enlarged_by_reflection(tmp_path):
    pairs = find_pairs(real_pairs(tmp_path, 1, size=20))
    grey = load_pair(pairs[0]).ir
    sample = PairDataset(pairs, crop_size=64, crop="center")[0]
    assert sample["ir"].shape == sample["vi"].shape == (1, 64, 64)
    inner = sample["ir"][0, 22:42, 22:42]
    assert torch.equal(inner, torch.from_numpy(grey / np.float32(255)))
    assert torch.equal(sample["ir"][0, 21], sample["ir"][0, 23])


def test_a_batch_of_differing_sizes_says_what_to_do(tmp_path):
    real_pairs(tmp_path / "a", 1, size=20)
    real_pairs(tmp_path / "b", 1, size=24)
    dataset = PairDataset(find_pairs([tmp_path / "a", tmp_path / "b"]))
    with pytest.raises(ValueError, match="a/00 20x20, b/00 24x24; set crop_size"):
        collate_pairs([dataset[0], dataset[1]])


def test_nothing_of_a_path_is_needed_but_text(tmp_path):
    real_pairs(tmp_path, 1)
    assert find_pairs(str(tmp_path)) == find_pairs(Path(tmp_path)) == find_pairs([str(tmp_path)])


def test_roots_may_call_their_folders_differently(tmp_path):
    for kind, name in (("pet", "1"), ("spect", "2")):
        for side in (kind, "mri"):
            folder = tmp_path / f"{kind}_mri" / side
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / f"{name}.png")
    roots = [tmp_path / "pet_mri", tmp_path / "spect_mri"]
    pairs = find_pairs(roots, "pet|spect", "mri")
    assert [(pair.name, pair.ir.parent.name) for pair in pairs] == [("1", "pet"), ("2", "spect")]
    with pytest.raises(PairError, match="ct"):
        find_pairs(roots, "ct|xray", "mri")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no such files")
def test_a_fifo_does_not_hang_the_check(tmp_path):
    os.mkfifo(tmp_path / "ir.png")
    save_image(tmp_path / "vi.png", np.zeros((6, 9), np.uint8))
    pair = Pair("a", tmp_path / "ir.png", tmp_path / "vi.png")
    for cache in (True, False):
        _, problems = check_pairs([pair], cache=cache)
        assert [problem.what for problem in problems] == ["is a FIFO"]
