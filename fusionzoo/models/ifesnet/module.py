"""IFESNet as a LightningModule: losses, schedule and options of the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fusionzoo.errors import InputError
from fusionzoo.inference import to_grey
from fusionzoo.inference.ranges import check_range, to_unit
from fusionzoo.inference.sources import read_source
from fusionzoo.module import FusionModule

from .losses import (
    STABILIZER,
    brightness_loss,
    expected_patches,
    structural_similarity,
    weight_sum_loss,
)
from .network import Decomposition, build


class IFESNet(FusionModule):
    """Interactive Feature Embedding for Infrared and Visible Image Fusion (Zhao et al.).

    A fusion network predicts a weight for every pixel of either source. Two networks rebuild the
    sources from its features, which thereby keep what the sources hold.

    Args:
        variant: number of interactive stages ``s1``, ``s2``, ``s3`` (the paper's choice) or
            ``s4``; ``hc``, four stages with hierarchical connections (Fig. 10; the best in
            Table V), ``hc3``, the same with three; ``no_ifem``, without interaction (Fig. 9 b).
        smooth: Gaussian blur of the weight maps when fusing, against noise (Fig. 8). Weights are
            the same with and without, and training does not see it.
        channels: width of the first stage; the others are multiples (section III-B: 64).
        weight_activation: of the weight maps: ``softplus``, ``relu`` or ``linear``. The paper does
            not say; ``linear`` lets weights be negative, ``relu`` may die.
        window: side of the loss's sliding window in pixels; 8 or 11 are usual.
        xi: contrast of the expected image, eq. 10 (section IV-A: 1.7).
        structure_power: how the contrasts weigh the structures in eq. 10; 0 is the paper's.
        stabilizer: C of eq. 11.
        tau: what the weights are to add up to, eq. 13 (section IV-A: 1).
        weight_rebuild: factor of both reconstruction losses in eq. 6 (the paper: 1).
        weight_fuse: factor of 1 − SSIM in eq. 6 (the paper: 1).
        weight_sum: factor of the weight map loss in eq. 6 (the paper: 1).
        weight_brightness: factor of a term that eq. 6 does not have (the paper: 0), which keeps
            local means near the brighter source's (see :func:`~.losses.brightness_loss`).
        lr: learning rate of Adam (section IV-A).
        weight_decay: of Adam (section IV-A), decoupled: added to gradients as small as those of
            the reconstruction losses, it would outweigh them.
        cosine_epochs: epochs in which the learning rate falls to 0 along a cosine; 0 keeps it, as
            the paper does.
        clip_norm: gradients are clipped to this norm; 0 does not clip, as in the paper.
    """

    name = "ifesnet"

    def __init__(
        self,
        variant: str = "s3",
        smooth: bool = False,
        channels: int = 64,
        weight_activation: str = "softplus",
        window: int = 8,
        xi: float = 1.7,
        structure_power: float = 0.0,
        stabilizer: float = STABILIZER,
        tau: float = 1.0,
        weight_rebuild: float = 1.0,
        weight_fuse: float = 1.0,
        weight_sum: float = 1.0,
        weight_brightness: float = 0.0,
        lr: float = 1e-4,
        weight_decay: float = 5e-3,
        cosine_epochs: int = 0,
        clip_norm: float = 0.0,
    ) -> None:
        if window < 2:
            raise InputError(f"window must be at least 2, not {window}")
        super().__init__(build(variant, smooth, channels, weight_activation))
        self.save_hyperparameters()

    @torch.no_grad()
    def decompose(
        self,
        ir: Any,
        vi: Any,
        *,
        ir_range: tuple[float, float] | None = None,
        vi_range: tuple[float, float] | None = None,
    ) -> Decomposition:
        """The weight maps behind a fused image, and both sources as the network rebuilds them.

        Takes a path, PIL image, numpy array or torch tensor, as :meth:`fuse` does, but no lists;
        colour is reduced to luma. Training mode does not matter, nothing is recorded, and memory
        stays low on large images.

        Args:
            ir: infrared image or batch, same height and width as ``vi``.
            vi: visible image or batch.
            ir_range: ``(lo, hi)`` values of ``ir`` that map to [0, 1]; see :meth:`fuse`.
            vi_range: the same for ``vi``.

        Returns:
            ``fused, weight_ir, weight_vi, ir, vi``: float tensors ``(B, 1, H, W)`` on the device of
            ``vi``. Images are in [0, 1], ``fused`` clamped to that; weights are unbounded above.

        Raises:
            InputError, InputTypeError, MissingFileError: naming the argument, the problem and the
                remedy.
        """
        first, _ = _unit_luma(ir, "ir", ir_range)
        second, device = _unit_luma(vi, "vi", vi_range)
        if first.shape != second.shape:
            raise InputError(
                f"ir is {tuple(first.shape)} and vi {tuple(second.shape)} (batch, 1, height, "
                "width); pass images of one size that show the same scene"
            )
        weight = next(self.network.parameters())
        maps = self.network.decompose_in_windows(first.to(weight), second.to(weight))
        maps = maps._replace(fused=maps.fused.clamp(0, 1))
        return Decomposition(*(x.to(device) for x in maps))

    def losses(self, ir: Tensor, vi: Tensor, maps: Decomposition) -> dict[str, Tensor]:
        """Every term of eq. 6 and the brightness's, unweighted, and their weighted sum ``loss``.

        ``ir``, ``vi``: sources ``(B, 1, H, W)`` in [0, 1]. All terms are scalars.
        """
        h = self.hparams
        expected = expected_patches(ir, vi, h.window, h.xi, h.structure_power)
        terms = {
            "rebuild_ir": F.mse_loss(maps.ir, ir),
            "rebuild_vi": F.mse_loss(maps.vi, vi),
            "fuse": 1 - structural_similarity(maps.fused, expected, h.window, h.stabilizer),
            "weight_sum": weight_sum_loss(maps.weight_ir, maps.weight_vi, h.tau),
            "brightness": brightness_loss(maps.fused, ir, vi, h.window),
        }
        total = h.weight_rebuild * (terms["rebuild_ir"] + terms["rebuild_vi"])
        total = total + h.weight_fuse * terms["fuse"] + h.weight_sum * terms["weight_sum"]
        total = total + h.weight_brightness * terms["brightness"]
        return {**terms, "loss": total}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        ir, vi = batch["ir"], batch["vi"]
        maps = self.network.decompose(ir, vi, smooth=False)
        # Variances are differences of nearly equal numbers: losses stay in float32.
        with torch.autocast(self.device.type, enabled=False):
            terms = self.losses(ir, vi, Decomposition(*(x.float() for x in maps)))
        self.step_optimizer(
            terms["loss"], self.optimizers(), clip_norm=self.hparams.clip_norm or None
        )
        self.log_losses(terms)

    def configure_optimizers(self) -> Any:
        """Adam with decoupled weight decay, at a constant rate unless ``cosine_epochs`` is set."""
        h = self.hparams
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=h.lr, weight_decay=h.weight_decay
        )
        if not h.cosine_epochs:
            return optimizer
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, h.cosine_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def _unit_luma(
    image: Any, name: str, limits: tuple[float, float] | None
) -> tuple[Tensor, torch.device]:
    """An image of any kind as ``(B, 1, H, W)`` in [0, 1], and the device it was on."""
    source = read_source(image, name)
    chosen = check_range(limits, f"{name}_range") or source.limits
    unit, _ = to_unit(source.colors, chosen, name)
    return to_grey(unit), source.colors.device
