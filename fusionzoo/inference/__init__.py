"""From images of any kind to the network's tensors and back: pure functions."""

from fusionzoo.inference.color import rgb_to_ycbcr, to_grey, ycbcr_to_rgb
from fusionzoo.inference.engine import fuse_images
from fusionzoo.inference.geometry import pad_to
from fusionzoo.inference.images import read_image, save_image
from fusionzoo.inference.sources import normalise

__all__ = [
    "fuse_images",
    "normalise",
    "pad_to",
    "read_image",
    "rgb_to_ycbcr",
    "save_image",
    "to_grey",
    "ycbcr_to_rgb",
]
