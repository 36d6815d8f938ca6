"""Public datasets of image pairs: where they come from and how their folders look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusionzoo.errors import check_choice

_NO_LICENCE = "no licence published; see home page"


@dataclass(frozen=True)
class DatasetLayout:
    """Facts about one dataset; its images are no part of this package.

    Attributes:
        name: for ``FusionDataModule(layout=name)``.
        title: what it is called and what it holds.
        home: where it is published.
        licence: the terms in short. Read the publisher's own text before use.
        ir_dir: folder below a root with the infrared images, or what takes their place.
        vi_dir: folder with the visible images, or what takes their place.
        folders: how the published folders look, and what to give as root.
        registered: the publisher's pairs show the same scene pixel by pixel.
        notes: what else to know before training.
        color_from: the image, "ir" or "vi", whose colour a fused image takes.
        mask: the kind of target mask that suits it, see :func:`fusionzoo.data.target_mask`.
    """

    name: str
    title: str
    home: str
    licence: str
    ir_dir: str
    vi_dir: str
    folders: str
    registered: bool
    notes: str = ""
    color_from: Literal["ir", "vi"] = "vi"
    mask: str = "saliency"


def _harvard(kind: str, title: str, notes: str) -> DatasetLayout:
    return DatasetLayout(
        name=f"harvard_{kind}",
        title=f"Harvard Whole Brain Atlas, {title}",
        home="https://www.med.harvard.edu/AANLIB/home.html",
        licence=_NO_LICENCE,
        ir_dir=kind,
        vi_dir="mri",
        folders=f"web pages of single slices; save them as root/{kind}/NAME.png, root/mri/NAME.png",
        registered=True,
        notes=notes,
        color_from="ir",
        mask="foreground",
    )


_ALL = (
    DatasetLayout(
        name="tno",
        title="TNO Image Fusion Dataset, military scenes at night in several bands",
        home="https://figshare.com/articles/dataset/TNO_Image_Fusion_Dataset/1008029",
        licence="stated on the figshare page; see home page",
        ir_dir="ir",
        vi_dir="vi",
        folders=(
            "one folder for each scene or sequence, the band in the file names; "
            "sort the pairs wanted into root/ir and root/vi under equal names"
        ),
        registered=True,
        notes="Grey. Papers use subsets of 20 to 42 pairs: name the files of yours.",
    ),
    DatasetLayout(
        name="roadscene",
        title="RoadScene, 221 pairs cut from FLIR's driving videos",
        home="https://github.com/hanna-xu/RoadScene",
        licence=_NO_LICENCE,
        ir_dir="cropinfrared",
        vi_dir="crop_LR_visible",
        folders="root is the repository: cropinfrared/NAME.jpg and crop_LR_visible/NAME.jpg",
        registered=True,
        notes="Colour visible images, many sizes, no official split; derived from FLIR's data.",
    ),
    DatasetLayout(
        name="msrs",
        title="MSRS, multi-spectral road scenarios by day and night, 1083 + 361 pairs of 640x480",
        home="https://github.com/Linfeng-Tang/MSRS",
        licence=_NO_LICENCE,
        ir_dir="ir",
        vi_dir="vi",
        folders="train/ir, train/vi, test/ir, test/vi; root is MSRS/train, test_root is MSRS/test",
        registered=True,
        notes="Made from MFNet, infrared contrast enhanced. Names end in D (day) or N (night).",
    ),
    DatasetLayout(
        name="m3fd",
        title="M3FD of TarDAL, 300 pairs for fusion and 4200 for detection",
        home="https://github.com/JinyuanLiu-CV/TarDAL",
        licence=_NO_LICENCE,
        ir_dir="Ir",
        vi_dir="Vis",
        folders="root is M3FD_Fusion or M3FD_Detection: Ir/NAME.png and Vis/NAME.png",
        registered=True,
        notes="Up to 1024x768; copies of it may name the second folder Vi or vi: give vi_dir then.",
    ),
    DatasetLayout(
        name="llvip",
        title="LLVIP, street scenes at night, 15488 pairs of 1280x1024",
        home="https://bupt-ai-cz.github.io/LLVIP/",
        licence="non-commercial use only, under the publisher's terms of use",
        ir_dir="infrared/{split}",
        vi_dir="visible/{split}",
        folders=(
            "infrared/train, infrared/test, visible/train, visible/test; root is LLVIP for "
            "training and the same folder serves as val_root, test_root or predict_root"
        ),
        registered=True,
        notes="Consecutive frames are alike. The whole train part does not fit a usual cache.",
    ),
    DatasetLayout(
        name="flir",
        title="Teledyne FLIR ADAS, thermal and colour frames of driving scenes",
        home="https://www.flir.com/oem/adas/adas-dataset-form/",
        licence="FLIR's own terms, to be accepted on the home page",
        ir_dir="ir",
        vi_dir="vi",
        folders=(
            "version 2: images_thermal_train/data and images_rgb_train/data with names of their "
            "own; register the pairs, then sort them into root/ir and root/vi under equal names"
        ),
        registered=False,
        notes="Two cameras of differing view and size. 16-bit thermal frames are read as such.",
    ),
    DatasetLayout(
        name="nir",
        title="EPFL RGB-NIR Scene Dataset, 477 pairs in 9 categories",
        home="https://www.epfl.ch/labs/ivrl/research/downloads/rgb-nir-scene-dataset/",
        licence=_NO_LICENCE,
        ir_dir="nir",
        vi_dir="vi",
        folders=(
            "CATEGORY/0001_nir.tiff beside CATEGORY/0001_rgb.tiff; sort them into "
            "root/nir/CATEGORY/0001.tiff and root/vi/CATEGORY/0001.tiff"
        ),
        registered=True,
        notes="Two exposures with different filters: what moved in between does not match.",
    ),
    _harvard("ct", "CT and MRI", "256x256, grey. Neighbouring slices are alike: split by patient."),
    _harvard(
        "pet",
        "PET and MRI",
        "256x256, PET in pseudo-colour, which the fused image takes over. Split by patient.",
    ),
    _harvard(
        "spect",
        "SPECT and MRI",
        "256x256, SPECT in pseudo-colour, which the fused image takes over. Split by patient.",
    ),
)

LAYOUTS: dict[str, DatasetLayout] = {layout.name: layout for layout in _ALL}


def get_layout(name: str) -> DatasetLayout:
    """The layout of that name.

    Raises:
        InputError: there is none; names the known ones.
    """
    check_choice("layout", name, sorted(LAYOUTS))
    return LAYOUTS[name]


def list_layouts() -> list[DatasetLayout]:
    """All known layouts, sorted by name."""
    return [LAYOUTS[name] for name in sorted(LAYOUTS)]
