"""Running a chain of 3×3 convolutions over an image, at once or as a stream of row blocks.

A network writes its data flow once, as a function of a *runner*: ``run(layer, x)`` for a
convolution and ``run.join(key, maps)`` for a concatenation. :class:`AtOnce` computes whole images.
:class:`InBlocks` computes the same, a few rows at a time: every layer keeps the last two rows of
its input, which is all that the first row of its next block needs, so that nothing is computed
twice, nothing is approximated, and memory depends on the block instead of on the image.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Pixels of a block, over all images of the batch. On a CPU, a map of 256 float32 channels then has
#: 16 MB, and larger ones are no faster; a GPU needs larger ones to be busy, and has the memory.
BLOCK_PIXELS = {"cpu": 2**14, "cuda": 2**20}


class Conv3(nn.Conv2d):
    """3×3 convolution with zero padding and, unless ``relu`` is off, a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, relu: bool = True, groups: int = 1):
        super().__init__(in_channels, out_channels, 3, padding=1, groups=groups)
        self.relu = relu
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu" if relu else "linear")
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self._activate(super().forward(x))

    def inner_rows(self, x: Tensor) -> Tensor:
        """The output without the first and the last row: all that ``x`` has neighbours for."""
        x = F.conv2d(x, self.weight, self.bias, padding=(0, 1), groups=self.groups)
        return self._activate(x)

    def _activate(self, x: Tensor) -> Tensor:
        return x.relu_() if self.relu else x


class AtOnce:
    """Computes whole images."""

    def __call__(self, layers: Conv3 | nn.Sequential, x: Tensor) -> Tensor:
        return layers(x)

    def join(self, key: Hashable, maps: Iterable[Tensor]) -> Tensor:
        """Concatenate feature maps along the channels; ``key`` tells this place from others."""
        return torch.cat(list(maps), 1)


class InBlocks:
    """Computes an image's rows from top to bottom, block by block.

    What comes out of a layer lags behind what went in by one row, until the last block brings the
    rest; in between, a map may have no rows at all. Set ``last`` before the last block is run.
    An object serves one pass over one image.
    """

    def __init__(self) -> None:
        self.last = False
        self._kept: dict[Hashable, Tensor] = {}

    def __call__(self, layers: Conv3 | nn.Sequential, x: Tensor) -> Tensor:
        for layer in layers if isinstance(layers, nn.Sequential) else (layers,):
            x = self._convolve(layer, x)
        return x

    def _convolve(self, layer: Conv3, x: Tensor) -> Tensor:
        border = x.new_zeros(x.shape[0], x.shape[1], 1, x.shape[3])  # as padding would add
        parts = [self._kept.get(layer, border), x, *([border] if self.last else [])]
        x = torch.cat(parts, 2)
        # A clone: a view would keep the whole block in memory.
        self._kept[layer] = x[:, :, -2:].clone()
        if x.shape[2] < 3:
            return x.new_empty(x.shape[0], layer.out_channels, 0, x.shape[3])
        return layer.inner_rows(x)

    def join(self, key: Hashable, maps: Iterable[Tensor]) -> Tensor:
        """Concatenate along the channels the rows that all maps have; the others wait."""
        maps = list(maps)
        waiting = self._kept.get(key)
        if waiting is not None:
            maps = [torch.cat(pair, 2) for pair in zip(waiting, maps, strict=True)]
        rows = min(x.shape[2] for x in maps)
        self._kept[key] = [x[:, :, rows:].clone() for x in maps]
        return torch.cat([x[:, :, :rows] for x in maps], 1)


def stream(
    flow: Callable[[InBlocks, Tensor], tuple[Tensor, ...]], image: Tensor, rows: int | None = None
) -> tuple[Tensor, ...]:
    """``flow(AtOnce(), image)`` for maps of the image's height, computed in blocks of rows.

    Args:
        flow: takes a runner and ``(B, C, H, W)``, returns maps ``(B, any, H, W)``.
        image: the whole input.
        rows: height of a block; by default what :data:`BLOCK_PIXELS` gives for this width.

    Raises:
        ValueError: ``rows`` is not positive.
    """
    if rows is None:
        batch, _, _, width = image.shape
        pixels = BLOCK_PIXELS.get(image.device.type, BLOCK_PIXELS["cpu"])
        rows = max(1, pixels // (batch * width))
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    run = InBlocks()
    done = list(_blocks(run, flow, image, rows))
    return tuple(torch.cat(parts, 2) for parts in zip(*done, strict=True))


def _blocks(
    run: InBlocks, flow: Callable, image: Tensor, rows: int
) -> Iterator[tuple[Tensor, ...]]:
    height = image.shape[2]
    for top in range(0, height, rows):
        run.last = top + rows >= height
        yield flow(run, image[:, :, top : top + rows])
