"""Values that the authors of the protocols' codes published or that their codes give."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusionzoo.metrics import get_protocol, list_metrics, list_protocols, per_image
from fusionzoo.metrics.artefacts import main

DATA = os.environ.get("FUSIONZOO_TEST_DATA")
TABLE = Path(DATA).parent / "reference" / "metrics.json" if DATA else None
SAMPLES = json.loads(TABLE.read_text())["samples"] if TABLE and TABLE.is_file() else []

# Relative; the stored values of vifb have five digits.
TOLERANCE = {"cddfuse": 1e-4, "tang": 1e-4, "vifb": 1e-4}

needs_table = pytest.mark.skipif(
    not SAMPLES, reason="FUSIONZOO_TEST_DATA is not set, or has no ../reference/metrics.json"
)


def read(path: Path) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path)))
    return pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[None]


@needs_table
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: f"{s['protocol']}-{s['fused']}")
def test_published_values(sample):
    images = [read(TABLE.parent / sample[role]) for role in ("fused", "ir", "vi")]
    wanted = sample["values"]
    found = per_image(sample["protocol"], list(wanted), *images)
    for name, value in wanted.items():
        assert found[name].item() == pytest.approx(value, rel=TOLERANCE[sample["protocol"]]), name


@needs_table
def test_every_verified_metric_has_published_values():
    for protocol in list_protocols():
        if protocol == "zoo":
            continue
        measured = {n for s in SAMPLES if s["protocol"] == protocol for n in s["values"]}
        entries = get_protocol(protocol).metrics
        assert {n for n in list_metrics(protocol) if entries[n].verified} == measured


@needs_table
def test_the_table_of_the_docs_is_what_the_command_prints(capsys):
    page = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = page.split("<!-- artefacts: 17_DenseFuse -->\n")[1].split("<!-- end of artefacts -->")[
        0
    ]
    folder = TABLE.parent / "tang"
    main([str(folder / f"17_{name}.png") for name in ("ir", "vi", "DenseFuse")])
    assert capsys.readouterr().out.strip() == shown.strip()
