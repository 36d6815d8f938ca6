"""What training does when it goes wrong: it stops, says where, and keeps what was good."""

import pytest
import torch
from cli_helpers import pairs_folder

from fusionzoo.cli import main

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("pairs"), [str(n) for n in range(7)], color=False)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ("loss,1,1", "the loss is nan at step 5, in epoch 2"),
        ("weights,1,2", "weights are NaN or infinite after step 6, in epoch 2"),
        ("weights,1,1", "the loss is nan at step 6, in epoch 2"),
    ],
)
@pytest.mark.parametrize("holdout", [0, 1])
def test_a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint(
    root, tmp_path, capsys, monkeypatch, spoilt, message, holdout
):
    monkeypatch.setenv("SPOIL", spoilt)
    arguments = ["fit", "--model", "cli_modules.Spoilt", "--model.init_args.channels=4"]
    arguments += [f"--data.root={root}", f"--data.holdout={holdout}", "--data.batch_size=2"]
    arguments += ["--data.crop_size=24", "--data.drop_last=true", "--data.pairs_per_epoch=6"]
    arguments += ["--trainer.max_epochs=3", f"--trainer.default_root_dir={tmp_path}"]
    arguments += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "fusionzoo: " in line]
    assert message in line
    assert not (tmp_path / "version_0" / "pretrained").exists()
    for checkpoint in (tmp_path / "version_0" / "checkpoints").iterdir():
        content = torch.load(checkpoint, weights_only=True)
        assert content["epoch"] == 0
        assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())
    assert (tmp_path / "version_0" / "checkpoints" / "last.ckpt").is_file()
