"""Runs that stop anywhere and go on as if they had not; runs of two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from data_helpers import environment_with_package, real_pairs
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from fusionzoo.data import FusionDataModule

# What Lightning remarks on such short runs is not the matter here.
pytestmark = pytest.mark.filterwarnings("ignore:::lightning")


class Blend(lightning.LightningModule):
    """The least module that trains: it notes which pairs it is given, and at what crop."""

    def __init__(self, noted=None):
        super().__init__()
        self.automatic_optimization = False
        self.network = nn.Conv2d(2, 1, 3, padding=1)
        nn.init.constant_(self.network.weight, 0.05)
        nn.init.zeros_(self.network.bias)
        self.noted = [] if noted is None else noted

    def training_step(self, batch, batch_idx):
        self.noted.append((self.current_epoch, batch_idx, batch["name"], float(batch["ir"].sum())))
        fused = self.network(torch.cat([batch["ir"], batch["vi"]], 1))
        loss = (fused - torch.maximum(batch["ir"], batch["vi"])).square().mean()
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def trainer(folder, **options):
    options = {"max_epochs": 3, "callbacks": [], **options}
    return lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(options["callbacks"]),
        **options,
    )


def data_of(root, **options):
    return FusionDataModule(
        root, batch_size=4, crop_size=24, flip=True, seed=7, holdout=2, **options
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(real_pairs(tmp_path_factory.mktemp("pairs"), 12))


@pytest.fixture(scope="module", params=["after steps", "after epochs"])
def straight(request, root, tmp_path_factory):
    """A run of three epochs of three batches, and its checkpoints by number of steps."""
    folder = tmp_path_factory.mktemp("straight")
    how = (
        {"every_n_train_steps": 1}
        if request.param == "after steps"
        else {"every_n_epochs": 1, "save_on_train_epoch_end": True}
    )
    saver = ModelCheckpoint(folder, "{step}", save_top_k=-1, save_last=False, **how)
    model = Blend()
    trainer(folder, callbacks=[saver]).fit(model, data_of(root))
    found = {int(path.stem.removeprefix("step=")): path for path in folder.glob("*.ckpt")}
    return model, found


def check_resumed(straight, root, folder, steps, trainer_options=None, **options):
    model, checkpoints = straight
    resumed = Blend()
    trainer(folder, **(trainer_options or {})).fit(
        resumed, data_of(root, **options), ckpt_path=checkpoints[steps]
    )
    assert resumed.noted == model.noted[steps:]
    for ours, theirs in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_resumed_after_any_step_ends_the_same(straight, root, tmp_path):
    model, checkpoints = straight
    assert len(model.noted) == 9
    assert len({str(names) for *_, names, _ in model.noted}) > 3  # a new order in each epoch
    assert set(checkpoints) <= set(range(1, 10))
    assert set(checkpoints) >= {3, 6, 9}
    for steps in checkpoints:
        check_resumed(straight, root, tmp_path, steps)


def test_a_resumed_run_ends_the_same_with_workers(straight, root, tmp_path):
    for steps in sorted({3, 4, 5} & set(straight[1])):
        check_resumed(straight, root, tmp_path, steps, num_workers=2)


def test_a_run_can_be_resumed_again_and_again(straight, root, tmp_path):
    model, _ = straight
    noted, checkpoint = [], None
    for stop in (2, 4, 5, 7, 9):
        saver = ModelCheckpoint(tmp_path, f"at{stop}", every_n_train_steps=1, save_top_k=1)
        run = trainer(tmp_path, callbacks=[saver], max_epochs=None, max_steps=stop)
        resumed = Blend(noted)
        run.fit(resumed, data_of(root), ckpt_path=checkpoint)
        checkpoint = saver.best_model_path
    assert noted == model.noted
    assert torch.equal(resumed.network.weight, model.network.weight)


def test_a_shortened_epoch_resumes_too(root, tmp_path):
    """`limit_train_batches` leaves the loader's iterator before its end."""
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    model = Blend()
    limits = {"limit_train_batches": 2}
    trainer(tmp_path, callbacks=[saver], **limits).fit(model, data_of(root))
    assert [index for _, index, *_ in model.noted] == [0, 1] * 3
    found = {int(path.stem.removeprefix("step=")): path for path in tmp_path.glob("*.ckpt")}
    for steps in (1, 2, 3):
        check_resumed((model, found), root, tmp_path, steps, limits)
        check_resumed((model, found), root, tmp_path, steps, limits, num_workers=1)


