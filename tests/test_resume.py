"""A run that is killed goes on from its last whole epoch, and ends as one that was not killed."""

import signal
import subprocess
import sys

import pytest
import torch
from cli_helpers import environment, files_of, pairs_folder

from fusionzoo.cli import main

# What Lightning remarks on such short runs is not the matter here.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]

EPOCHS, BATCHES = 4, 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("pairs"), [str(n) for n in range(7)], color=False)


def arguments(root, runs, *more):
    return [
        *("fit", "--model", "cli_modules.Mortal"),
        *("--model.init_args.channels=4", "--model.init_args.lr_step=2"),
        *(f"--data.root={root}", "--data.holdout=1", "--data.batch_size=2", "--data.crop_size=24"),
        *("--data.crop=random", "--data.flip=true", f"--trainer.max_epochs={EPOCHS}"),
        *("--trainer.accelerator=cpu", f"--trainer.default_root_dir={runs}"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *more,
    ]


def killed(arguments, die_at):
    """Run in a process that dies of SIGKILL before it trains that batch."""
    command = [sys.executable, "-m", "fusionzoo", *arguments]
    env = {**environment(), "DIE_AT": die_at}
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory):
    runs = tmp_path_factory.mktemp("straight")
    assert main(arguments(root, runs)) == 0
    return runs / "version_0"


def checkpoint(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def assert_equal(found, expected, where=""):
    """Equality of nested containers, of tensors bit for bit."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{where}/{index}")
    else:
        assert found == expected, where


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_is_as_straight(straight, root, tmp_path, workers):
    how = f"--data.num_workers={workers}"
    killed(arguments(root, tmp_path, how), "2,1")  # what the third epoch had done is done again
    run = tmp_path / "version_0"
    assert not (run / "pretrained").exists()
    found = checkpoint(run)
    assert (found["epoch"], found["global_step"]) == (1, 2 * BATCHES)

    assert main(arguments(root, tmp_path, how, "--ckpt_path", "last")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["version_0"]

    found, expected = checkpoint(run), checkpoint(straight)
    for key in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(found[key], expected[key], key)
    assert expected["global_step"] == EPOCHS * BATCHES
    weights = "pretrained/model.safetensors"
    assert (run / weights).read_bytes() == (straight / weights).read_bytes()
    assert not [name for name in files_of(tmp_path) if name.endswith(".tmp")]


def test_the_run_depends_on_what_would_be_lost(straight):
    # The comparison above means something only if training moved the weights to its end.
    states = checkpoint(straight)
    moments = states["optimizer_states"][0]["state"][0]
    assert moments["step"] == EPOCHS * BATCHES
    assert moments["exp_avg"].abs().max() > 0
    assert states["lr_schedulers"][0]["last_epoch"] == EPOCHS - 1
