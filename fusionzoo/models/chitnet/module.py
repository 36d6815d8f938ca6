"""CHITNet as a LightningModule: losses, phases and options of the paper."""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from fusionzoo.errors import InputError
from fusionzoo.module import FusionModule

from .blocks import LinearDecoder
from .heads import Rebuilt, SIPHIAHeads
from .losses import (
    edge_reconstruction,
    fusion_terms,
    interaction,
    joint_gradient,
    reconstruction,
    salient_mean,
)
from .network import VARIANTS, Transferred, build
from .schedule import decay, optimizers_of, own_epochs, phase_of


class Targets(NamedTuple):
    """What the losses compare with; all ``(B, 1, H, W)``."""

    ir: Tensor
    vi: Tensor
    intensity: Tensor
    edges: Tensor


class CHITNet(FusionModule):
    """CHITNet: A Complementary to Harmonious Information Transfer Network (Zhang et al.).

    Two encoders whose features are mixed with each other's (MIT), two modules that extract what
    both sources share and their edges (SIPHIA), and one decoder of all that. MIT and SIPHIAs are
    trained in turn, in phases M, S, M, S, M of equal length: what is not trained is frozen.

    The first phaseM has no SIPHIAs yet and uses a small decoder of its own, which the released
    network does not hold. Where the released code differs: it never trains encoders and MRL.

    Args:
        variant: ``full``, or an ablation of Table I: ``no_mit`` (neither inversion nor MRL),
            ``no_siphia``, or ``end_to_end`` (no phases: one optimizer for everything, which
            minimises the sum of all losses). The last two train as in one long first phase.
        channels: feature channels (released code).
        attention_scale: initial factor of the attentions' cosines, in place of 1/√d of eqs 2 and
            5; see :class:`fusionzoo.models.chitnet.blocks.ChannelAttention`.
        gain: contrast of fused images about their mean; 1 is the paper's. Weighted means of both
            sources (eq. 13) have less contrast than either, which this gives back; training does
            without. The card says how the shipped value was chosen.
        phases: how many, phaseM first; odd, since phaseM must come last (section IV-B: 1000
            epochs in phases of 200).
        phase_epochs: epochs of a phase (section IV-B: 200). Run with
            ``max_epochs = phases * phase_epochs``.
        carry_decoder: the first phaseM's decoder becomes the part of D_fuse that reads the same
            features, its other weights 0: Algorithm 1 goes on with one D_fuse. The released code
            starts it anew.
        lambda_jg: weight of the joint gradient, eq. 14 (Table V).
        lambda_edge: weight of the joint gradient in the SIPHIAs, eq. 17 (Table V).
        lr: initial rate of Adam in the first phaseM and of the SIPHIAs (section IV-B).
        lr_second: initial rate in the other phaseMs (section IV-B).
        lr_decay: factor of the rate after each half phase, counted in the optimizer's own epochs
            (section IV-B: tenfold every 100).
    """

    name = "chitnet"

    def __init__(
        self,
        variant: str = "full",
        channels: int = 64,
        attention_scale: float = 10.0,
        gain: float = 1.0,
        phases: int = 5,
        phase_epochs: int = 200,
        carry_decoder: bool = True,
        lambda_jg: float = 20.0,
        lambda_edge: float = 20.0,
        lr: float = 1e-3,
        lr_second: float = 1e-5,
        lr_decay: float = 0.1,
    ) -> None:
        if phases < 3 or phases % 2 == 0:
            raise InputError(f"phases must be odd and at least 3 (M S M), not {phases}")
        if phase_epochs < 1:
            raise InputError(f"phase_epochs must be at least 1, not {phase_epochs}")
        super().__init__(build(variant, channels, attention_scale, gain))
        _, siphia = VARIANTS[variant]
        self.circulates = variant in ("full", "no_mit")
        self.first_decoder = LinearDecoder(2 * channels, channels) if self.circulates else None
        self.heads_ir = SIPHIAHeads(channels) if siphia else None
        self.heads_vi = SIPHIAHeads(channels) if siphia else None
        self.save_hyperparameters()

    # -- phases ------------------------------------------------------------------------------

    @property
    def phase(self) -> int | None:
        """Index of the current phase, even for phaseM; ``None`` where training has no phases."""
        h = self.hparams
        return phase_of(self.current_epoch, h.phases, h.phase_epochs) if self.circulates else None

    def on_train_start(self) -> None:
        h, epochs = self.hparams, self.trainer.max_epochs
        if epochs != h.phases * h.phase_epochs:
            rank_zero_warn(
                f"max_epochs is {epochs}, but {h.phases} phases of {h.phase_epochs} epochs are "
                f"{h.phases * h.phase_epochs}: give phase_epochs and max_epochs that agree"
            )

    def on_train_epoch_start(self) -> None:
        self._set_rates()
        super().on_train_epoch_start()
        self._freeze()
        if self.hparams.carry_decoder and self.circulates and self.phase >= 2:
            self._carry_decoder()

    def on_train_end(self) -> None:
        self.requires_grad_(True)

    def _freeze(self) -> None:
        if self.circulates:
            self.requires_grad_(False)
            for index in optimizers_of(self.phase):
                for parameter in self._trained(index):
                    parameter.requires_grad_(True)

    @torch.no_grad()
    def _carry_decoder(self) -> None:
        """Start D_fuse from the first phaseM's decoder, before it has made its first step."""
        _, _, _, second = self.optimizers()
        if second.state:
            return
        first, decoder = self.first_decoder, self.network.decoder
        decoder.mix.weight.zero_()
        # The transferred features come first in both.
        decoder.mix.weight[:, : first.mix.in_channels] = first.mix.weight
        decoder.mix.bias.copy_(first.mix.bias)
        decoder.out.load_state_dict(first.out.state_dict())

    def _trained(self, optimizer: int) -> list[nn.Parameter]:
        """The parameters of one of the four optimizers (section IV-B, Algorithm 1)."""
        transfer = [
            part for part in self.network.transfer_parts() if part is not self.network.decoder
        ]
        modules = (
            [*transfer, self.first_decoder],
            [self.network.siphia_ir, self.heads_ir],
            [self.network.siphia_vi, self.heads_vi],
            [*transfer, self.network.decoder],
        )[optimizer]
        return list(chain.from_iterable(module.parameters() for module in modules))

    # -- losses ------------------------------------------------------------------------------

    def mit_losses(self, fused: Tensor, targets: Targets) -> dict[str, Tensor]:
        """ℓ_mit and its terms (eqs 12–14)."""
        intensity, edges = fusion_terms(fused, targets.intensity, targets.edges)
        loss = intensity + self.hparams.lambda_jg * edges
        return {"intensity": intensity, "joint_gradient": edges, "mit": loss}

    def siphia_losses(self, rebuilt: Rebuilt, label: Tensor, targets: Targets) -> dict[str, Tensor]:
        """ℓ_siphia of eq. 18 plus its part of ℓ_inter (eq. 19), and their terms."""
        content, edge = fusion_terms(rebuilt.fused, targets.intensity, targets.edges)
        terms = {
            "reconstruction": reconstruction(rebuilt.sources, targets.ir, targets.vi),
            "gradient": edge_reconstruction(rebuilt.edges, targets.ir, targets.vi),
            "content": content,
            "edge": edge,
            "interaction": interaction(label, rebuilt.fused),
        }
        weights = dict.fromkeys(terms, 1.0) | {"edge": self.hparams.lambda_edge}
        return {**terms, "siphia": sum(weights[key] * value for key, value in terms.items())}

    # -- steps -------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        # Gradients and distributions live on small differences: losses stay in float32.
        with torch.autocast(self.device.type, enabled=False):
            ir, vi = batch["ir"].float(), batch["vi"].float()
            targets = Targets(ir, vi, salient_mean(ir, vi), joint_gradient(ir, vi))
        if self.phase is None:
            self._step_whole(targets)
        elif self.phase % 2:
            self._step_siphias(targets)
        else:
            self._step_mit(targets)

    def _step_mit(self, targets: Targets) -> None:
        optimizers = self.optimizers()
        transferred = self.network.transfer(targets.ir, targets.vi)
        fused = self._reconstruct(transferred)
        terms = self._in_float32(self.mit_losses, fused, targets)
        self.step_optimizer(terms["mit"], optimizers[optimizers_of(self.phase)[0]])
        self.log_losses({**terms, "loss": terms["mit"]})

    def _step_siphias(self, targets: Targets) -> None:
        network, optimizers = self.network, self.optimizers()
        with torch.no_grad():
            transferred = network.transfer(targets.ir, targets.vi)
        acquired = network.acquire(transferred)
        with torch.no_grad():
            if self.phase == 1:
                label = self.first_decoder(transferred)
            else:
                label = network.reconstruct(transferred, acquired)
        logged, total = {}, 0.0
        heads = (self.heads_ir, self.heads_vi)
        for index, side, head, harmonious in zip(
            optimizers_of(self.phase), ("ir", "vi"), heads, acquired, strict=True
        ):
            terms = self._in_float32(self.siphia_losses, head(harmonious), label, targets)
            self.step_optimizer(terms["siphia"], optimizers[index])
            logged |= {f"{key}_{side}": value for key, value in terms.items()}
            total = total + terms["siphia"].detach()
        self.log_losses({**logged, "loss": total})

    def _step_whole(self, targets: Targets) -> None:
        """Everything at once, for the ablations without phases."""
        network = self.network
        transferred = network.transfer(targets.ir, targets.vi)
        acquired = network.acquire(transferred)
        fused = network.reconstruct(transferred, acquired)
        logged = self._in_float32(self.mit_losses, fused, targets)
        total = logged["mit"]
        heads = (self.heads_ir, self.heads_vi) if acquired else ()
        for side, head, harmonious in zip(("ir", "vi"), heads, acquired, strict=False):
            terms = self._in_float32(self.siphia_losses, head(harmonious), fused, targets)
            logged |= {f"{key}_{side}": value for key, value in terms.items()}
            total = total + terms["siphia"]
        self.step_optimizer(total, self.optimizers())
        self.log_losses({**logged, "loss": total})

    def _reconstruct(self, transferred: Transferred) -> Tensor:
        if self.phase == 0:
            return self.first_decoder(transferred)
        return self.network.reconstruct(transferred, self.network.acquire(transferred))

    def _in_float32(self, losses: Any, *arguments: Any) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, enabled=False):
            return losses(*arguments)

    # -- optimizers --------------------------------------------------------------------------

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Four Adams: first phaseM, infrared SIPHIA, visible SIPHIA, later phaseMs (section IV-B).

        Without phases it is one Adam for everything.
        """
        h = self.hparams
        if not self.circulates:
            return [torch.optim.Adam(self.parameters(), lr=h.lr)]
        rates = self._initial_rates()
        return [torch.optim.Adam(self._trained(i), lr=rate) for i, rate in enumerate(rates)]

    def _initial_rates(self) -> tuple[float, ...]:
        h = self.hparams
        return (h.lr, h.lr, h.lr, h.lr_second) if self.circulates else (h.lr,)

    def _set_rates(self) -> None:
        """The rates of this epoch; set here since schedulers expect every optimizer to step."""
        h, epoch = self.hparams, self.current_epoch
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for index, (optimizer, rate) in enumerate(
            zip(optimizers, self._initial_rates(), strict=True)
        ):
            if self.circulates:
                own = own_epochs(index, epoch, h.phases, h.phase_epochs)
                factor = decay(own, h.phase_epochs, h.lr_decay)
            else:  # one long first phase
                factor = decay(epoch, h.phases * h.phase_epochs, h.lr_decay)
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
