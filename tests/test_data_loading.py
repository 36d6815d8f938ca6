"""FusionDataModule: parts, draws, workers and processes."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import asset, real_pairs, write
from jsonargparse import ArgumentParser
from torch.utils.data import DistributedSampler

from fusionzoo.data import FusionDataModule, PairError
from fusionzoo.data.sampling import PairSampler

DATA = os.environ.get("FUSIONZOO_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="FUSIONZOO_TEST_DATA names no folder of real data")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(real_pairs(tmp_path_factory.mktemp("pairs"), 10))


def fitted(root, **options):
    data = FusionDataModule(root, **options)
    data.setup("fit")
    return data


def epochs(data, count=2):
    """The batches of so many epochs, with the epoch set as Lightning sets it."""
    loader = data.train_dataloader()
    result = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        result.append(list(loader))
    return result


def drawn(batches):
    return [name for batch in batches for name in batch["name"]]


def same(a, b):
    return a["name"] == b["name"] and all(torch.equal(a[key], b[key]) for key in a if key != "name")


def test_an_epoch_draws_each_pair_once_in_a_new_order(root):
    first, second = epochs(fitted(root, batch_size=4))
    assert [len(batch["name"]) for batch in first] == [4, 4, 2]
    assert sorted(drawn(first)) == sorted(drawn(second)) == [f"{n:02}" for n in range(10)]
    assert drawn(first) != drawn(second)
    assert [len(b["name"]) for b in epochs(fitted(root, batch_size=4, drop_last=True))[0]] == [4, 4]


def test_balanced_roots_are_drawn_from_alike(root, tmp_path):
    small = str(real_pairs(tmp_path / "small", 3))
    (batch,) = epochs(fitted([root, small], batch_size=100, balance=True), 1)[0]
    of_small = [name for name in batch["name"] if name.startswith("small/")]
    assert len(of_small) == 9  # 3 pairs three times beside 10 once
    assert len(batch["name"]) == 19


@pytest.mark.parametrize("draws", [3, 10, 25])
def test_pairs_per_epoch(root, draws):
    data = fitted(root, batch_size=2, pairs_per_epoch=draws)
    assert len(data.train_dataloader()) == -(-draws // 2)
    first, second = (drawn(batches) for batches in epochs(data))
    assert len(first) == draws
    assert first != second
    counts = np.bincount([int(name) for name in first], minlength=10)
    assert counts.max() - counts.min() <= 1


def test_draws_are_those_of_the_seed_not_of_the_moment(root):
    options = {"batch_size": 4, "crop_size": 24, "flip": True}
    first = epochs(fitted(root, seed=5, **options))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    state = torch.get_rng_state()
    again = epochs(fitted(root, seed=5, **options))
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(chain(*first), chain(*again), strict=True):
        assert same(one, other)
    assert drawn(epochs(fitted(root, seed=6, **options))[0]) != drawn(first[0])


def test_workers_make_no_difference(root):
    options = {"batch_size": 3, "crop_size": 24, "flip": True, "seed": 1, "pairs_per_epoch": 8}
    none = epochs(fitted(root, **options))
    two = epochs(fitted(root, num_workers=2, **options))
    for one, other in zip(chain(*none), chain(*two), strict=True):
        assert same(one, other)


def test_processes_share_the_batch_of_one(root):
    """In every step the batches of all processes together are that of one larger process."""
    for draws, drop_last in ((10, False), (24, False), (23, True)):
        options = {"draws": draws, "seed": 2, "drop_last": drop_last}
        one = PairSampler(10, batch_size=4, **options)
        two = [
            PairSampler(10, batch_size=2, num_replicas=2, rank=rank, **options) for rank in (0, 1)
        ]
        for sampler in (one, *two):
            sampler.set_epoch(3)
        alone, shared = list(one), [list(sampler) for sampler in two]
        assert len(shared[0]) == len(shared[1]) == len(two[0])
        for step in range(len(one) // 4):
            union = {*shared[0][2 * step : 2 * step + 2], *shared[1][2 * step : 2 * step + 2]}
            assert union == set(alone[4 * step : 4 * step + 4])


def test_an_odd_number_of_draws_is_filled_up(root):
    ranks = [PairSampler(5, num_replicas=2, rank=rank) for rank in (0, 1)]
    assert [len(list(sampler)) for sampler in ranks] == [3, 3]
    assert {draw.index for sampler in ranks for draw in sampler} == set(range(5))
    assert all(isinstance(sampler, DistributedSampler) for sampler in ranks)


def test_held_back_pairs_are_the_same_everywhere_and_never_drawn(root):
    data = fitted(root, holdout=3, batch_size=2, seed=4)
    held = drawn(data.val_dataloader())
    assert len(held) == 3
    assert held == sorted(held)
    assert set(drawn(epochs(data, 1)[0])) == {f"{n:02}" for n in range(10)} - set(held)
    alone = FusionDataModule(root, holdout=3, seed=4)
    alone.setup("validate")
    assert drawn(alone.val_dataloader()) == held
    assert "train" not in alone.datasets
    others = [fitted(root, holdout=3, seed=seed) for seed in range(5)]
    assert len({tuple(drawn(other.val_dataloader())) for other in others}) > 1


@pytest.mark.parametrize(("pairs", "held"), [(3, 1), (12, 1), (30, 3), (240, 20)])
def test_a_share_is_held_back(tmp_path, pairs, held):
    for side in ("ir", "vi"):
        (tmp_path / side).mkdir()
    written = real_pairs(tmp_path / "one", 1, size=16)
    for number in range(pairs):
        for side in ("ir", "vi"):
            os.link(written / side / "00.png", tmp_path / side / f"{number}.png")
    data = fitted(str(tmp_path), holdout=0.1, cache=False)
    assert len(data.datasets["val"]) == held
    assert len(data.datasets["train"]) == pairs - held


def test_what_is_held_back_is_told(root, caplog):
    with caplog.at_level("INFO"):
        fitted(root, holdout=0.1)
        fitted(root)
    assert "val: 1 pair, held back from training (holdout)" in caplog.messages
    assert "train: 9 pairs" in caplog.messages
    assert "val: no pairs, so nothing is measured; set holdout or val_root" in caplog.messages


def test_pairs_by_pattern(root, tmp_path):
    for side in ("ir", "vi"):
        for path in Path(root, side).iterdir():
            os.link(path, tmp_path / f"{path.stem}_{side}.png")
    data = fitted(str(tmp_path), ir_dir="*_ir.png", vi_dir="*_vi.png", batch_size=4)
    assert sorted(drawn(epochs(data, 1)[0])) == [f"{n:02}" for n in range(10)]


def test_validation_root_comes_before_held_back_pairs(root, tmp_path):
    real_pairs(tmp_path, 2, size=32)
    data = fitted(root, holdout=3, val_root=str(tmp_path))
    assert drawn(data.val_dataloader()) == ["00", "01"]
    assert len(data.datasets["train"]) == 7


def test_whole_images_of_differing_sizes_one_by_one(tmp_path):
    real_pairs(tmp_path / "a", 1, size=40)
    real_pairs(tmp_path / "b", 1, size=33)
    roots = [str(tmp_path / "a"), str(tmp_path / "b")]
    data = FusionDataModule(
        test_root=roots, predict_root=roots[0], crop_size=16, batch_size=8, flip=True
    )
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [tuple(batch["vi"].shape) for batch in batches] == [(1, 1, 40, 40), (1, 1, 33, 33)]
    assert drawn(batches) == ["a/00", "b/00"]
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    assert torch.equal(batch["ir"], batches[0]["ir"])


def test_root_serves_where_nothing_else_is_given(root):
    data = FusionDataModule(root)
    for stage in ("validate", "test", "predict"):
        data.setup(stage)
    loaders = (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())
    assert [len(loader) for loader in loaders] == [10, 10, 10]
    assert fitted(root).val_dataloader() == []


def test_setup_decodes_once(root, monkeypatch):
    data = fitted(root)
    first = data.datasets["train"]
    data.setup("fit")
    assert data.datasets["train"] is first


def test_layout_names_folders_unless_they_are_given(tmp_path):
    write(tmp_path / "train/cropinfrared/a.jpg", asset("road_ir.jpg"))
    write(tmp_path / "train/crop_LR_visible/a.jpg", asset("road_vi.jpg"))
    assert len(fitted(str(tmp_path / "train"), layout="roadscene").datasets["train"]) == 1
    with pytest.raises(PairError, match="no such folder"):
        fitted(str(tmp_path / "train"), layout="roadscene", vi_dir="vi")


def test_layout_with_a_split_in_its_folder_names(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        real_pairs(tmp_path / split, count)
        for ours, theirs in (("ir", "infrared"), ("vi", "visible")):
            (tmp_path / "LLVIP" / theirs).mkdir(parents=True, exist_ok=True)
            (tmp_path / split / ours).rename(tmp_path / "LLVIP" / theirs / split)
    root = str(tmp_path / "LLVIP")
    data = FusionDataModule(root, layout="llvip", test_root=root)
    data.setup()
    assert {part: len(data.datasets[part]) for part in data.datasets} == {"train": 3, "test": 2}


def test_medical_layout_takes_its_colour_from_the_functional_image(tmp_path):
    write(tmp_path / "pet/a.png", asset("pet.png"))
    write(tmp_path / "mri/a.png", asset("mri.png"))
    data = fitted(str(tmp_path), layout="harvard_pet", color=True)
    assert (next(iter(data.train_dataloader()))["cbcr"] != 0.5).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "middle"}, "crop must be one of 'random', 'center', not 'middle'"),
        ({"crop_size": 1}, "crop_size=1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"holdout": -1}, "holdout=-1"),
        ({"holdout": 1.5}, "holdout=1.5; use a whole number, or a share below 1"),
        ({"pairs_per_epoch": 0}, "pairs_per_epoch=0"),
        ({"color_from": "pet"}, "color_from must be .*, not 'pet'"),
        ({"darken": 1.5}, "darken=1.5"),
        ({"halve": -0.1}, "halve=-0.1"),
        ({"layout": "tnt"}, "layout must be one of .*tno.*, not 'tnt'"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        FusionDataModule("anywhere", **options)


def test_what_leaves_nothing_to_train_on(root):
    with pytest.raises(ValueError, match="holdout=10 leaves nothing of 10"):
        fitted(root, holdout=10)
    with pytest.raises(ValueError, match="lower batch_size or set drop_last to false"):
        fitted(root, batch_size=16, drop_last=True).train_dataloader()
    with pytest.raises(ValueError, match="no root is given"):
        FusionDataModule().setup("fit")
    with pytest.raises(ValueError, match="no test_root is given"):
        FusionDataModule().setup("test")
    with pytest.raises(ValueError, match="call setup"):
        FusionDataModule(root).train_dataloader()


def test_the_command_line_can_set_it(root):
    parser = ArgumentParser()
    parser.add_class_arguments(FusionDataModule, "data")
    options = "--data.crop_size=24 --data.flip=true --data.layout=llvip --data.pairs_per_epoch=6"
    parsed = parser.parse_args([f"--data.root=[{root},{root}2]", *options.split()])
    data = FusionDataModule(**parsed.data.as_dict())
    assert data.roots["train"] == [root, f"{root}2"]
    assert (data.crop_size, data.flip, data.pairs_per_epoch) == (24, True, 6)
    assert data.ir_dir == "infrared/{split}"
    one = FusionDataModule(**parser.parse_args([f"--data.root={root}"]).data.as_dict())
    assert one.roots["train"] == [root]


@needs_data
def test_the_real_training_sets():
    tno, road = Path(DATA, "tno/train"), Path(DATA, "roadscene/train")
    options = {"crop_size": 128, "flip": True, "batch_size": 24, "pairs_per_epoch": 48}
    data = fitted([str(tno), str(road)], color=True, holdout=20, **options)
    assert len(data.datasets["train"]) + 20 == 30 + 171
    for batch in epochs(data, 1)[0]:
        assert batch["ir"].shape == batch["vi"].shape == (24, 1, 128, 128)
        assert batch["cbcr"].shape == (24, 2, 128, 128)
        assert 0 <= batch["ir"].min() < batch["ir"].max() <= 1


@needs_data
@pytest.mark.parametrize(
    ("folder", "options", "count"),
    [
        ("tno/test", {}, 25),
        ("msrs/test", {"layout": "msrs"}, 25),
        ("llvip/test", {}, 12),
        ("harvard/pet_mri/test", {"layout": "harvard_pet"}, 42),
        ("harvard/spect_mri/test", {"layout": "harvard_spect"}, 73),
        ("harvard/ct_mri/test", {"layout": "harvard_ct"}, 21),
        ("other/nir_country", {"layout": "nir"}, 8),
        ("other/gfp_pc", {"ir_dir": "pc", "vi_dir": "gfp"}, 1),
    ],
)
def test_the_real_test_sets_are_whole(folder, options, count):
    data = FusionDataModule(test_root=str(Path(DATA, folder)), color=True, **options)
    data.setup("test")
    assert len(data.datasets["test"]) == count
    batch = next(iter(data.test_dataloader()))
    assert batch["ir"].shape == batch["vi"].shape
