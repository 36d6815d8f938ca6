"""From a model to an exported file that has been proved, or to none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusionzoo.errors import FileError, InputError, MissingFileError, ResultError
from fusionzoo.export import checking, formats
from fusionzoo.export.describing import ExportInfo, describe
from fusionzoo.export.running import open_exported
from fusionzoo.files import temporary_name

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from fusionzoo.module import FusionModule

__all__ = ["GREATEST_DIFFERENCE", "check_target", "export_model"]

#: A file whose results are further from the network's, for images in [0, 1], is not left behind.
GREATEST_DIFFERENCE = 1e-3


def export_model(
    model: FusionModule,
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    report: Callable[[str], None] | None = None,
) -> ExportInfo:
    """Write a model's network as a file that other runtimes read, and prove it.

        export_model(fusionzoo.load("lapnet"), "lapnet.onnx")

    The file takes ``ir`` and ``vi``, float32 ``(B, 1, H, W)``, and gives ``fused``, in the value
    range and sizes that it states itself (:class:`ExportInfo`). It runs once in a fresh process
    on real pairs of several sizes and batches, none of them what the network was traced with. If a
    result is further than :data:`GREATEST_DIFFERENCE` from the network's, there is no file. An
    older file of that name stays until the new one is proved.

    Args:
        model: the model, as :func:`fusionzoo.load` gives it.
        path: ``.onnx``; ``.pt2`` (``torch.export``); or ``.xml`` (OpenVINO; a ``.bin`` comes
            beside it).
        size: ``(width, height)`` of the only images that the file is to take. By default it
            takes all sizes that the network takes, from 16 pixels a side up.
        report: is told in a few words what is done next.

    Returns:
        What the file says of itself; ``max_difference`` is what was found.

    Raises:
        InputError: another ending, a size that the network does not take, or a runtime that is
            not installed.
        MissingFileError: there is no such folder.
        FileError: the file cannot be written.
        ResultError: the network cannot be exported, or the file does not run, or differs.
    """
    path = Path(path)
    what = check_target(path)
    # After what is quick to tell: this imports torch.
    from fusionzoo.export.tracing import least_side, traced
    from fusionzoo.network import declared_by

    if size is not None:
        _check_size(size, declared_by(model.network))
    report = report or (lambda _: None)
    report("tracing the network")
    program = traced(model.network, size)
    info = describe(model, size, least_side(model.network))

    aside = temporary_name(path)
    file = aside / f"model{path.suffix.lower()}"
    try:
        aside.mkdir()
        report(f"converting to {what.title}")
        write = _converted(program, file, info.name)
        write(info, file)
        report("fusing real pairs by the file, in a fresh process")
        proof = _proved(file, info, model, path)
        info = replace(info, bytes_per_pixel=proof.bytes_per_pixel, max_difference=proof.difference)
        # The same again, with what was found, which changes no number in it.
        write(info, file)
        if open_exported(file).info != info:
            raise ResultError(f"{path} does not hold what was written to it; export it again")
        _move(file, path, what.files)
    except OSError as error:
        raise FileError(
            f"{path} cannot be written ({error.strerror or error}); name a place with room and "
            "the right to write"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return info


def check_target(path: Path) -> formats.Format:
    """Refuse a file that :func:`export_model` could not write, before minutes are spent on it.

    Returns:
        The format of its ending.

    Raises:
        InputError, MissingFileError: as there.
    """
    what = formats.format_of(path)
    formats.check_installed(what, what.packages)
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: there is no folder {path.parent}; make it first")
    for ending in what.files:
        file = path.with_suffix(ending)
        if file.exists() and not file.is_file():
            raise InputError(f"{file} exists and is no regular file; name another one")
    return what


def _proved(file: Path, info: ExportInfo, model: FusionModule, path: Path) -> checking.Proof:
    proof = checking.prove(file, info, model.network)
    difference = proof.difference
    if not difference <= GREATEST_DIFFERENCE:  # nor NaN
        raise ResultError(
            f"{path} is not written: its results differ by {difference:.2g} from the network's, "
            f"and {GREATEST_DIFFERENCE:g} is the most that is allowed; try another format, or "
            "report this with the versions of torch and of the runtime"
        )
    return proof


def _converted(program: ExportedProgram, file: Path, name: str) -> formats.Writer:
    try:
        return formats.converted(program, file.suffix)
    except Exception as error:  # converters have errors of their own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        title = formats.format_of(file).title
        reason = lines[0][:300] if lines else type(error).__name__
        raise ResultError(f"{name} cannot be converted to {title}: {reason}") from error


def _move(file: Path, path: Path, endings: tuple[str, ...]) -> None:
    """Bring a file, and those that belong to it, to its place; the named one comes last."""
    if len(endings) > 1:
        path.unlink(missing_ok=True)  # it would go with the new other one for a moment
    for ending in reversed(endings):
        target = path if ending == endings[0] else path.with_suffix(ending)
        os.replace(file.with_suffix(ending), target)


def _check_size(size: tuple[int, int], declared: dict[str, int]) -> None:
    multiple, least = declared["size_multiple"], declared["min_size"]
    if any(side < least or side % multiple for side in size):
        raise InputError(
            f"size {size[0]}x{size[1]}: this network takes widths and heights of at least {least} "
            f"that are multiples of {multiple}"
        )
