"""``fusionzoo fuse`` for what scanners write: volumes, pseudo-colour, and patients' names."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusionzoo.cli import UsageError
from fusionzoo.cli.console import Bar, in_shell_words, printable, progress
from fusionzoo.cli.outputs import check_replaceable
from fusionzoo.errors import FusionZooError
from fusionzoo.volume_names import AXES, RESULT_ENDINGS, is_volume, result_name

__all__ = [
    "add_scanner_options",
    "are_volumes",
    "fuse_volume_files",
    "refuse_volume_options",
    "with_scanner_options",
]


def add_scanner_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of medical images and volumes."""
    group = parser.add_argument_group("medical images and volumes")
    group.add_argument(
        "--axis",
        type=_axis,
        metavar="|".join(AXES),
        help="along which slices of volumes are fused, or the number of an axis of VI's array "
        "(default: axial)",
    )
    group.add_argument(
        "--colormap",
        metavar="NAME",
        help="show IR in this colormap of matplotlib, such as hot, and keep its colours",
    )
    group.add_argument(
        "--keep-patient",
        action="store_true",
        help="copy patient and study into .dcm files that are written; without it they name nobody",
    )


def are_volumes(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for volumes to be fused."""
    given = [place for place in (args.ir, args.vi) if place is not None]
    return any(map(is_volume, given)) or is_volume(args.output)


def refuse_volume_options(args: argparse.Namespace) -> None:
    """Refuse options of volumes where pictures are fused.

    Raises:
        UsageError: naming the option.
    """
    if args.axis is not None:
        raise UsageError(
            f"--axis is for volumes, and {args.ir} is none by its name; leave it out, or give OUT "
            "as .nii.gz to fuse folders of DICOM slices as volumes"
        )


def with_scanner_options(args: argparse.Namespace, fuse: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that fuses as ``--colormap`` and ``--keep-patient`` say.

    Raises:
        UsageError: no DICOM file is written that could name a patient.
        InputError: there is no such colormap, or a library is missing.
    """
    if args.keep_patient:
        if Path(args.output).suffix.lower() != ".dcm":
            raise UsageError("--keep-patient is for results that are DICOM files; end OUT in .dcm")
        fuse = _keeping_patient(fuse)
    if args.colormap is None or args.no_color:
        return fuse
    return _coloring(args.colormap, args.ir_range, fuse)


def _keeping_patient(fuse: Callable[..., Any]) -> Callable[..., Any]:
    from fusionzoo.readers.table import needed

    needed("pydicom", "dicom", "--keep-patient copies what DICOM files say")
    from fusionzoo.readers.dicom import keeping_patient

    def fused(ir: Any, vi: Any, **options: Any) -> Any:
        result = fuse(ir, vi, **options)
        many = isinstance(result, list)
        return [keeping_patient(one) for one in result] if many else keeping_patient(result)

    return fused


def _coloring(
    name: str, limits: tuple[float, float] | None, fuse: Callable[..., Any]
) -> Callable[..., Any]:
    """Show the first image in a colormap, and take the result's colours from it."""
    from fusionzoo.inference import normalise
    from fusionzoo.inference.colormaps import colors_of, shown_in
    from fusionzoo.readers import Reading, open_image

    colors = colors_of(name)

    def shown(image: Any) -> Any:
        if isinstance(image, Path):
            image = open_image(image)
        unit = normalise(image, limits, name="ir")
        if len(unit) != 1:
            raise UsageError("--colormap is for grey images, and IR is in colour; leave it out")
        picture = shown_in(colors, unit[0].numpy())
        if isinstance(image, Reading):  # its header goes with the result
            return replace(image, values=picture, range=None, unit=None, valid=None)
        return picture

    def fused(ir: Any, vi: Any) -> Any:
        ir = [shown(one) for one in ir] if isinstance(ir, list) else shown(ir)
        return fuse(ir, vi, color_from="ir", ir_range=None)

    return fused


def fuse_volume_files(
    args: argparse.Namespace, load: Callable[[], Callable[..., Any]], ranges: dict[str, Any]
) -> int:
    """Fuse two volumes as the arguments say; returns the exit status.

    Raises:
        UsageError: an option that volumes do not have, or no place for the result.
        FusionZooError: what went wrong.
    """
    if args.vi is None:
        raise UsageError(f"{args.ir} is a volume, and needs a second one; give IR and VI")
    given = {
        "--resize": args.resize, "--align": args.align, "--crop": args.crop, "--raw": args.raw,
        "--keep-patient": args.keep_patient,
    }  # fmt: skip
    for option, value in given.items():
        if value:
            why = "NIfTI names nobody" if option == "--keep-patient" else "their affines place them"
            raise UsageError(f"{option} is not for volumes ({why}); leave it out")
    ir, vi, out = Path(args.ir), Path(args.vi), _result(args)
    from fusionzoo.readers.table import needed

    needed("nibabel", "nifti", "fusing volumes turns them by their affines")
    from fusionzoo.volumes import fuse_volumes

    model, start = load(), time.monotonic()
    bar: Bar | None = None
    with ExitStack() as showing:

        def advance(number: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = showing.enter_context(progress("fusing", total, "slices"))
            bar.advance()

        try:
            fused = fuse_volumes(
                model,
                ir,
                vi,
                axis="axial" if args.axis is None else args.axis,
                colormap=None if args.no_color else args.colormap,
                ir_range=ranges["ir"],
                vi_range=ranges["vi"],
                force=args.force,
                batch_size=args.batch_size,
                progress=advance,
            )
            fused.save(out)
        except FusionZooError as error:
            raise type(error)(in_shell_words(str(error))) from error
    size = " x ".join(map(str, fused.values.shape[:3]))
    passed = time.monotonic() - start
    print(
        printable(
            f"fused {size} voxels to {out} in {passed:.1f} s; IR shows {fused.overlap:.0%} of VI, "
            "the rest is VI alone"
        )
    )
    return 0


def _result(args: argparse.Namespace) -> Path:
    out = Path(args.output)
    for place in (args.ir, args.vi):
        if not Path(place).exists():
            raise UsageError(f"{place} does not exist")
    if out.is_dir():
        out = out / result_name(Path(args.vi))
    elif not out.name.lower().endswith(RESULT_ENDINGS):
        raise UsageError(
            f"-o {out}: a volume is written as .nii or .nii.gz; name such a file, or a folder"
        )
    check_replaceable("-o", out)
    for place in (Path(args.ir), Path(args.vi)):
        if out.exists() and out.samefile(place):
            raise UsageError(f"-o {out} is one of the volumes to fuse; name another file")
    if not out.parent.is_dir():
        raise UsageError(f"-o {out}: there is no folder {out.parent}; make it first")
    return out


def _axis(text: str) -> int | str:
    if text in AXES:
        return text
    if text not in ("0", "1", "2"):
        raise argparse.ArgumentTypeError(f"{text!r}: give {', '.join(AXES)}, 0, 1 or 2")
    return int(text)
