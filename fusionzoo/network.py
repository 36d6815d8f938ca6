"""What a paper's network is to everything else: its contract, and how it is made ready to fuse."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from fusionzoo.errors import InputTypeError

__all__ = [
    "CompiledNetwork",
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

    A network may also declare what large images need, which go through it tile by tile
    (``docs/large_images.md``):

    - ``bytes_per_pixel``: the most memory that fusing an image takes on the CPU in float32, by the
      image's pixels. Without, it is measured.
    - ``reach``: how many pixels around a pixel of the result the network looks at. Then tiles are
      read with that many pixels around them, and give what the whole image gives. Without, tiles
      overlap and are blended.
    - where something is computed over the whole image, such as a mean: what ``for_inference``
      returns has a method ``fuse_part(ir, vi, over)``, which is called in place of the network
      and asks ``over`` (:class:`fusionzoo.strips.Over`) for it. A method ``finish(fused, over)``,
      if there is one, makes the fused image of what all parts gave.
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

    ``bytes_per_pixel`` and ``reach`` are None where the network does not declare them.
    """
    network = uncompiled(network)
    kind = cast(type[FusionNetwork], type(network))
    return {
        "size_multiple": kind.size_multiple,
        "min_size": kind.min_size,
        "value_range": kind.value_range,
        "bytes_per_pixel": getattr(network, "bytes_per_pixel", None),
        "reach": getattr(network, "reach", None),
    }


def uncompiled(network: nn.Module) -> nn.Module:
    """Return the network that ``torch.compile`` wrapped, or the network itself."""
    return getattr(network, "_orig_mod", network)


class CompiledNetwork:
    """What ``torch.compile`` made of a network, and beside it what fuses parts of large images.

    Args:
        network: the compiled network.
        make_ready: makes an equivalent one ready to fuse; called when parts are to be fused.
    """

    def __init__(self, network: nn.Module, make_ready: Callable[[], nn.Module]) -> None:
        self._network = network
        self._make_ready = make_ready

    def __call__(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Fuse whole images by the compiled network."""
        fused: Tensor = self._network(ir, vi)
        return fused

    @cached_property
    def _ready(self) -> nn.Module:
        return self._make_ready()

    def __getattr__(self, name: str) -> Any:
        """``fuse_part`` and ``finish``, where the network has them."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._ready, name)


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
