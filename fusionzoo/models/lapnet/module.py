"""LapNet as a LightningModule: losses, schedule and options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice
from fusionzoo.models import ROLES
from fusionzoo.module import FusionModule
from fusionzoo.weights import (
    WEIGHTS_NAME,
    load_state,
    packaged_folder,
    read_config,
    read_safetensors,
)

from .losses import brightness_loss, choice_loss, overshoot_loss, target_loss
from .network import LapNetNetwork, build


class LapNet(FusionModule):
    """LapNet, this project's own model: a Laplacian pyramid with learned selection.

    ``docs/lapnet.md`` is its paper: method, ablations, results and failures.

    With ``task="medical"`` the first image is the functional one (PET, SPECT, also CT), the second
    the MRI; the result keeps the first one's colour.

    Args:
        task: ``infrared-visible`` or ``medical``.
        channels: of the block's state.
        depth: residual 3 x 3 convolutions of the block.
        levels: bands of the pyramid, 1 to 5.
        shared: one block for all levels; ``False`` gives each its own.
        residual: largest correction per band that comes from neither source, 0 for none.
        base: ``learned``, ``mean`` or ``max``: how the coarsest images are fused.
        bound: how far results may leave the sources' values in 3 x 3 pixels, as a share of the
            span of these values; None sets no bound.
        weight_vif: weight of visual information fidelity, which is to rise.
        weight_qabf: weight of edge preservation, which is to rise.
        weight_ssim: weight of structural similarity, which is to rise.
        weight_scd: weight of the correlations of differences, which are to rise.
        weight_brightness: weight of the distance to the brighter source's local means.
        weight_target: weight of the distance to infrared where infrared is hot.
        weight_choice: weight of the distance to the nearer source.
        weight_overshoot: weight of what leaves [0, 1].
        teacher: weights of a larger LapNet to learn from: a folder written by ``save_pretrained``,
            or the name of packaged weights; None trains alone.
        weight_teacher: weight of the mean absolute distance to the teacher's result.
        lr: largest learning rate of Adam.
        warmup: share of the epochs over which the rate rises; it then falls by a half cosine.
        clip_norm: largest norm of the gradient.

    Raises:
        InputError: an option out of range.
    """

    name = "lapnet"

    def __init__(
        self,
        task: str = "infrared-visible",
        channels: int = 32,
        depth: int = 2,
        levels: int = 5,
        shared: bool = True,
        residual: float = 0.1,
        base: str = "learned",
        bound: float | None = 0.5,
        weight_vif: float = 1.0,
        weight_qabf: float = 9.0,
        weight_ssim: float = 4.0,
        weight_scd: float = 2.0,
        weight_brightness: float = 10.0,
        weight_target: float = 8.0,
        weight_choice: float = 0.0,
        weight_overshoot: float = 5.0,
        teacher: str | None = None,
        weight_teacher: float = 20.0,
        lr: float = 2e-3,
        warmup: float = 0.1,
        clip_norm: float = 1.0,
    ) -> None:
        check_choice("task", task, ROLES)
        super().__init__(build(channels, depth, levels, shared, residual, base, bound))
        self.modalities, self.color_from = ROLES[task]
        self.save_hyperparameters()
        # In a list, so that the teacher is no part of what is saved.
        self._teacher: list[LapNetNetwork] = []

    def on_fit_start(self) -> None:
        """Load the teacher, where there is one."""
        if self.hparams.teacher is not None:
            self._teacher = [read_teacher(self.hparams.teacher).to(self.device)]

    def losses(self, fused: Tensor, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """Every term that has a weight, unweighted, and their weighted sum ``loss``; all scalars.

        ``fused``, ``ir``, ``vi``: images ``(B, 1, H, W)``, the sources in [0, 1]. Metrics come
        negative: every term is to fall.
        """
        # Only training needs the metrics; loading a model to fuse does not import them.
        from fusionzoo.losses import qabf, scd, ssim, vif

        computed = {
            "vif": lambda: -vif(fused, ir, vi).mean(),
            "qabf": lambda: -qabf(fused, ir, vi).mean(),
            "ssim": lambda: -ssim(fused, ir, vi).mean(),
            "scd": lambda: -scd(fused, ir, vi).mean(),
            "brightness": lambda: brightness_loss(fused, ir, vi),
            "target": lambda: target_loss(fused, ir),
            "choice": lambda: choice_loss(fused, ir, vi),
            "overshoot": lambda: overshoot_loss(fused),
        }
        if self._teacher:
            with torch.no_grad():
                taught = self._teacher[0](ir, vi)
            computed["teacher"] = lambda: F.l1_loss(fused, taught)
        weights = {name: self.hparams[f"weight_{name}"] for name in computed}
        terms = {name: term() for name, term in computed.items() if weights[name]}
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return {**terms, "loss": total}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Fuse a batch of crops and make one step."""
        fused = self.network(batch["ir"], batch["vi"])
        # Variances subtract nearly equal numbers: losses stay in float32 under mixed precision.
        with torch.autocast(self.device.type, enabled=False):
            terms = self.losses(fused.float(), batch["ir"], batch["vi"])
        self.step_optimizer(terms["loss"], self.optimizers(), clip_norm=self.hparams.clip_norm)
        self.log_losses(terms)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam; per epoch, its rate rises evenly and then falls to 0 by a half cosine."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.hparams.lr)
        epochs = max(self.trainer.max_epochs or 1, 1)
        rising = max(self.hparams.warmup * epochs, 1)

        def share(epoch: int) -> float:
            if epoch < rising:
                return (epoch + 1) / (rising + 1)
            return 0.5 + 0.5 * math.cos(math.pi * (epoch - rising) / max(epochs - rising, 1))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def read_teacher(source: str) -> LapNetNetwork:
    """Read the network of stored LapNet weights, ready to fuse.

    Raises:
        InputError: the weights are of another model.
        FileNotFoundError: there is no such folder.
    """
    folder = packaged_folder(source) or Path(source)
    config = read_config(folder)
    if config["model"] != LapNet.name:
        raise InputError(f"teacher={source}: weights of {config['model']}; give those of a lapnet")
    state, _ = read_safetensors(folder / WEIGHTS_NAME)
    network = LapNet(**config["options"]).network
    load_state(network, state, source=folder)
    return network.eval().requires_grad_(False)
