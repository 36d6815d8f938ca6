"""Where VGG-19's ImageNet weights come from: a local file, or timm."""

from __future__ import annotations

from pathlib import Path

from fusionzoo.errors import ResultError
from fusionzoo.weights import read_safetensors

from .vgg import VGGFeatures


def fill_vgg(vgg: VGGFeatures, path: str | Path | None = None) -> None:
    """Give a VGG its trained weights.

    Args:
        path: a safetensors file with ``features.N.weight`` and ``features.N.bias``, as timm and
            torchvision name VGG-19's layers; by default timm's ``vgg19`` is asked, which comes
            from its cache or the network.

    Raises:
        MissingFileError: no such file.
        InputError: not a whole safetensors file, or not VGG-19's layers.
        ResultError: timm is not installed or cannot get the weights; says what else to do.
    """
    if path is not None:
        vgg.take(read_safetensors(path)[0], source=path)
        return
    remedy = (
        "give model.vgg_weights a safetensors file with VGG-19's features.N.weight and .bias, "
        "or start from trained weights (--weights coconet)"
    )
    try:
        import timm
    except ImportError as error:
        raise ResultError(
            "CoCoNet trains on ImageNet's VGG-19, and timm, which fetches it, cannot be imported "
            f"({error}): pip install 'fusionzoo[timm]', or {remedy}"
        ) from error
    try:
        state = timm.create_model("vgg19", pretrained=True).state_dict()
    except Exception as error:  # hub, network and cache errors are of many kinds
        raise ResultError(f"timm could not get vgg19 ({error}); {remedy}") from error
    vgg.take(state, source="timm's vgg19")
