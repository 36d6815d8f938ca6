"""The scripts in examples/: each does what its docstring says."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_helpers import ASSETS
from PIL import Image

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.data import find_pairs

pytestmark = pytest.mark.usefixtures("one_thread")

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
IR, VI = EXAMPLES / "ir.png", EXAMPLES / "vi.png"
SHEET = yaml.safe_load((EXAMPLES / "contact_sheet.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Run a script in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


def test_readme_lists_every_file():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLES.iterdir() if path.is_file()]
    assert [name for name in files if f"`{name}`" not in text and name != "README.md"] == []


def test_grid_draws_sources_and_result(call, tmp_path):
    call("grid.py", "out.png", IR, VI, IR, VI, "--width", 320)
    drawn = np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
    assert drawn.shape == (484, 968, 3)
    assert np.array_equal(drawn[:240, 324:644], np.asarray(Image.open(VI)))
    fused = fusionzoo.load("lapnet").fuse(IR, VI)
    assert np.array_equal(drawn[244:, 648:], np.asarray(fused))


def test_grid_wants_whole_pairs(call, capsys):
    with pytest.raises(SystemExit):
        call("grid.py", "out.png", IR)
    assert "for every row" in capsys.readouterr().err


@pytest.fixture
def data(tmp_path):
    """The fixed pairs' folders, filled with one small pair under all names."""
    for folder, names in SHEET.items():
        for side in ("ir", "vi"):
            (tmp_path / "data" / folder / side).mkdir(parents=True)
            for name in names:
                with Image.open(ASSETS / f"cli_{side}.png") as image:
                    image.save(tmp_path / "data" / folder / side / f"{name}.png")
    return tmp_path / "data"


def test_contact_sheet_has_a_row_for_each_pair(call, data, tmp_path):
    call("contact_sheet.py", "--data", data, "-o", "sheets", "--model", "didfuse", "--width", 96)
    assert [file.name for file in (tmp_path / "sheets").iterdir()] == ["didfuse.png"]
    with Image.open(tmp_path / "sheets" / "didfuse.png") as sheet:
        assert sheet.size == (24 + 3 * 96 + 2 * 4, 24 + 12 * 72 + 11 * 4)
    call("contact_sheet.py", "--data", data, "-o", "all.png", "--model", "didfuse", "--width", 48)
    with Image.open(tmp_path / "all.png") as sheet:
        assert sheet.size == (24 + 3 * 48 + 2 * 4, 24 + 12 * 36 + 11 * 4)


def test_contact_sheet_says_everything_that_is_missing(call, data):
    for file in (data / "tno/test").rglob("02.png"):
        file.unlink()
    for file in sorted((data / "llvip").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    with pytest.raises(SystemExit) as error:
        call("contact_sheet.py", "--data", data, "-o", "sheets")
    assert "tno/test: no pair 02" in str(error.value)
    assert "llvip/test: no pair 190003" in str(error.value)


def test_contact_sheet_pairs_are_of_the_sets_they_should_be():
    assert {folder: len(names) for folder, names in SHEET.items()} == {
        "tno/test": 4,
        "roadscene/test": 3,
        "msrs/test": 4,
        "llvip/test": 1,
    }
    assert sorted(name[-1] for name in SHEET["msrs/test"]) == ["D", "D", "N", "N"]
    names = [(folder, name) for folder, names in SHEET.items() for name in names]
    assert len(set(names)) == 12
    assert all(isinstance(name, str) for _, name in names)


@pytest.mark.skipif("FUSIONZOO_TEST_DATA" not in os.environ, reason="needs FUSIONZOO_TEST_DATA")
def test_contact_sheet_pairs_exist_and_are_not_trained_on():
    root = Path(os.environ["FUSIONZOO_TEST_DATA"])
    for folder, names in SHEET.items():
        assert set(names) <= {pair.name for pair in find_pairs(root / folder)}
        train = root / folder.replace("test", "train")
        if train.is_dir() and "tno" not in folder:  # TNO's files are numbered anew in each folder
            assert not set(names) & {pair.name for pair in find_pairs(train)}


def test_quickstart_writes_and_measures(call, tmp_path, capsys):
    call("quickstart.py")
    with Image.open(tmp_path / "fused.png") as fused:
        assert fused.size == Image.open(VI).size
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert lines.keys() == {"EN", "SD", "SF", "VIF", "Qabf", "SSIM"}
    assert 0 < float(lines["Qabf"]) < 1


def test_medical_keeps_the_colour_of_pet(call, tmp_path):
    call("medical.py")
    keys = fusionzoo.list_models("*.medical", pretrained=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{kind}_{key}.png" for kind in ("pet", "ct") for key in keys
    }
    for key in keys:
        with Image.open(tmp_path / f"pet_{key}.png") as pet:
            assert pet.mode == "RGB"
        with Image.open(tmp_path / f"ct_{key}.png") as ct:
            assert ct.mode == "L"


@pytest.mark.filterwarnings("ignore")
def test_train_your_own_makes_a_model_that_fuses(call, tmp_path, monkeypatch):
    def in_this_process(command, check):
        assert command[:3] == [sys.executable, "-m", "fusionzoo"]
        assert check
        shorter = ["--data.crop_size=32", "--data.pairs_per_epoch=4", "--trainer.max_epochs=1"]
        assert main([*command[3:], *shorter]) == 0

    monkeypatch.setattr(subprocess, "run", in_this_process)
    call("train_your_own.py")
    assert (tmp_path / "runs/version_0/pretrained/model.safetensors").is_file()
    tuned = fusionzoo.load(tmp_path / "runs/version_0/pretrained")
    published = fusionzoo.load("didfuse")
    pairs = zip(tuned.parameters(), published.parameters(), strict=True)
    assert not all(one.equal(other) for one, other in pairs)
    with Image.open(tmp_path / "fused.png") as fused:
        assert np.array_equal(np.asarray(fused), np.asarray(tuned.fuse(IR, VI)))
