"""The formats of exported files: how each is written."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fusionzoo.errors import InputError, did_you_mean
from fusionzoo.export.describing import ExportInfo
from fusionzoo.files import write_whole

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = [
    "FORMATS",
    "INFO_FILE",
    "OPSET",
    "PREFIX",
    "Format",
    "converted",
    "format_of",
    "is_exported",
]

#: The ONNX operator set of the files.
OPSET = 18
#: Begins the names under which ONNX and OpenVINO keep what a file says of itself.
PREFIX = "fusionzoo"
#: The extra file that holds the same in a ``.pt2``.
INFO_FILE = "fusionzoo.json"


class Format(NamedTuple):
    """A kind of exported file.

    Attributes:
        title: what users call it.
        files: endings of its files; the first is the one that is named, the others lie beside it.
        extra: of this package, which brings ``packages``; empty where torch does it all.
        packages: that are imported to write and to run it.
    """

    title: str
    files: tuple[str, ...]
    extra: str
    packages: tuple[str, ...]


#: By ending.
FORMATS = {
    ".onnx": Format("ONNX", (".onnx",), "onnx", ("onnx", "onnxscript", "onnxruntime")),
    ".pt2": Format("torch.export", (".pt2",), "", ()),
    ".xml": Format("OpenVINO", (".xml", ".bin"), "openvino", ("onnx", "onnxscript", "openvino")),
}


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the ending of an exported file."""
    return Path(path).suffix.lower() in FORMATS


def format_of(path: Path) -> Format:
    """The format that a path's ending names.

    Raises:
        InputError: it names none.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        hint = did_you_mean(path.suffix, FORMATS, 1) if path.suffix else ""
        raise InputError(
            f"{path}: the ending tells the format, and has to be one of {', '.join(FORMATS)}"
            f"{'; ' + hint if hint else ''}"
        )
    return found


def check_installed(what: Format, packages: tuple[str, ...]) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        InputError: with the line that installs them.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{what.title} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'fusionzoo[{what.extra}]'"
        )


#: Writes a network, with what it says of itself, to a file.
Writer = Callable[[ExportInfo, Path], None]


def converted(program: ExportedProgram, ending: str) -> Writer:
    """Turn a traced network into the format of an ending; what comes back writes it."""
    if ending == ".pt2":
        return partial(_write_torch, program)
    model = _onnx_model(program)
    if ending == ".onnx":
        return partial(_write_onnx, model)
    import openvino

    return partial(_write_openvino, openvino.convert_model(io.BytesIO(model.SerializeToString())))


def _write_torch(program: ExportedProgram, info: ExportInfo, path: Path) -> None:
    import torch

    content = io.BytesIO()
    torch.export.save(program, content, extra_files={INFO_FILE: json.dumps(info.as_text())})
    write_whole(path, content.getvalue())


def _write_onnx(model: Any, info: ExportInfo, path: Path) -> None:
    del model.metadata_props[:]
    for name, text in info.as_text().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"{PREFIX}.{name}", text
    write_whole(path, model.SerializeToString())


def _write_openvino(model: Any, info: ExportInfo, path: Path) -> None:
    import openvino

    for name, text in info.as_text().items():
        model.set_rt_info(text, [PREFIX, name])
    # Weights in half precision, its default, would cost what the check allows, and more.
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _onnx_model(program: ExportedProgram) -> Any:
    """The network as an ``onnx.ModelProto`` with the inputs ``ir`` and ``vi``, output ``fused``."""
    import torch

    with _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["ir", "vi"],
            output_names=["fused"],
            verbose=False,
        )
    assert exported is not None, "given no file to write, it returns the program"
    model = exported.model_proto
    graph = model.graph
    # Where each layer was written, with paths of this machine: nobody's business.
    for node in (*graph.node, *(node for function in model.functions for node in function.node)):
        del node.metadata_props[:]
        node.doc_string = ""
    # Names of sizes that speak; sizes of what lies between follow.
    del graph.value_info[:]
    for image in (*graph.input, *graph.output):
        dims = image.type.tensor_type.shape.dim
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            if dims[axis].dim_param:
                dims[axis].dim_param = name
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells its makers."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
