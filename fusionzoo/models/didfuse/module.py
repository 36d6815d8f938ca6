"""DIDFuse as a LightningModule: losses, schedule and options of the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionzoo.errors import check_choice
from fusionzoo.module import FusionModule

from .losses import GAPS, decomposition_gap, gradient_loss, intensity_loss
from .network import VARIANTS, Reconstruction, build


class DIDFuse(FusionModule):
    """When Image Decomposition Meets Deep Learning: DIDFuse (Zhao et al.).

    A shared encoder splits each source into base and detail features, a decoder rebuilds the
    source; for fusion, the features of both sources are merged and decoded once.

    Args:
        rule: fusion rule for base, detail and skip features: ``sum`` (conference version),
            ``average`` (eq. 13), ``l1`` (eqs 7–8) or ``saliency`` (eqs 9–12; the paper's choice
            with channel attention, Table III). The card compares the defaults of this option, the
            next and ``gain`` with others, and says why they were chosen.
        channel_attention: ``none``, ``absolute`` or ``signed`` (eqs 14–17).
        gamma: infrared weight of ``average`` (eq. 13).
        gain: contrast of the fused features about their means; 1 is the paper's.
        variant: ablation of section IV-D: ``full``, ``detail_only``, ``base_only``,
            ``no_decomposition`` or ``plain``.
        skips: conv1 and conv2 features reach the decoder (ablation 5 turns this off).
        channels: feature channels (Table I).
        gap: norm of eq. 1: ``l2`` (paper) or ``l1`` (released code, with ``alpha1=0.5``).
        alpha1: weight of the detail gap, eq. 1 (section IV-A: 0.05; released code 0.5).
        alpha2: weight of infrared reconstruction, eq. 2.
        alpha3: weight of visible reconstruction, eq. 2.
        alpha4: weight of the gradient term, eq. 2.
        weight_ssim: λ of eq. 3.
        lr: learning rate of Adam (section IV-A).
        lr_step: epochs between reductions of the learning rate.
        lr_gamma: factor of a reduction.
    """

    name = "didfuse"

    def __init__(
        self,
        rule: str = "average",
        channel_attention: str = "absolute",
        gamma: float = 0.5,
        gain: float = 1.6,
        variant: str = "full",
        skips: bool = True,
        channels: int = 64,
        gap: str = "l2",
        alpha1: float = 0.05,
        alpha2: float = 2.0,
        alpha3: float = 2.0,
        alpha4: float = 10.0,
        weight_ssim: float = 5.0,
        lr: float = 1e-3,
        lr_step: int = 40,
        lr_gamma: float = 0.1,
    ) -> None:
        check_choice("gap", gap, GAPS)
        super().__init__(build(rule, channel_attention, gamma, gain, variant, skips, channels))
        _, self._decompose = VARIANTS[variant]
        self.save_hyperparameters()

    def losses(self, ir: Tensor, vi: Tensor, rebuilt: Reconstruction) -> dict[str, Tensor]:
        """Every term of eq. 5, unweighted, and their weighted sum ``loss``; all scalars.

        ``ir``, ``vi``: sources ``(B, 1, H, W)`` in [0, 1].
        """
        h = self.hparams
        terms = {
            "intensity_ir": intensity_loss(rebuilt.ir, ir, h.weight_ssim),
            "intensity_vi": intensity_loss(rebuilt.vi, vi, h.weight_ssim),
            "gradient_vi": gradient_loss(rebuilt.vi, vi),
        }
        total = h.alpha2 * terms["intensity_ir"] + h.alpha3 * terms["intensity_vi"]
        total = total + h.alpha4 * terms["gradient_vi"]
        if h.variant == "plain":
            terms["gradient_ir"] = gradient_loss(rebuilt.ir, ir)
            total = total + h.alpha4 * terms["gradient_ir"]
        if self._decompose and rebuilt.base_ir is not None:
            terms["base_gap"] = decomposition_gap(rebuilt.base_vi, rebuilt.base_ir, h.gap)
            total = total + terms["base_gap"]
        if self._decompose and rebuilt.detail_ir is not None:
            terms["detail_gap"] = decomposition_gap(rebuilt.detail_vi, rebuilt.detail_ir, h.gap)
            total = total - h.alpha1 * terms["detail_gap"]
        return {**terms, "loss": total}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        rebuilt = self.network.reconstruct(batch["ir"], batch["vi"])
        # SSIM subtracts nearly equal numbers: losses stay in float32 under mixed precision.
        with torch.autocast(self.device.type, enabled=False):
            rebuilt = Reconstruction(*(None if x is None else x.float() for x in rebuilt))
            terms = self.losses(batch["ir"], batch["vi"], rebuilt)
        self.step_optimizer(terms["loss"], self.optimizers())
        self.log_losses(terms)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam, its rate divided by ten every 40 epochs (section IV-A).

        The released code has one Adam each for encoder and decoder; with equal settings that is
        the same as one for both.
        """
        h = self.hparams
        optimizer = torch.optim.Adam(self.network.parameters(), lr=h.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, h.lr_step, h.lr_gamma)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}
