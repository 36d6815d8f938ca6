"""Models that the tests of resuming and of distributed runs hand to the command line."""

from __future__ import annotations

import os
import signal

import torch
from torch import nn

from fusionzoo.models.didfuse.module import DIDFuse
from fusionzoo.module import FusionModule


class Mortal(DIDFuse):
    """DIDFuse that dies of SIGKILL before it trains the batch ``DIE_AT=<epoch>,<batch>``.

    It adds noise to what it is given, as layers do that draw from torch's random state.
    """

    def training_step(self, batch, batch_idx):
        batch = {**batch, "ir": batch["ir"] + 0.1 * torch.rand_like(batch["ir"])}
        if os.environ.get("DIE_AT") == f"{self.current_epoch},{batch_idx}":
            os.kill(os.getpid(), signal.SIGKILL)
        super().training_step(batch, batch_idx)


class TwoHalves(nn.Module):
    """A network of two convolutions; no batch norm, so a batch may be split at will."""

    size_multiple = 1
    min_size = 1
    value_range = (0.0, 1.0)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, ir, vi):
        return self.second(torch.tanh(self.first(torch.cat([ir, vi], 1))))

    def for_inference(self):
        return self


class Phased(FusionModule):
    """Trains one half in the first epoch, the other in the second, both in the third.

    Processes write what they are given to ``LOG_FOLDER/<rank>``.
    """

    name = "phased"

    def __init__(self, lr: float = 0.05):
        super().__init__(TwoHalves())
        self.save_hyperparameters()

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.network.first.requires_grad_(self.current_epoch != 0)
        self.network.second.requires_grad_(self.current_epoch != 1)

    def training_step(self, batch, batch_idx):
        self._note("fit", batch)
        fused = self.network(batch["ir"], batch["vi"])
        loss = (fused - torch.maximum(batch["ir"], batch["vi"])).square().mean()
        self.step_optimizer(loss, self.optimizers(), clip_norm=1.0)
        self.log_losses({"loss": loss})

    def predict_step(self, batch, batch_idx):
        self._note("predict", batch)
        return super().predict_step(batch, batch_idx)

    def _note(self, stage, batch):
        path = os.path.join(os.environ["LOG_FOLDER"], f"{stage}-{self.global_rank}")
        with open(path, "a") as file:
            file.write("".join(f"{name}\n" for name in batch["name"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.network.parameters(), lr=self.hparams.lr)


class Spoilt(DIDFuse):
    """DIDFuse that diverges at the batch ``SPOIL=<loss or weights>,<epoch>,<batch>``."""

    def training_step(self, batch, batch_idx):
        what, epoch, number = os.environ["SPOIL"].split(",")
        now = (self.current_epoch, batch_idx) == (int(epoch), int(number))
        if now and what == "loss":
            batch = {**batch, "ir": batch["ir"] * torch.nan}
        super().training_step(batch, batch_idx)
        if now and what == "weights":
            self.network.decoder.conv7.conv.weight.data[0] = torch.inf
