"""Networks as files that other runtimes read: ONNX, ``torch.export`` and OpenVINO.

:func:`export_model` writes such a file and proves it in a fresh process; :func:`load_exported`
makes of it an object that fuses as ``model.fuse`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusionzoo.export.describing import ExportInfo
from fusionzoo.export.exporter import GREATEST_DIFFERENCE, check_target, export_model
from fusionzoo.export.formats import FORMATS, is_exported
from fusionzoo.export.running import Exported, open_exported
from fusionzoo.lazy import lazily

if TYPE_CHECKING:
    from fusionzoo.export.loaded import ExportedModel, load_exported

__all__ = [
    "FORMATS",
    "GREATEST_DIFFERENCE",
    "ExportInfo",
    "Exported",
    "ExportedModel",
    "check_target",
    "export_model",
    "is_exported",
    "load_exported",
    "open_exported",
]


# These need torch; the process that proves a file goes without.
__getattr__, __dir__ = lazily(
    __name__,
    dict.fromkeys(("ExportedModel", "load_exported"), "fusionzoo.export.loaded"),
)
