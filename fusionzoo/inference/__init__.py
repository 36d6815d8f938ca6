"""From images of any kind to the network's tensors and back: pure functions."""

from fusionzoo.inference.color import rgb_to_ycbcr, to_grey, ycbcr_to_rgb
from fusionzoo.inference.engine import fuse_images
from fusionzoo.inference.geometry import pad_to
from fusionzoo.inference.options import check_options
from fusionzoo.inference.sources import normalise
from fusionzoo.readers.opening import read_header, read_image
from fusionzoo.readers.reading import ImageHeader
from fusionzoo.readers.writing import file_format, save_image

__all__ = [
    "ImageHeader",
    "check_options",
    "file_format",
    "fuse_images",
    "normalise",
    "pad_to",
    "read_header",
    "read_image",
    "rgb_to_ycbcr",
    "save_image",
    "to_grey",
    "ycbcr_to_rgb",
]
