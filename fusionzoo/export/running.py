"""Exported files as functions of arrays, by the runtime of each format.

Nothing here needs torch, but for a file of ``torch.export`` itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fusionzoo.errors import FileError, InputError, MissingFileError
from fusionzoo.export.describing import ExportInfo
from fusionzoo.export.formats import INFO_FILE, PREFIX, check_installed, format_of

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Exported", "open_exported"]

#: Takes ``ir`` and ``vi``, float32 ``(B, 1, H, W)`` in the value range; gives one of that shape.
Run = Callable[["np.ndarray", "np.ndarray"], "np.ndarray"]


class Exported(NamedTuple):
    """An exported network, ready to run on the CPU."""

    info: ExportInfo
    run: Run


def open_exported(path: str | os.PathLike[str], threads: int | None = None) -> Exported:
    """Open an exported file by its runtime.

    A file of ``torch.export`` can run code when it is opened: open only what you trust.

    Args:
        path: ``.onnx``, ``.xml`` (with its ``.bin`` beside it) or ``.pt2``.
        threads: of the CPU; by default the runtime's choice (torch's own number for ``.pt2``).

    Raises:
        MissingFileError: the file, or one that belongs to it, does not exist.
        FileError: it cannot be read.
        InputError: it is damaged, or was not exported by this package; or the runtime is not
            installed.
    """
    path = Path(path)
    what = format_of(path)
    for ending in what.files:
        file = path if ending == path.suffix.lower() else path.with_suffix(ending)
        if not file.is_file():
            beside = "" if file == path else f"; it belongs to {path}, keep both together"
            raise MissingFileError(f"{file} does not exist or is no file{beside or '; check it'}")
        try:
            with file.open("rb") as stream:
                stream.read(1)
        except OSError as error:
            raise FileError(
                f"{file} cannot be read ({error.strerror}); check its rights"
            ) from error
    check_installed(what, what.packages[-1:])
    open_file = {".onnx": _open_onnx, ".pt2": _open_torch, ".xml": _open_openvino}
    try:
        texts, run = open_file[what.files[0]](path, threads)
    except Exception as error:  # each runtime has errors of its own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{path} cannot be read as {what.title}; it is damaged or something else: export it "
            f"again ({reason[:200]})"
        ) from error
    return Exported(ExportInfo.from_text(texts, path), run)


def _open_onnx(path: Path, threads: int | None) -> tuple[Mapping[str, str], Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    stored = session.get_modelmeta().custom_metadata_map
    texts = {key.removeprefix(f"{PREFIX}."): value for key, value in stored.items()}

    def run(ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        fused: np.ndarray = session.run(["fused"], {"ir": ir, "vi": vi})[0]
        return fused

    return texts, run


def _open_openvino(path: Path, threads: int | None) -> tuple[Mapping[str, str], Run]:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    names = [field.name for field in fields(ExportInfo) if model.has_rt_info([PREFIX, field.name])]
    texts = {name: str(model.get_rt_info([PREFIX, name]).value) for name in names}
    # Its own choice is half precision where the processor has that.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", settings)

    def run(ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        # A request of its own for every call: threads may share the network.
        fused: np.ndarray = compiled.create_infer_request().infer({"ir": ir, "vi": vi})["fused"]
        return fused

    return texts, run


def _open_torch(path: Path, threads: int | None) -> tuple[Mapping[str, str], Run]:
    import json

    import torch

    extra = {INFO_FILE: ""}
    program = torch.export.load(path, extra_files=extra).module()
    texts = json.loads(extra[INFO_FILE]) if extra[INFO_FILE] else {}

    def run(ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            fused: np.ndarray = program(torch.from_numpy(ir), torch.from_numpy(vi)).numpy()
        return fused

    return texts, run
