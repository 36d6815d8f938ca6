"""What a paper's network is to everything else: the contract of its class."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor, nn

from fusionzoo.errors import InputTypeError

__all__ = ["FusionNetwork", "check_network"]


class FusionNetwork(Protocol):
    """An ``nn.Module`` that fuses two images and declares what it needs of them.

    ``network(ir, vi)`` takes images ``(B, 1, H, W)`` in ``value_range`` and returns the fused image
    of the same shape in the same range, in train and eval mode alike.

    Attributes:
        value_range: smallest and largest value of the images that the network takes and gives.
        size_multiple: H and W have to be multiples of this; 1 takes any size.
        min_size: least H and W.
    """

    value_range: ClassVar[tuple[float, float]]
    size_multiple: ClassVar[int]
    min_size: ClassVar[int]

    def __call__(self, ir: Tensor, vi: Tensor) -> Tensor: ...

    def for_inference(self) -> nn.Module:
        """Return an equivalent network for eval mode, e.g. with batch norm folded.

        It is called on a copy, which it may change; a network without anything to gain returns
        itself.
        """
        ...


def check_network(network: object) -> None:
    """Refuse a network whose class does not declare all of :class:`FusionNetwork`.

    Raises:
        InputTypeError: naming the class and what it lacks.
    """
    kind = type(network)
    wanted = ("value_range", "size_multiple", "min_size", "for_inference")
    missing = [name for name in wanted if not hasattr(kind, name)]
    if missing:
        raise InputTypeError(
            f"network {kind.__name__} does not declare {', '.join(missing)}; "
            "fusionzoo.network.FusionNetwork says what these are"
        )
