"""fusionzoo masks: what it writes, keeps, replaces and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from cli_helpers import files_of, pairs_folder
from PIL import Image

from fusionzoo.cli import main
from fusionzoo.data import find_pairs
from fusionzoo.data.decoding import make_mask

NAMES = ["a", "night/b", "c"]


@pytest.fixture
def root(tmp_path):
    return pairs_folder(tmp_path / "root", NAMES, size=60)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_pair_gets_the_mask_that_training_would_make(root, capsys):
    assert main(["masks", str(root)]) == 0
    assert f"wrote 3 masks to {root / 'mask'}" in capsys.readouterr().out
    assert files_of(root / "mask") == {f"{name}.png" for name in NAMES}
    for pair in find_pairs(root):
        mask = pixels(root / "mask" / f"{pair.name}.png")
        assert np.array_equal(mask, 255 * make_mask(pair, "saliency"))
        assert set(np.unique(mask)) == {0, 255}


def test_masks_that_exist_are_kept_unless_told_otherwise(root, capsys):
    assert main(["masks", str(root)]) == 0
    made = {name: pixels(root / f"mask/{name}.png") for name in NAMES}
    own = Image.fromarray(255 - made["a"])
    own.save(root / "mask/a.png")
    (root / "mask/c.png").unlink()
    own.save(root / "mask/c.bmp")  # of another format, and a mask of that pair all the same
    (root / "mask/night/b.png").unlink()
    capsys.readouterr()
    assert main(["masks", str(root)]) == 0
    assert "wrote 1 mask to " in (said := capsys.readouterr().out)
    assert "kept 2 that exist" in said
    assert files_of(root / "mask") == {"a.png", "night/b.png", "c.bmp"}
    assert np.array_equal(pixels(root / "mask/a.png"), 255 - made["a"])

    assert main(["masks", str(root), "--overwrite"]) == 0
    assert "wrote 3 masks" in capsys.readouterr().out
    assert files_of(root / "mask") == {f"{name}.png" for name in NAMES}
    for name in NAMES:
        assert np.array_equal(pixels(root / f"mask/{name}.png"), made[name])


def test_several_roots_kinds_and_folders(root, tmp_path, capsys):
    other = pairs_folder(tmp_path / "other", ["a"])
    (other / "ir").rename(other / "pet")
    (other / "vi").rename(other / "mri")
    command = ["masks", "--layout", "harvard_pet", "--mask-dir", "m_{split}", str(other)]
    assert main(command) == 0
    (pair,) = find_pairs(other, "pet", "mri")
    assert np.array_equal(pixels(other / "m_train/a.png"), 255 * make_mask(pair, "foreground"))
    (other / "pet").rename(other / "ir")
    command = ["masks", str(root), str(other), "--vi-dir", "vi", "--kind", "foreground"]
    (other / "mri").rename(other / "vi")
    assert main(command) == 0
    assert len(files_of(root / "mask") | files_of(other / "mask")) == 3
    pair = find_pairs(root)[0]
    assert np.array_equal(pixels(root / "mask/a.png"), 255 * make_mask(pair, "foreground"))


def test_flat_images_have_empty_masks(root, capsys):
    Image.new("L", (64, 60), 90).save(root / "ir/a.png")
    assert main(["masks", str(root)]) == 0
    assert "wrote 3 masks" in (said := capsys.readouterr().out)
    assert "1 of them without targets" in said
    assert not pixels(root / "mask/a.png").any()


def test_broken_files_are_told_and_the_others_made(root, capsys):
    (root / "ir/a.png").write_bytes(b"no image")
    (root / "vi/c.png").unlink()
    assert main(["masks", str(root)]) == 1
    said = capsys.readouterr()
    assert "a: " in said.err
    assert "a.png cannot be read" in said.err
    assert "c.png: has no partner" in said.err
    assert "wrote 1 mask to" in said.out
    assert "1 failed" in said.out
    assert files_of(root / "mask") == {"night/b.png"}
    assert main(["masks", str(root), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_images_are_never_written_over(root, capsys):
    before = {name: (root / name).read_bytes() for name in files_of(root)}
    for folder in ("ir", "vi", "ir/night", "../root/vi"):
        assert main(["masks", str(root), "--mask-dir", folder, "--overwrite"]) == 1
        assert "set mask_dir to a folder of its own" in capsys.readouterr().err
    assert {name: (root / name).read_bytes() for name in files_of(root)} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: ROOT"),
        (["nowhere"], "nowhere: no such folder"),
        ([".", "--kind", "hot"], "invalid choice: 'hot'"),
        ([".", "--layout", "tnt"], "did you mean 'tno'?"),
    ],
)
def test_usage(arguments, message, capsys):
    try:
        status = main(["masks", *arguments])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err
