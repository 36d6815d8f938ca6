"""CoCoNet as a LightningModule: two-stage contrastive training, options, medical roles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusionzoo.errors import InputError, check_choice
from fusionzoo.models import ROLES
from fusionzoo.module import FusionModule

from .losses import Weights, adaptive_terms, adaptive_weights, contrast_ratio
from .network import LEVELS, build
from .vgg import VGGFeatures
from .vgg_weights import fill_vgg

CONTRASTS = ("both", "target", "detail", "none", "random")


class CoCoNet(FusionModule):
    """CoCoNet: coupled contrastive learning with multi-level feature ensemble (Liu et al.).

    A U-Net whose skips carry attended VGG-19 features of both sources. It first learns the
    self-adaptive loss; then two contrastive terms pull the masked targets towards one source and
    the rest towards the other, and both away from what is not wanted there.

    With ``task="medical"`` the first image is the functional one (PET, SPECT, also CT), the second
    the MRI; the fused image keeps the functional image's colour (section 3.4).

    Args:
        task: ``infrared-visible`` or ``medical``. Decides which source the masked region follows:
            infrared inside a mask of thermal targets (eqs 1–2), or MRI inside a mask of tissue
            (eqs 13–14).
        attention: channel attention; Table 2 turns it off.
        backbone: VGG features in the skips; Table 2 turns them off.
        attention_rule: ``paper`` (Fig. 4: unscaled sums, no γ), ``released`` (each row's maximum
            less the sums, and a learned γ that starts at 0) or ``scaled`` (means, so that patches
            and whole images agree, and γ), with which the shipped weights were trained.
        variant: ``paper``, or ``released`` for weights of the authors (``fusionzoo
            import-weights``): the network of the released code, which differs from the paper.
        as_test_script: what the released test script computes: batch norm by each image's own
            statistics, of images in 0…255; for ``variant="released"``.
        vgg_levels: which of ``low``, ``middle``, ``high`` VGG features take part (Table 3).
        gain: contrast of fused images about their mean, before tanh; 1 is the paper's. Weighted
            means of both sources have less contrast than either, which this gives back; training
            does without. Far from the mean it falls to 1, so that hot targets by night do not
            burn out. The card says how the shipped value was chosen.
        alpha: weight of the structure term, eq. 3 (section 4.1.2: 20).
        weight_rule: how σ and γ follow from the sources: ``softmax`` (eqs 7 and 9) or
            ``released`` (see :func:`adaptive_weights`).
        gradient_range: unit of the average gradient in eq. 7 (see :func:`adaptive_weights`).
        fixed_sigma: a fixed σ of the visible source in [0, 1] instead (Fig. 15).
        fixed_gamma: a fixed γ of the visible source instead (Fig. 15).
        contrast: ``both`` contrastive terms, ``target`` or ``detail`` only, ``none``, or
            ``random``: positives and negatives of other pairs (Fig. 17).
        contrast_weight: factor on the contrastive terms (eq. 10: 1).
        level_weights: w of eqs 1–2 for relu1_1, relu2_1, …; their number, up to 5, is the number
            of levels. The paper leaves w open; the released code has 1/32, 1/16, 1/8, 1/4, 1 for
            all five. More than three need VGG-19 weights that reach so far.
        first_stage_epochs: epochs without contrastive terms (section 4.1.2); those after them
            are fine-tuning.
        fixed_norm_from: epoch, counted from 0, from which batch norm uses its running statistics
            in training, too, and keeps them. Medical patches are black to such different extent
            that batch statistics tell the network what running ones do not.
        lr: learning rate of Adam, in both stages (section 4.1.2).
        vgg_weights: safetensors file with VGG-19's ImageNet weights under timm's names, for
            training from scratch; without it timm is asked. Not kept in checkpoints, which hold
            the VGG part itself.
    """

    name = "coconet"

    def __init__(
        self,
        task: str = "infrared-visible",
        attention: bool = True,
        backbone: bool = True,
        vgg_levels: list[str] = list(LEVELS),  # noqa: B006 (read only; the CLI shows it)
        gain: float = 1.0,
        alpha: float = 20.0,
        weight_rule: str = "softmax",
        gradient_range: float = 1.0,
        fixed_sigma: float | None = None,
        fixed_gamma: float | None = None,
        contrast: str = "both",
        contrast_weight: float = 1.0,
        level_weights: list[float] = [1 / 32, 1 / 16, 1 / 8],  # noqa: B006
        first_stage_epochs: int = 30,
        fixed_norm_from: int | None = None,
        lr: float = 1e-4,
        vgg_weights: str | None = None,
        attention_rule: str = "scaled",
        variant: str = "paper",
        as_test_script: bool = False,
    ) -> None:
        check_choice("task", task, ROLES)
        check_choice("weight_rule", weight_rule, ("softmax", "released"))
        check_choice("contrast", contrast, CONTRASTS)
        for key, value in (("fixed_sigma", fixed_sigma), ("fixed_gamma", fixed_gamma)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{key} must lie in [0, 1], not {value}")
        if not 1 <= len(level_weights) <= 5:
            raise InputError(f"level_weights must hold 1 to 5 numbers, not {len(level_weights)}")
        super().__init__(
            build(attention, backbone, vgg_levels, gain, attention_rule, variant, as_test_script)
        )
        self.save_hyperparameters(ignore=["vgg_weights"])
        self._vgg_weights = vgg_weights
        # VGG that only the losses use: outside of what checkpoints and optimizers see.
        self._loss_vgg: list[VGGFeatures] = []
        self.modalities, self.color_from = ROLES[task]

    def on_fit_start(self) -> None:
        """Get VGG-19's weights, unless a checkpoint brought them."""
        if self.network.vgg is not None and not self.network.vgg.trained:
            fill_vgg(self.network.vgg, self._vgg_weights)
        if self.hparams.contrast != "none":
            self._contrast_features()
        self.network.to(memory_format=torch.channels_last)  # faster on CPUs

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._fix_norm()

    def _fix_norm(self) -> None:
        first = self.hparams.fixed_norm_from
        if first is not None and self.current_epoch >= first:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _contrast_features(self) -> VGGFeatures:
        """The frozen VGG that the contrastive terms see: the network's own where that reaches."""
        own = self.network.vgg
        levels = len(self.hparams.level_weights)
        if own is not None and levels <= len(own.blocks):
            return own
        if not self._loss_vgg:
            vgg = VGGFeatures(levels)
            fill_vgg(vgg, self._vgg_weights)
            self._loss_vgg.append(vgg.to(self.device))
        return self._loss_vgg[0]

    def weights(self, ir: Tensor, vi: Tensor) -> Weights:
        """σ and γ of the visible source for each pair (eqs 7 and 9), or the fixed ones."""
        h = self.hparams
        sigma, gamma = adaptive_weights(ir, vi, h.weight_rule, h.gradient_range)
        if h.fixed_sigma is not None:
            sigma = torch.full_like(sigma, h.fixed_sigma)
        if h.fixed_gamma is not None:
            gamma = torch.full_like(gamma, h.fixed_gamma)
        return Weights(sigma, gamma)

    def adaptive_loss(self, fused: Tensor, ir: Tensor, vi: Tensor) -> dict[str, Tensor]:
        """Eq. 3 and its terms; images ``(B, 1, H, W)`` in [0, 1], results scalars."""
        terms = adaptive_terms(fused, ir, vi, self.weights(ir, vi))
        total = self.hparams.alpha * terms.structure + terms.intensity
        return {**terms._asdict(), "adaptive": total}

    def contrastive_losses(
        self, fused: Tensor, irs: list[Tensor], vis: list[Tensor], mask: Tensor
    ) -> dict[str, Tensor]:
        """The target and detail terms (eqs 1–2; for medical images eqs 13–14), scalars.

        A term leaves out pairs whose region is empty; it is zero where all are.

        Args:
            fused: ``(B, 1, H, W)`` in [-1, 1].
            irs: the pairs' own infrared (functional) images and those of other pairs, alike.
            vis: the same of the visible (MRI) images.
            mask: ``(B, 1, H, W)`` of zeros and ones.
        """
        wanted = {"both": ("target", "detail"), "random": ("target", "detail")}
        names = wanted.get(self.hparams.contrast, (self.hparams.contrast,))
        inside, outside = (irs, vis) if self.hparams.task == "infrared-visible" else (vis, irs)
        roles = {"target": (mask, inside, outside), "detail": (1 - mask, outside, inside)}
        return {name: self._contrast(fused, *roles[name]) for name in names if name in roles}

    def _contrast(
        self, fused: Tensor, region: Tensor, positives: list[Tensor], negatives: list[Tensor]
    ) -> Tensor:
        if self.hparams.contrast == "random":
            positives, negatives = positives[1:], [negatives[1], negatives[2], positives[2]]
        used = region.flatten(1).any(1)
        if not used.any():
            return fused.new_zeros(())
        region = region[used]
        vgg = self._contrast_features()
        levels = len(self.hparams.level_weights)
        anchor = vgg(fused[used] * region)[:levels]
        with torch.no_grad():
            fixed = torch.cat([image[used] * region for image in (positives[0], *negatives)])
            maps = [features.chunk(1 + len(negatives)) for features in vgg(fixed)[:levels]]
        positive, *others = zip(*maps, strict=True)
        with torch.autocast(fused.device.type, enabled=False):
            return contrast_ratio(anchor, positive, others, self.hparams.level_weights).mean()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One step of either stage.

        In the second, a third of the batch is fused; the other two thirds are the other pairs
        whose images serve as negatives (section 4.1.2: one own and two random ones).
        """
        ir, vi = batch["ir"], batch["vi"]
        second_stage = (
            self.hparams.contrast != "none"
            and self.current_epoch >= self.hparams.first_stage_epochs
        )
        if second_stage:
            count = self._anchors(batch)
            irs, vis = (list((2 * x[: 3 * count] - 1).split(count)) for x in (ir, vi))
            ir, vi = ir[:count], vi[:count]
        fused = torch.tanh(self.network.logits(2 * ir - 1, 2 * vi - 1))
        with torch.autocast(self.device.type, enabled=False):
            terms = self.adaptive_loss(fused.float() / 2 + 0.5, ir, vi)
        loss = terms["adaptive"]
        if second_stage:
            contrast = self.contrastive_losses(fused, irs, vis, batch["mask"][:count])
            loss = loss + self.hparams.contrast_weight * sum(contrast.values())
            terms |= contrast
        self.step_optimizer(loss, self.optimizers())
        self.log_losses({**terms, "loss": loss})

    @staticmethod
    def _anchors(batch: dict[str, Any]) -> int:
        if "mask" not in batch:
            raise InputError(
                "CoCoNet's contrastive stage needs masks; set data.mask to saliency (or, for "
                "medical images, foreground), or model.contrast to none"
            )
        count = len(batch["ir"]) // 3
        if count == 0:
            raise InputError(
                f"a batch of {len(batch['ir'])} leaves no negatives of other pairs; "
                "set data.batch_size to 3 or more (and data.drop_last)"
            )
        return count

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with one learning rate for both stages (section 4.1.2)."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, lr=self.hparams.lr)
