"""IFESNet's three networks and the stages in which they interact (Fig. 3, eqs 1–5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError, check_choice
from fusionzoo.strips import WHOLE, Edges, convolve, in_windows, pixels_within, trim

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


class Conv3(nn.Conv2d):
    """3×3 convolution with zero padding and, unless ``relu`` is off, a ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, relu: bool = True, groups: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, groups=groups)
        self.relu = relu
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu" if relu else "linear")
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edges: Edges = WHOLE) -> Tensor:
        x = convolve(self, x, edges)
        return x.relu_() if self.relu else x


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
    ) -> None:
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
        """Fuse ``(B, 1, H, W)`` in [0, 1] to an image of that shape and range."""
        return self._fuse(ir, vi, self._weights(self._logits(_pair(ir, vi)), self.smooth))

    def decompose(self, ir: Tensor, vi: Tensor, smooth: bool | None = None) -> Decomposition:
        """Fuse and rebuild, for training; images ``(B, 1, H, W)`` in [0, 1].

        ``smooth`` replaces the network's own setting. Gradients pass.
        """
        return self._decomposed(ir, vi, self._all_logits(_pair(ir, vi)), smooth)

    def fuse_in_windows(self, ir: Tensor, vi: Tensor) -> Tensor:
        """``network(ir, vi)`` in little memory, whatever the size of the images."""
        logits = self._in_windows(self._logits, _pair(ir, vi))
        return self._fuse(ir, vi, self._weights(logits, self.smooth))

    def decompose_in_windows(self, ir: Tensor, vi: Tensor) -> Decomposition:
        """:meth:`decompose` in little memory, whatever the size of the images."""
        return self._decomposed(ir, vi, self._in_windows(self._all_logits, _pair(ir, vi)))

    @property
    def reach(self) -> int:
        """How many pixels far this sees: three layers a stage, three more, and the smoothing."""
        return self._reach_of_logits + (SMOOTHING_SIZE // 2 if self.smooth else 0)

    @property
    def _reach_of_logits(self) -> int:
        return 3 * len(self.fusion) + 3

    def for_inference(self) -> nn.Module:
        """An equivalent network for eval mode, which needs little memory for large images."""
        return _InWindows(self)

    def _in_windows(self, compute: Callable[[Tensor, Edges], Tensor], sources: Tensor) -> Tensor:
        halo = self._reach_of_logits
        # Stages with hierarchical connections read three times these features; smaller windows
        # would have too much halo.
        pixels = pixels_within(sources, self.fusion[-1][-1].out_channels)
        return in_windows(compute, sources, halo=halo, pixels=pixels)

    def _logits(self, sources: Tensor, edges: Edges = WHOLE) -> Tensor:
        """Sources to the logits of their weight maps; ``(B, 2, H, W)``, infrared first, both."""
        features, _ = self._interact(sources, edges, rebuild=False)
        return _run(self.weighting, features, edges)

    def _all_logits(self, sources: Tensor, edges: Edges = WHOLE) -> Tensor:
        """``(B, 4, H, W)``: what :meth:`_logits` gives, then the same of both images."""
        features, branches = self._interact(sources, edges)
        rebuilt = _run(self.rebuilding, branches, edges)
        return _joined([_run(self.weighting, features, edges), rebuilt], edges)

    def _interact(
        self, sources: Tensor, edges: Edges, rebuild: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The stages: what the fusion network and, if wanted, both branches end in."""
        branches, features = sources, []  # features: F of the last two stages, where still read
        last = len(self.fusion) - 1
        for n, (fuse, branch) in enumerate(zip(self.fusion, self.branches, strict=True)):
            fused = _run(fuse, _joined([branches, *features], edges), edges)
            if n == last and not rebuild:
                return fused, None
            branches = branch(fused if self.interactive else branches, edges)
            if self.hierarchical:
                features = [*features[-1:], fused]
            elif not self.interactive:
                features = [fused]
        return fused, branches

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
        self, ir: Tensor, vi: Tensor, logits: Tensor, smooth: bool | None = None
    ) -> Decomposition:
        logits, images = logits.chunk(2, 1)
        weights = self._weights(logits, self.smooth if smooth is None else smooth)
        fused = self._fuse(ir, vi, weights)
        return Decomposition(fused, *weights.chunk(2, 1), *images.sigmoid().chunk(2, 1))


class _InWindows(nn.Module):
    """IFESNet for inference; keeps only the layers that fusion needs."""

    def __init__(self, network: IFESNetNetwork) -> None:
        super().__init__()
        self.network = network
        del network.rebuilding
        network.branches[-1] = nn.Identity()  # only the reconstruction reads the last branches

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        return self.network.fuse_in_windows(ir, vi)


def _run(layers: Iterable[nn.Module], x: Tensor, edges: Edges) -> Tensor:
    for layer in layers:
        x = layer(x, edges)
    return x


def _joined(maps: list[Tensor], edges: Edges) -> Tensor:
    """Maps side by side in the channels; those of fewer layers reach further, and are cut."""
    if len(maps) == 1:
        return maps[0]
    height, width = (min(x.shape[axis] for x in maps) for axis in (2, 3))
    return torch.cat([trim(x, height, width, edges) for x in maps], 1)


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
