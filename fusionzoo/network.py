"""What a paper's network is to everything else: its contract, and how it is made ready to fuse."""

from __future__ import annotations

import copy
import threading
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from fusionzoo.errors import InputTypeError

__all__ = [
    "FusionNetwork",
    "check_network",
    "declared_by",
    "eval_view",
    "ready_copy",
    "uncompiled",
]

_one_at_a_time = threading.Lock()


class FusionNetwork(Protocol):
    """An ``nn.Module`` that fuses two images and declares what it needs of them.

    ``network(ir, vi)`` takes images ``(B, 1, H, W)`` in ``value_range`` and returns the fused image
    of the same shape in the same range, in train and eval mode alike.

    Attributes:
        value_range: smallest and largest value of the images that the network takes and gives.
        size_multiple: H and W have to be multiples of this; 1 takes any size.
        min_size: least H and W.

    A class may also declare ``bytes_per_pixel``: the most memory that fusing an image takes on the
    CPU in float32, by the image's pixels. Images for which the machine has too little are refused.
    """

    value_range: ClassVar[tuple[float, float]]
    size_multiple: ClassVar[int]
    min_size: ClassVar[int]

    def __call__(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse two batches ``(B, 1, H, W)`` to one of that shape, all in ``value_range``."""
        ...

    def for_inference(self) -> nn.Module:
        """Return an equivalent network for eval mode, e.g. with batch norm folded.

        It is called on a copy, which it may change; a network without anything to gain returns
        itself.
        """
        ...


def check_network(network: nn.Module) -> None:
    """Refuse a network whose class does not declare all of :class:`FusionNetwork`.

    Raises:
        InputTypeError: naming the class and what it lacks.
    """
    kind = type(uncompiled(network))
    wanted = ("value_range", "size_multiple", "min_size", "for_inference")
    missing = [name for name in wanted if not hasattr(kind, name)]
    if missing:
        raise InputTypeError(
            f"network {kind.__name__} does not declare {', '.join(missing)}; "
            "fusionzoo.network.FusionNetwork says what these are"
        )


def declared_by(network: nn.Module) -> dict[str, Any]:
    """Return what a network's class declares, as :func:`fusionzoo.inference.fuse_images` takes it.

    ``bytes_per_pixel`` is None where the class does not declare it.
    """
    kind = cast(type[FusionNetwork], type(uncompiled(network)))
    return {
        "size_multiple": kind.size_multiple,
        "min_size": kind.min_size,
        "value_range": kind.value_range,
        "bytes_per_pixel": getattr(kind, "bytes_per_pixel", None),
    }


def uncompiled(network: nn.Module) -> nn.Module:
    """Return the network that ``torch.compile`` wrapped, or the network itself."""
    return getattr(network, "_orig_mod", network)


def eval_view(module: nn.Module) -> nn.Module:
    """Return the same module in eval mode: it shares parameters, and leaves the flags as they are.

    What ``torch.compile`` made of the module stays behind.
    """
    view = copy.copy(module)
    view.__dict__ = dict(module.__dict__)
    view.__dict__["training"] = False
    view.__dict__["_compiled_call_impl"] = None
    view.__dict__["_modules"] = {
        name: None if child is None else eval_view(child) for name, child in module._modules.items()
    }
    return view


def ready_copy(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a network that does nothing but fuse: in eval mode, folded, moved, cast.

    The copy is of the weights and options of this moment. The random state stays as it is.
    """
    # New layers draw first values. Two threads at once would take each other's random state back.
    with _one_at_a_time, torch.no_grad(), torch.random.fork_rng(devices=[]):
        ready = cast(FusionNetwork, copy.deepcopy(eval_view(uncompiled(network)))).for_inference()
        return ready.eval().requires_grad_(False).to(device=device, dtype=dtype)