def test_changed_data_is_noticed(straight, root, tmp_path):
    _, checkpoints = straight
    steps = min(checkpoints)
    data = data_of(root)
    data.holdout = 3
    run = trainer(tmp_path, max_steps=steps + 1, max_epochs=None)
    with pytest.warns(UserWarning, match="pairs 10 -> 9"):
        run.fit(Blend(), data, ckpt_path=checkpoints[steps])


def test_whole_fit_without_validation_pairs_and_overfitting(root, tmp_path):
    model = Blend()
    data = FusionDataModule(root, batch_size=4, crop_size=24)
    trainer(tmp_path, max_epochs=1).fit(model, data)
    assert len(model.noted) == 3
    model = Blend()
    trainer(tmp_path, max_epochs=2, overfit_batches=1).fit(model, data_of(root))
    assert model.noted[0][2:] == model.noted[1][2:]


TWO_PROCESSES = """
import json, sys
import lightning, torch
sys.path.insert(0, {tests!r})
from data_helpers import real_pairs
from test_data_resume import Blend
from fusionzoo.data import FusionDataModule

class Noting(Blend):
    def predict_step(self, batch, batch_idx):
        self.noted.append((0, batch_idx, batch["name"], 0.0))

def options(folder):
    return dict(default_root_dir=folder, accelerator="cpu", devices=2, strategy="ddp",
                logger=False, enable_progress_bar=False, enable_model_summary=False,
                enable_checkpointing=False, max_epochs=2)

root, folder = sys.argv[1:]
data = FusionDataModule(root, batch_size=3, crop_size=24, flip=True, seed=7)
model = Noting()
trainer = lightning.Trainer(**options(folder))
trainer.fit(model, data)
weight = model.network.weight.detach().flatten().tolist()
trained, model.noted = model.noted, []
trainer.predict(model, data)
with open(f"{{folder}}/rank{{trainer.global_rank}}.json", "w") as file:
    json.dump({{"trained": trained, "predicted": model.noted, "weight": weight}}, file)
# Threads of gloo that still run when Python ends abort the process now and then.
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_like_one_and_predict_every_pair_once(root, tmp_path):
    tests = str(Path(__file__).parent)
    script = tmp_path / "run.py"
    script.write_text(TWO_PROCESSES.format(tests=tests))
    done = subprocess.run(
        [sys.executable, str(script), root, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment_with_package(),
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]

    alone = Blend()
    data = FusionDataModule(root, batch_size=6, crop_size=24, flip=True, seed=7)
    trainer(tmp_path, max_epochs=2).fit(alone, data)
    assert len(alone.noted) == len(ranks[0]["trained"]) == len(ranks[1]["trained"]) == 4
    for step, (_, _, names, total) in enumerate(alone.noted):
        shared = [rank["trained"][step] for rank in ranks]
        assert sorted(shared[0][2] + shared[1][2]) == sorted(names)
        assert shared[0][3] + shared[1][3] == pytest.approx(total, rel=1e-5)
    assert ranks[0]["weight"] == ranks[1]["weight"]
    expected = alone.network.weight.detach().flatten().tolist()
    assert ranks[0]["weight"] == pytest.approx(expected, rel=1e-3, abs=1e-6)

    predicted = [name for rank in ranks for _, _, names, _ in rank["predicted"] for name in names]
    assert sorted(predicted) == [f"{number:02}" for number in range(12)]
