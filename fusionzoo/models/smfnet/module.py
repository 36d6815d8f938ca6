"""SMFNet as a LightningModule: two stages, schedule, options, medical roles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionzoo.errors import InputError, check_choice
from fusionzoo.models import ROLES
from fusionzoo.module import FusionModule

from .losses import (
    brightest_loss,
    correlation,
    decomposition,
    dissimilarity,
    edge_loss,
    gradient_loss,
    has_contrast,
    intensity_loss,
    semantic_loss,
    strongest_edge_loss,
)
from .network import Features, Fused, Rebuilt, build

GRAPH_TERMS = ("second", "both", "none")


class SMFNet(FusionModule):
    """A Semantic-Aware and Multi-Guided Network for Infrared-Visible Image Fusion (Zhang et al.).

    The first stage rebuilds each source from the sum of its base, detail and graph features; the
    second fuses base and detail features of both sources in a layer each, adds the graph's, and
    decodes once.

    With ``task="medical"`` the first image is the functional one (PET, SPECT, also CT), the second
    the MRI; the fused image keeps the functional image's colour (section 3.5). The network and
    the losses are the same: the functional image has the intensity term, MRI the semantic one.

    Args:
        task: ``infrared-visible`` or ``medical``.
        channels: feature channels throughout, a multiple of 16 from 32 up.
        residual: residual groups in the base branch (Table 5, "w/o residual transformer").
        cross_attention: attention before the invertible step (Table 5, "CAI→INN block").
        graph: the graph branch (Table 5, "w/o GNN").
        swap_fusion: exchange the two fusion layers (Table 5, "INN<->transformer").
        variant: ``paper``, or ``released`` for weights of the authors (``fusionzoo
            import-weights``): the network of the released code, which differs from the paper.
        appearance: the intensity (eq. 20) and semantic (eq. 23) terms of the first stage
            (Table 5, "w/o intensity and semantic loss").
        two_stage: begin with the first stage; without, everything is trained by the second's loss
            from the start (Table 5, "w/o two stage training").
        graph_term: the stages in which the graph's correlation counts (eq. 27): ``second``,
            ``both`` (Table 5, "two-stage both cc_G") or ``none``.
        first_stage_epochs: epochs of the first stage (section 3.1: 40 of 120).
        alpha1: weight of the decomposition term, eq. 17 (section 3.1: 2).
        alpha2: weight of the visible image's gradient term, eq. 17 (section 3.1: 5).
        alpha3: weight of 1 - SSIM, eqs 18 and 19 (section 3.1: 8).
        beta1: weight of the Sobel term, eqs 18 and 19 (section 3.1: 10).
        alpha4: weight of the decomposition term, eq. 28. Section 3.1 prints 10 here and 2 for
            ``alpha5``, the released code has 2 and 10. The defaults are the paper's: with the
            code's, pictures stayed grey, since unnormalised gradients outweigh intensity.
        alpha5: weight of the gradient term, eq. 28.
        delta: δ of eqs 26 and 27.
        semantic_bins: grey levels of the semantic term (see :func:`~.losses.semantic_loss`).
        min_contrast: pairs with an image of less contrast (see :func:`~.losses.has_contrast`) do
            not enter the loss. The released code drops such patches when it cuts them; here they
            are cut anew for each batch. 0 keeps all.
        lr: learning rate of Adam (section 3.1).
        lr_step: epochs between halvings of the learning rate; of the fusion layers, epochs of the
            second stage (released code).
        lr_gamma: factor of a reduction (released code).
        lr_floor: least learning rate (released code).
        clip_norm: greatest norm of the gradient (released code: 0.01 for each of its five modules,
            here for all of them together).
    """

    name = "smfnet"

    def __init__(
        self,
        task: str = "infrared-visible",
        channels: int = 64,
        residual: bool = True,
        cross_attention: bool = True,
        graph: bool = True,
        swap_fusion: bool = False,
        appearance: bool = True,
        two_stage: bool = True,
        graph_term: str = "second",
        first_stage_epochs: int = 40,
        alpha1: float = 2.0,
        alpha2: float = 5.0,
        alpha3: float = 8.0,
        beta1: float = 10.0,
        alpha4: float = 10.0,
        alpha5: float = 2.0,
        delta: float = 1.01,
        semantic_bins: int = 8,
        min_contrast: float = 0.1,
        lr: float = 1e-4,
        lr_step: int = 20,
        lr_gamma: float = 0.5,
        lr_floor: float = 1e-6,
        clip_norm: float = 0.01,
        variant: str = "paper",
    ) -> None:
        check_choice("task", task, ROLES)
        check_choice("graph_term", graph_term, GRAPH_TERMS)
        if delta <= 1:
            raise InputError(f"delta must be above 1, not {delta}: correlations reach down to -1")
        if semantic_bins < 2:
            raise InputError(f"semantic_bins must be 2 or more grey levels, not {semantic_bins}")
        super().__init__(build(channels, residual, cross_attention, graph, swap_fusion, variant))
        self.save_hyperparameters()
        self.modalities, self.color_from = ROLES[task]

    def on_fit_start(self) -> None:
        self.network.to(memory_format=torch.channels_last)

    @property
    def rebuilding(self) -> bool:
        """Whether this epoch is of the first stage."""
        h = self.hparams
        return h.two_stage and self.current_epoch < h.first_stage_epochs

    def first_stage_losses(self, ir: Tensor, vi: Tensor, rebuilt: Rebuilt) -> dict[str, Tensor]:
        """Every term of eqs 17–19, unweighted, and their weighted sum ``loss``; each ``(B,)``.

        ``ir``, ``vi``: sources ``(B, 1, H, W)`` in [0, 1].
        """
        h = self.hparams
        terms = {
            "ssim_vi": dissimilarity(rebuilt.vi, vi),
            "ssim_ir": dissimilarity(rebuilt.ir, ir),
            "edges_vi": edge_loss(rebuilt.vi, vi),
            "edges_ir": edge_loss(rebuilt.ir, ir),
            "gradient": gradient_loss(rebuilt.vi, vi),
            "decomposition": self._decomposition(rebuilt.features, "both"),
        }
        total = h.alpha3 * (terms["ssim_vi"] + terms["ssim_ir"])
        total = total + h.beta1 * (terms["edges_vi"] + terms["edges_ir"])
        total = total + h.alpha1 * terms["decomposition"] + h.alpha2 * terms["gradient"]
        if h.appearance:
            terms["semantic"] = semantic_loss(rebuilt.vi, vi, h.semantic_bins)
            terms["intensity"] = intensity_loss(rebuilt.ir, ir)
            total = total + terms["semantic"] + terms["intensity"]
        return {**terms, "loss": total}

    def second_stage_losses(self, ir: Tensor, vi: Tensor, fused: Fused) -> dict[str, Tensor]:
        """Every term of eq. 28, unweighted, and their weighted sum ``loss``; each ``(B,)``."""
        h = self.hparams
        terms = {
            "fused_intensity": brightest_loss(fused.image, ir, vi),
            "fused_gradient": strongest_edge_loss(fused.image, ir, vi),
            "fused_decomposition": self._decomposition(fused.features, "second", "both"),
        }
        total = terms["fused_intensity"] + h.alpha4 * terms["fused_decomposition"]
        return {**terms, "loss": total + h.alpha5 * terms["fused_gradient"]}

    def _decomposition(self, features: Features, *graph_terms: str) -> Tensor:
        """Eq. 26, or eq. 27 if ``graph_term`` is one of those given."""
        base, detail = (correlation(*part.chunk(2)) for part in (features.base, features.detail))
        graph = None
        if features.graph is not None and self.hparams.graph_term in graph_terms:
            graph = correlation(*features.graph.chunk(2))
        return decomposition(detail, base, graph, self.hparams.delta)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        ir, vi = batch["ir"], batch["vi"]
        rebuilding = self.rebuilding
        out = (self.network.reconstruct if rebuilding else self.network.fuse)(ir, vi)
        # SSIM and correlations subtract nearly equal numbers: losses stay in float32.
        with torch.autocast(self.device.type, enabled=False):
            out = _as_float(out)
            losses = self.first_stage_losses if rebuilding else self.second_stage_losses
            terms = losses(ir, vi, out)
            used = self._used(ir, vi)
            shares = used / used.sum().clamp_min(1)
            terms = {key: (value * shares).sum() for key, value in terms.items()}
        self.step_optimizer(terms["loss"], self.optimizers(), clip_norm=self.hparams.clip_norm)
        self.log_losses({**terms, "used": used.mean()})

    def _used(self, ir: Tensor, vi: Tensor) -> Tensor:
        """1 for each pair that enters the loss, else 0."""
        least = self.hparams.min_contrast
        return (has_contrast(ir, least) & has_contrast(vi, least)).to(torch.float32)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam; its rate is halved every 20 epochs, down to 1e-6 (section 3.1, released code).

        The released code has one Adam for each of five modules. One for all is the same: a
        parameter without gradient, such as those of the fusion layers in the first stage, is left
        alone. The fusion layers' rate first falls 20 epochs into the second stage, when they
        have trained that long.
        """
        h = self.hparams
        fusion = [*self.network.base_fusion.parameters(), *self.network.detail_fusion.parameters()]
        late = {id(parameter) for parameter in fusion}
        groups = [
            {"params": [p for p in self.network.parameters() if (id(p) in late) == chosen]}
            for chosen in (False, True)
        ]
        optimizer = torch.optim.Adam(groups, lr=h.lr)
        start = h.first_stage_epochs if h.two_stage else 0
        factors = [lambda epoch, first=first: self._factor(epoch - first) for first in (0, start)]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _factor(self, epochs: int) -> float:
        """What the learning rate is multiplied by after so many epochs."""
        h = self.hparams
        return max(h.lr_gamma ** (max(epochs, 0) // h.lr_step), h.lr_floor / h.lr)


def _as_float(value: Any) -> Any:
    """Nested tuples of tensors in float32."""
    if isinstance(value, Tensor):
        return value.float()
    return value if value is None else type(value)(*map(_as_float, value))
