"""Frozen VGG-19 features of grey images: what CoCoNet's attention and contrastive losses see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionzoo.errors import InputError

#: Output channels of the convolutions of each VGG-19 block; a 2×2 max-pool stands between blocks.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))
#: Relative luminance of R, G, B: how three-channel filters become filters of a grey image.
LUMA = (0.299, 0.587, 0.114)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGGFeatures(nn.Module):
    """VGG-19 (Simonyan and Zisserman) up to the first layer of its last wanted block, frozen.

    A fresh one holds random numbers until :meth:`take` or a state dict brings trained weights;
    the buffer ``trained`` tells which. Input: grey images ``(B, 1, H, W)`` in [-1, 1], brought to
    ImageNet's mean and deviation inside. The first convolution's filters are summed over RGB by
    their luma, so that it takes one channel.

    Args:
        blocks: 1 to 5; 3 ends at relu3_1.
        whole: with all layers of the last block; 3 then ends at relu3_4.
    """

    def __init__(self, blocks: int = 3, whole: bool = False) -> None:
        super().__init__()
        if not 1 <= blocks <= len(BLOCKS):
            raise InputError(f"blocks must be 1 to {len(BLOCKS)}, not {blocks}")
        last = BLOCKS[blocks - 1]
        widths = [*BLOCKS[: blocks - 1], last if whole else last[:1]]
        self.blocks = nn.ModuleList()
        before = 1
        for block in widths:
            convolutions = nn.ModuleList()
            for width in block:
                convolutions.append(nn.Conv2d(before, width, 3, padding=1))
                before = width
            self.blocks.append(convolutions)
        for parameter in self.parameters():
            nn.init.kaiming_normal_(parameter) if parameter.ndim > 1 else nn.init.zeros_(parameter)
        self.requires_grad_(False)
        self.register_buffer("trained", torch.tensor(False))

    def forward(self, image: Tensor) -> list[Tensor]:
        """relu1_1, relu2_1, relu3_1, … as far as ``blocks`` goes: a map a block, halved in size."""
        return [first for first, _ in self._walk(image)]

    def skips(self, image: Tensor) -> list[Tensor]:
        """Maps of 64, 128, 256 channels at 1/2, 1/4, 1/8 of the size: where the U-Net needs them.

        relu1_2 and relu2_2 after their pooling, relu3_1 after one more (three blocks only).
        """
        walked = list(self._walk(image))
        pooled = [pooled for _, pooled in walked[:-1]]
        return [*pooled, F.max_pool2d(walked[-1][0], 2)]

    def _walk(self, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each block's first map and its last one, pooled."""
        mean = sum(weight * value for weight, value in zip(LUMA, _MEAN, strict=True))
        std = sum(weight * value for weight, value in zip(LUMA, _STD, strict=True))
        x = image * (0.5 / std) + (0.5 - mean) / std
        for convolutions in self.blocks:
            first = x = F.relu_(convolutions[0](x))
            for convolution in convolutions[1:]:
                x = F.relu_(convolution(x))
            is_last = convolutions is self.blocks[-1]
            x = x if is_last else F.max_pool2d(x, 2)
            yield first, x

    def take(self, tensors: Mapping[str, Tensor], source: object) -> None:
        """Take trained weights under timm's (torchvision's) names, ``features.0.weight`` and so on.

        Args:
            tensors: may hold more layers than are wanted.
            source: where they come from; named in errors.

        Raises:
            InputError: a layer is missing or has another shape than VGG-19's.
        """
        layer = 0  # timm counts convolutions, activations and pools alike
        layers: list[tuple[nn.Conv2d, Tensor, Tensor]] = []
        for number, convolutions in enumerate(self.blocks):
            for convolution in convolutions:
                keys = [f"features.{layer}.{kind}" for kind in ("weight", "bias")]
                missing = [key for key in keys if key not in tensors]
                if missing:
                    raise InputError(
                        f"{source} has no {missing[0]}: it ends before block {number + 1} of "
                        "VGG-19; use fewer contrast levels or a file with more layers"
                    )
                weight, bias = (tensors[key].float() for key in keys)
                if layer == 0:
                    weight = (weight * weight.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, True)
                if weight.shape != convolution.weight.shape:
                    raise InputError(
                        f"{source}: {keys[0]} is {tuple(tensors[keys[0]].shape)}, which is not "
                        "VGG-19's; give timm's vgg19 weights"
                    )
                layers.append((convolution, weight, bias))
                layer += 2
            layer += 1
        with torch.no_grad():
            for convolution, weight, bias in layers:
                convolution.weight.copy_(weight)
                convolution.bias.copy_(bias)
            self.trained.fill_(True)


class ReleasedVGGFeatures(VGGFeatures):
    """VGG-19 in the released code's skips: other pooling, all layers of block 3, no normalisation.

    The loss's own VGG is the usual one, which :meth:`forward` still gives.
    """

    def __init__(self) -> None:
        super().__init__(3, whole=True)

    def skips(self, image: Tensor) -> list[Tensor]:
        """relu1_2, relu2_2 and relu3_4 at 1/2, 1/4, 1/8 of the size: pooled a layer earlier."""
        (enter, second), *others = self.blocks
        x = F.max_pool2d(F.relu_(enter(image)), 2)
        maps = [F.relu_(second(x))]
        for convolutions in others:
            x = F.max_pool2d(maps[-1], 2)
            for convolution in convolutions:
                x = F.relu_(convolution(x))
            maps.append(x)
        return maps
