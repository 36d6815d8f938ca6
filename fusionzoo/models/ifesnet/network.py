"""IFESNet's three networks and the stages in which they interact (Fig. 3, eqs 1–5)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice

from .rows import AtOnce, Conv3, InBlocks, stream

#: Variants of Tables III–V by name, as options of the network. The paper's HC has four stages.
VARIANTS: dict[str, dict[str, Any]] = {
    "s1": {"stages": 1},
    "s2": {"stages": 2},
    "s3": {"stages": 3},
    "s4": {"stages": 4},
    "hc": {"stages": 4, "hierarchical": True},
    "hc3": {"stages": 3, "hierarchical": True},
    "no_ifem": {"stages": 3, "interactive": False},
}

#: Width of each stage in units of ``channels``. The paper gives the first three (64, 128, 256);
#: the fourth stage, which it does not describe, keeps the width of the third.
WIDTHS = (1, 2, 4, 4)
WEIGHT_ACTIVATIONS = ("softplus", "relu", "linear")
SMOOTHING_SIZE, SMOOTHING_VARIANCE = 5, 2.0  # section IV-C


class Decomposition(NamedTuple):
    """All that the three networks give; every map is ``(B, 1, H, W)``.

    ``fused`` is the weighted sum of eq. 4, not clamped; ``weight_ir`` and ``weight_vi`` are its
    weights, unbounded above; ``ir`` and ``vi`` are the sources rebuilt, in [0, 1] (eq. 2).
    """

    fused: Tensor
    weight_ir: Tensor
    weight_vi: Tensor
    ir: Tensor
    vi: Tensor


class IFESNetNetwork(nn.Module):
    """The fusion network and both reconstruction networks; 4.8 M parameters in three stages.

    ``network(ir, vi)`` takes images ``(B, 1, H, W)`` in [0, 1] and returns the fused image of that
    shape, in train and eval mode alike. The result may leave [0, 1]: it is a weighted sum, and
    training only pulls the weights towards adding up to one. Any size works unpadded.

    The two reconstruction networks lie side by side in the channels, infrared first: one
    convolution gives both branches F′ₙ and F″ₙ, the fusion network reads them as they are, and
    grouped convolutions rebuild both sources at once.

    Args:
        stages: number of interactive stages, 1 to 4 (section III-C; the paper's choice is 3).
        hierarchical: the fusion features Fₙ₋₁ also enter stages n and n + 1 (Fig. 10).
        interactive: branches read the fusion features (Fig. 9 a). Without, they read the branch
            before them, from the source on, and the fusion network reads its own features and
            those of the branches (Fig. 9 b).
        channels: width of the first stage (the paper: 64); see :data:`WIDTHS`.
        weight_activation: of the weight maps: ``softplus`` (above 0), ``relu`` (may die) or
            ``linear`` (of either sign).
        smooth: pass the weight maps through a 5×5 Gaussian of variance 2, against noise (Fig. 8).

    Raises:
        InputError: an option is out of range.
    """

    size_multiple = 1
    min_size = 1
    value_range = (0.0, 1.0)
    bytes_per_pixel = 300  # measured

    def __init__(
        self,
        stages: int = 3,
        hierarchical: bool = False,
        interactive: bool = True,
        channels: int = 64,
        weight_activation: str = "softplus",
        smooth: bool = False,
    ):
        super().__init__()
        if not 1 <= stages <= len(WIDTHS):
            raise InputError(f"stages must be 1 to {len(WIDTHS)}, not {stages}")
        if channels < 1:
            raise InputError(f"channels must be at least 1, not {channels}")
        check_choice("weight_activation", weight_activation, WEIGHT_ACTIVATIONS)
        self.hierarchical = hierarchical
        self.interactive = interactive
        self.weight_activation = weight_activation
        self.smooth = smooth

        widths = [channels * factor for factor in WIDTHS[:stages]]
        self.fusion = nn.ModuleList()
        self.branches = nn.ModuleList()
        for n, width in enumerate(widths):
            before = widths[n - 1] if n else 1
            entering = 2 * before  # both branches or, at first, both sources
            if n and hierarchical:
                entering += sum(widths[max(n - 2, 0) : n])
            elif n and not interactive:
                entering += before
            self.fusion.append(nn.Sequential(Conv3(entering, width), Conv3(width, width)))
            if interactive:
                self.branches.append(Conv3(width, 2 * width))
            else:
                self.branches.append(Conv3(2 * before, 2 * width, groups=2))
        wide, medium, narrow = 4 * channels, 2 * channels, channels
        self.weighting = nn.Sequential(
            Conv3(widths[-1], wide),
            Conv3(wide, medium),
            Conv3(medium, narrow),
            Conv3(narrow, 2, relu=False),
        )
        self.rebuilding = nn.Sequential(
            Conv3(2 * widths[-1], 2 * medium, groups=2),
            Conv3(2 * medium, 2 * narrow, groups=2),
            Conv3(2 * narrow, 2, relu=False, groups=2),
        )
        self._start_as_mean()

    def _start_as_mean(self) -> None:
        """Let training start near W₁ = W₂ = 1/2, where eq. 13 is content."""
        half = math.log(math.expm1(0.5)) if self.weight_activation == "softplus" else 0.5
        last = self.weighting[-1]
        nn.init.constant_(last.bias, half)
        with torch.no_grad():
            last.weight.mul_(0.1)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        (logits,) = self._flow(AtOnce(), _pair(ir, vi), rebuild=False)
        return self._fuse(ir, vi, self._weights(logits, self.smooth))

    def decompose(self, ir: Tensor, vi: Tensor, smooth: bool | None = None) -> Decomposition:
        """Fuse and rebuild, for training; images ``(B, 1, H, W)`` in [0, 1].

        ``smooth`` replaces the network's own setting. Gradients pass.
        """
        return self._decomposed(ir, vi, *self._flow(AtOnce(), _pair(ir, vi)), smooth)

    def decompose_in_rows(self, ir: Tensor, vi: Tensor, rows: int | None = None) -> Decomposition:
        """:meth:`decompose` in little memory; ``rows`` as in :meth:`fuse_in_rows`."""
        return self._decomposed(ir, vi, *stream(self._flow, _pair(ir, vi), rows))

    def fuse_in_rows(self, ir: Tensor, vi: Tensor, rows: int | None = None) -> Tensor:
        """The same as ``network(ir, vi)``, by blocks of ``rows`` rows; see :func:`stream`.

        Memory is that of one block; by default its height is chosen so that this is little.
        """

        def flow(run: InBlocks, sources: Tensor) -> tuple[Tensor, ...]:
            return self._flow(run, sources, rebuild=False)

        (logits,) = stream(flow, _pair(ir, vi), rows)
        return self._fuse(ir, vi, self._weights(logits, self.smooth))

    def for_inference(self) -> nn.Module:
        """An equivalent network for eval mode, which needs little memory for large images."""
        return _InRows(self)

    def _flow(
        self, run: AtOnce | InBlocks, sources: Tensor, rebuild: bool = True
    ) -> tuple[Tensor, ...]:
        """Sources ``(B, 2, H, W)`` to the logits of the weight maps and, if wanted, of the images.

        All of these are ``(B, 2, H, W)``, infrared first.
        """
        entering = branches = sources
        features: list[Tensor] = []
        last = len(self.fusion) - 1
        for n, (fuse, branch) in enumerate(zip(self.fusion, self.branches, strict=True)):
            features = [*features[-1:], run(fuse, entering)]
            if n == last and not rebuild:
                break
            branches = run(branch, features[-1] if self.interactive else branches)
            if n == last:
                break
            if self.hierarchical:
                entering = run.join(n, [branches, *features])
            elif not self.interactive:
                entering = run.join(n, [branches, features[-1]])
            else:
                entering = branches
        logits = run(self.weighting, features[-1])
        return (logits, run(self.rebuilding, branches)) if rebuild else (logits,)

    def _weights(self, logits: Tensor, smooth: bool) -> Tensor:
        if self.weight_activation == "softplus":
            logits = F.softplus(logits)
        elif self.weight_activation == "relu":
            logits = F.relu(logits)
        return _smoothed(logits) if smooth else logits

    def _fuse(self, ir: Tensor, vi: Tensor, weights: Tensor) -> Tensor:
        weight_ir, weight_vi = weights.chunk(2, 1)
        return weight_ir * ir + weight_vi * vi

    def _decomposed(
        self, ir: Tensor, vi: Tensor, logits: Tensor, images: Tensor, smooth: bool | None = None
    ) -> Decomposition:
        weights = self._weights(logits, self.smooth if smooth is None else smooth)
        fused = self._fuse(ir, vi, weights)
        return Decomposition(fused, *weights.chunk(2, 1), *images.sigmoid().chunk(2, 1))


class _InRows(nn.Module):
    """IFESNet for inference; keeps only the layers that fusion needs."""

    def __init__(self, network: IFESNetNetwork):
        super().__init__()
        self.network = network
        del network.rebuilding
        network.branches[-1] = nn.Identity()  # only the reconstruction reads the last branches

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        return self.network.fuse_in_rows(ir, vi)


def _pair(ir: Tensor, vi: Tensor) -> Tensor:
    # Convolutions pass on the layout of their input; this one is faster on most CPUs and GPUs.
    return torch.cat([ir, vi], 1).contiguous(memory_format=torch.channels_last)


def _smoothed(weights: Tensor) -> Tensor:
    """Gaussian blur of each map; borders are continued by their edge pixels."""
    half = SMOOTHING_SIZE // 2
    offsets = torch.arange(-half, half + 1, device=weights.device, dtype=weights.dtype)
    kernel = torch.exp(-offsets.square() / (2 * SMOOTHING_VARIANCE))
    kernel = kernel / kernel.sum()
    channels = weights.shape[1]
    kernel = kernel.view(1, 1, 1, -1).expand(channels, -1, -1, -1)
    weights = F.pad(weights, (half,) * 4, mode="replicate")
    weights = F.conv2d(weights, kernel, groups=channels)
    return F.conv2d(weights, kernel.transpose(2, 3), groups=channels)


def build(variant: str, smooth: bool, channels: int, weight_activation: str) -> IFESNetNetwork:
    """Make the network from the model's options, which :class:`IFESNet` documents."""
    check_choice("variant", variant, VARIANTS)
    return IFESNetNetwork(
        **VARIANTS[variant],
        channels=channels,
        weight_activation=weight_activation,
        smooth=smooth,
    )
