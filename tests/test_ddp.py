"""Two processes on the CPU: the same training as one, and every pair fused once."""

import csv
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import torch
from cli_helpers import environment, files_of, pairs_folder
from PIL import Image

from fusionzoo.cli import main

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


def test_predict_fuses_every_pair_once(root, double, tmp_path):
    checkpoint = double / "csv/run/checkpoints/last.ckpt"
    arguments = ["predict", "--model=cli_modules.Phased", f"--ckpt_path={checkpoint}"]
    arguments += [f"--data.predict_root={root}", "--data.color=true"]
    run(2, tmp_path / "log", *arguments, f"--output={tmp_path / 'two'}")
    shares = logged(tmp_path, "predict")
    assert sorted(len(share) for share in shares.values()) == [3, 4]
    assert sorted(chain(*shares.values())) == sorted(NAMES)

    run(1, tmp_path / "log_one", *arguments, f"--output={tmp_path / 'one'}")
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one") == {f"{n}.png" for n in NAMES}
    for name in NAMES:
        images = [
            np.asarray(Image.open(tmp_path / side / f"{name}.png")) for side in ("one", "two")
        ]
        assert (images[0] == images[1]).all()
