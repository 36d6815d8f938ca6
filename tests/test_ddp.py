"""Two processes on the CPU: what one process trains and measures, and every pair fused once."""

import csv
import json
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import torch
from cli_helpers import ROOT, environment, files_of, pairs_folder
from two_processes import measured

from fusionzoo.cli import main
from fusionzoo.data.sampling import ShareSampler

# What Lightning remarks on such short runs is not the matter here.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]

NAMES = ["0", "1", "2", "3", "night/4", "night/5", "6"]
EPOCHS = 3
CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("pairs"), NAMES)


def run(processes, logs, *arguments):
    """One process is this one; of two, the first starts the second."""
    logs.mkdir(parents=True, exist_ok=True)
    arguments = [*map(str, arguments), *CPU, f"--trainer.devices={processes}"]
    if processes == 1:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOG_FOLDER", str(logs))
            assert main(arguments) == 0
        return
    done = subprocess.run(
        [sys.executable, "-m", "fusionzoo", *arguments],
        env={**environment(), "LOG_FOLDER": str(logs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def fit(root, folder, processes, batch_size):
    logger = "lightning.pytorch.loggers.CSVLogger"
    run(
        processes,
        folder / "log",
        *("fit", "--model=cli_modules.Phased", f"--data.root={root}", "--data.crop_size=24"),
        *("--data.flip=true", f"--data.batch_size={batch_size}", "--data.pairs_per_epoch=12"),
        *(f"--trainer.max_epochs={EPOCHS}", f"--trainer.default_root_dir={folder}"),
        *("--trainer.log_every_n_steps=1", f"--trainer.logger={logger}"),
        # Seven pairs: one is given to both processes in the last step.
        *(f"--data.val_root={root}", f"--trainer.check_val_every_n_epoch={EPOCHS}"),
        "--trainer.num_sanity_val_steps=0",
        *(f"--trainer.logger.save_dir={folder}", "--trainer.logger.name=csv"),
        "--trainer.logger.version=run",
    )
    return folder


@pytest.fixture(scope="module")
def single(root, tmp_path_factory):
    return fit(root, tmp_path_factory.mktemp("single"), 1, 4)


@pytest.fixture(scope="module")
def double(root, tmp_path_factory):
    return fit(root, tmp_path_factory.mktemp("double"), 2, 2)


def losses(folder, column):
    with (folder / "csv" / "run" / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def logged(folder, stage):
    return {path.name: path.read_text().splitlines() for path in folder.glob(f"log/{stage}-*")}


@pytest.mark.parametrize("column", ["train/loss_step", "train/loss_epoch"])
def test_fit_has_the_loss_curve_of_one_process(single, double, column):
    expected = losses(single, column)
    assert len(expected) == (9 if column.endswith("step") else EPOCHS)
    assert len(set(expected)) == len(expected)  # it moves
    np.testing.assert_allclose(losses(double, column), expected, rtol=1e-5)


def test_fit_shares_the_batches_out(single, double):
    (everything,) = logged(single, "fit").values()
    shares = logged(double, "fit")
    assert [len(share) for share in shares.values()] == [18, 18]
    assert sorted(chain(*shares.values())) == sorted(everything)


def test_fit_ends_in_the_weights_of_one_process(single, double):
    one, two = (
        torch.load(folder / "csv/run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (single, double)
    )
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)
    assert (double / "csv/run/pretrained/model.safetensors").is_file()


def test_fit_validates_every_pair_once(single, double):
    for metric in ("EN", "SD", "Qabf"):
        (expected,) = losses(single, f"val/{metric}")
        np.testing.assert_allclose(losses(double, f"val/{metric}"), [expected], rtol=1e-4)


@pytest.fixture(scope="module")
def fused(root, tmp_path_factory):
    """What two processes left, measured and said; 2 results were in `some`, 6 in `most`."""
    folder = tmp_path_factory.mktemp("fused")
    for place, names in (("some", ["0", "night/5"]), ("most", NAMES[1:])):
        for name in names:
            path = folder / place / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"as it was")
    report = folder / "report.json"
    script = ROOT / "tests" / "two_processes.py"
    done = subprocess.run(
        [sys.executable, script, root, report, folder / "some", folder / "most"],
        env={**environment(), "LOG_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(report.read_text()), done.stderr


def test_test_measures_every_pair_once(root, fused):
    found = fused[1]
    *_, expected = measured(str(root), 1)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_predict_fuses_every_pair_once_and_skips_what_is_there(root, fused, tmp_path, monkeypatch):
    folder, _, told = fused
    assert told.count("skipped 2 of 7 pairs") == told.count("skipped 6 of 7 pairs") == 1
    left = ["1", "2", "3", "night/4", "6"]
    shares = [path.read_text().split() for path in folder.glob("predict-*")]
    assert sorted(chain(*shares)) == sorted([*left, "0"])
    assert sorted(map(len, shares)) == [2, 4]  # of 5 and of 1: a process may have none

    weights = tmp_path / "weights.ckpt"
    trainer, *_ = measured(str(root), 1)
    trainer.save_checkpoint(weights)
    for name in ("0", "6"):  # --overwrite replaces what is there
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / f"{name}.png").write_bytes(b"as it was")
    monkeypatch.setenv("LOG_FOLDER", str(tmp_path))
    arguments = ["predict", "--model=cli_modules.Phased", f"--ckpt_path={weights}", "--overwrite"]
    arguments += [f"--data.predict_root={root}", "--data.color=true", "--trainer.devices=1"]
    assert main([*arguments, f"--output={tmp_path / 'one'}", *CPU]) == 0
    assert files_of(folder / "some") == files_of(tmp_path / "one") == {f"{n}.png" for n in NAMES}
    for name in NAMES:
        content = (tmp_path / "one" / f"{name}.png").read_bytes()
        assert (folder / "some" / f"{name}.png").read_bytes() == (
            content if name in left else b"as it was"
        )
        assert (folder / "most" / f"{name}.png").read_bytes() == (
            content if name == "0" else b"as it was"
        )


@pytest.mark.parametrize("items", [0, 1, 2, 7])
def test_every_item_has_one_process(items):
    shares = [list(ShareSampler(items, num_replicas=3, rank=rank)) for rank in range(3)]
    assert sorted(chain(*shares)) == list(range(items))
