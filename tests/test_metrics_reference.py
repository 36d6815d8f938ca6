"""Values that the authors of the protocols' codes published or that their codes give."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusionzoo.metrics import get_protocol, list_metrics, list_protocols, per_image
from fusionzoo.metrics.artefacts import main

HERE = Path(__file__).parent / "reference"
TABLE = json.loads((HERE / "metrics.json").read_text(encoding="utf-8"))

# Relative; the stored values of vifb have five digits, those of crops twelve.
TOLERANCE = {"cddfuse": 1e-4, "tang": 1e-4, "vifb": 1e-4}
CROP_TOLERANCE = 1e-5


def found_images() -> dict[str, Path]:
    """Published images that are on this machine, by their name in the table; told by content."""
    data = os.environ.get("FUSIONZOO_TEST_DATA")
    folder = os.environ.get("FUSIONZOO_REFERENCE") or (data and Path(data).parent / "reference")
    if not folder:
        return {}
    names = {(one["bytes"], one["sha256"]): name for name, one in TABLE["images"].items()}
    sizes = {size for size, _ in names}
    found = {}
    for path in Path(folder).rglob("*.*"):
        if path.is_file() and (size := path.stat().st_size) in sizes:
            name = names.get((size, hashlib.sha256(path.read_bytes()).hexdigest()))
            if name:
                found[name] = path
    return found


IMAGES = found_images()
needs_images = pytest.mark.skipif(
    not IMAGES, reason="FUSIONZOO_REFERENCE is not set: see tests/reference/README.md"
)


def read(path: Path) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path)))
    return pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[None]


def name_of(sample):
    return f"{sample['protocol']}-{sample['fused']}"


def compare(sample, paths, tolerance):
    wanted = sample["values"]
    found = per_image(sample["protocol"], list(wanted), *map(read, paths))
    for name, value in wanted.items():
        assert found[name].item() == pytest.approx(value, rel=tolerance), name


@pytest.mark.parametrize("sample", TABLE["crops"], ids=name_of)
def test_values_of_the_authors_programs(sample):
    paths = [HERE / sample[role] for role in ("fused", "ir", "vi")]
    compare(sample, paths, CROP_TOLERANCE)


@needs_images
@pytest.mark.parametrize("sample", TABLE["published"], ids=name_of)
def test_published_values(sample):
    paths = [IMAGES[sample[role]] for role in ("fused", "ir", "vi")]
    compare(sample, paths, TOLERANCE[sample["protocol"]])


def test_the_table_says_where_every_published_image_is():
    named = {sample[role] for sample in TABLE["published"] for role in ("fused", "ir", "vi")}
    assert named == TABLE["images"].keys()
    for image in TABLE["images"].values():
        repository, _, path = image["origin"].partition(": ")
        assert repository in ("Linfeng-Tang/Image-Fusion", "xingchenzhang/VIFB")
        assert path


def test_crops_have_every_verified_metric_but_those_that_are_named():
    # SMFNet's figure has no program of its own; Octave rounds ties of gradients in its own way.
    left_out = {"cddfuse": {"AG_gradient_magnitude"}, "tang": {"Qabf"}, "vifb": set()}
    for protocol, names in left_out.items():
        entries = get_protocol(protocol).metrics
        for sample in TABLE["crops"]:
            if sample["protocol"] == protocol:
                verified = {n for n in list_metrics(protocol) if entries[n].verified}
                assert sample["values"].keys() == verified - names


def test_every_verified_metric_has_published_values():
    for protocol in list_protocols():
        if protocol == "zoo":
            continue
        measured = {n for s in TABLE["published"] if s["protocol"] == protocol for n in s["values"]}
        entries = get_protocol(protocol).metrics
        assert {n for n in list_metrics(protocol) if entries[n].verified} == measured


@needs_images
def test_the_table_of_the_docs_is_what_the_command_prints(capsys):
    page = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = page.split("<!-- artefacts: 17_DenseFuse -->\n")[1].split("<!-- end of artefacts -->")[
        0
    ]
    main([str(IMAGES[f"tang/17_{name}.png"]) for name in ("ir", "vi", "DenseFuse")])
    assert capsys.readouterr().out.strip() == shown.strip()
