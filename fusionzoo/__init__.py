"""Image fusion models with trained weights, one interface for all of them.

    import fusionzoo

    fused = fusionzoo.fuse("ir.png", "vi.png")

    model = fusionzoo.load("coconet")
    fused = model.fuse("ir.png", "vi.png")

Importing this package is quick: torch, lightning, kornia and timm load with the first model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusionzoo._version import __version__
from fusionzoo.lazy import lazily

if TYPE_CHECKING:
    from fusionzoo.alignment import Alignment, align, align_rig
    from fusionzoo.readers import Reading, open_image
    from fusionzoo.volumes import FusedVolume, fuse_volumes
    from fusionzoo.zoo import create_model, from_pretrained, fuse, list_models, load, push_to_hub

__all__ = [
    "Alignment",
    "FusedVolume",
    "Reading",
    "__version__",
    "align",
    "align_rig",
    "create_model",
    "from_pretrained",
    "fuse",
    "fuse_volumes",
    "list_models",
    "load",
    "open_image",
    "push_to_hub",
]

# Public name -> module that defines it; imported on first use (PEP 562).
_HOMES = {
    "Alignment": "fusionzoo.alignment",
    "FusedVolume": "fusionzoo.volumes",
    "Reading": "fusionzoo.readers",
    "align": "fusionzoo.alignment",
    "align_rig": "fusionzoo.alignment",
    "create_model": "fusionzoo.zoo",
    "from_pretrained": "fusionzoo.zoo",
    "fuse": "fusionzoo.zoo",
    "fuse_volumes": "fusionzoo.volumes",
    "list_models": "fusionzoo.zoo",
    "load": "fusionzoo.zoo",
    "open_image": "fusionzoo.readers",
    "push_to_hub": "fusionzoo.zoo",
}


__getattr__, __dir__ = lazily(__name__, _HOMES)
