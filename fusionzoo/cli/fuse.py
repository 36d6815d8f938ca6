"""``fusionzoo fuse IR VI -o OUT``: two files, or two folders of them."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionzoo.cli import FAILED, UsageError
from fusionzoo.cli.options import add_model_options, chosen_device, model_options, positive

_EPILOG = """\
Two folders: files are a pair if their paths below the two folders are the same up to the ending.
Results go to the same place below OUT, as .png, or as .tif where the visible file is .tif (so that
16-bit and float images keep their depth). Broken pairs and files without partner are reported, and
all others are fused.

Two files: OUT is the file to write, or an existing folder.

Exit status: 0 all done; 1 something could not be fused; 2 wrong usage.
"""


@dataclass(frozen=True)
class Job:
    """One pair and the file that its fused image goes to."""

    name: str
    ir: Path
    vi: Path
    out: Path


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo fuse --help``."""
    args = _parser().parse_args(arguments)
    options = model_options(args.set)
    jobs, problems = _plan(args.ir, args.vi, args.output)
    for problem in problems:
        print(problem, file=sys.stderr)
    todo = [job for job in jobs if args.overwrite or not job.out.exists()]
    failed = _fuse_all(todo, args, options, debug) if todo else 0

    done = len(todo) - failed
    notes = [f"fused {done} of {len(jobs)} pair{'s' * (len(jobs) != 1)} to {args.output}"]
    if len(todo) < len(jobs):
        notes.append(f"skipped {len(jobs) - len(todo)} that exist (--overwrite replaces them)")
    if failed:
        notes.append(f"{failed} failed")
    if problems:
        notes.append(f"{len(problems)} file{'s' * (len(problems) != 1)} could not be paired")
    print("; ".join(notes))
    return FAILED if failed or problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusionzoo fuse",
        description="Fuse an infrared with a visible image, or two folders of them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ir", metavar="IR", type=Path, help="infrared image, or folder")
    parser.add_argument("vi", metavar="VI", type=Path, help="visible image, or folder")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, type=Path)
    add_model_options(parser)
    parser.add_argument(
        "--batch-size", type=positive, default=1, metavar="N", help="pairs of one size at once"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--no-color", action="store_true", help="grey results")
    parser.add_argument(
        "--resize", choices=("ir", "vi"), help="scale that image to the other's size if they differ"
    )
    for side in ("ir", "vi"):
        parser.add_argument(
            f"--{side}-range",
            nargs=2,
            type=float,
            metavar=("LO", "HI"),
            help=f"values of {side.upper()} that become black and white; by default all of 8-bit "
            "images, the 0.5 and 99.5 percentiles of others",
        )
    return parser


def _plan(ir: Path, vi: Path, out: Path) -> tuple[list[Job], list[str]]:
    """What is to be fused, and a line for each file that cannot be paired.

    Raises:
        UsageError: nothing to fuse, or no place for the results.
    """
    for path in (ir, vi):
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    if ir.is_dir() != vi.is_dir():
        raise UsageError(f"{ir} and {vi}: give two files or two folders")
    return _plan_folders(ir, vi, out) if ir.is_dir() else (_plan_files(ir, vi, out), [])


def _plan_files(ir: Path, vi: Path, out: Path) -> list[Job]:
    from fusionzoo.errors import InputError
    from fusionzoo.inference import file_format

    if out.is_dir():
        out = out / _result_name(Path(vi.name))
    else:
        try:
            file_format(out)
        except InputError as error:
            message = f"-o {out}: name a file that ends in .png, .tif or .jpg, or a folder"
            raise UsageError(message) from error
    if any(out.exists() and out.samefile(source) for source in (ir, vi)):
        raise UsageError(f"-o {out} is one of the images to fuse; name another file")
    return [Job(out.stem, ir, vi, out)]


def _plan_folders(ir: Path, vi: Path, out: Path) -> tuple[list[Job], list[str]]:
    from fusionzoo.data.pairs import scan_pairs

    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out} is a file; name a folder for the results")
    if any(_resolved(out) == _resolved(source) for source in (ir, vi)):
        raise UsageError(f"-o {out} is one of the folders to fuse; name another one")

    def is_result(path: Path) -> bool:  # of an earlier call, with OUT inside IR or VI
        return _resolved(path).is_relative_to(_resolved(out))

    pairs, problems = scan_pairs(os.curdir, str(ir), str(vi))
    pairs = [pair for pair in pairs if not (is_result(pair.ir) or is_result(pair.vi))]
    lines = [str(problem) for problem in problems if not is_result(problem.path)]
    if not pairs:
        raise UsageError("\n  ".join([f"{ir} and {vi}: no pairs of images", *lines]))
    jobs = [
        Job(pair.name, pair.ir, pair.vi, out / _result_name(Path(pair.name + pair.vi.suffix)))
        for pair in pairs
    ]
    return jobs, lines


def _result_name(visible: Path) -> Path:
    """The name of a result: lossless, and as deep as the visible file."""
    keeps = visible.suffix.lower() in (".tif", ".tiff")
    return visible if keeps else visible.with_suffix(".png")


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _fuse_all(
    jobs: list[Job], args: argparse.Namespace, options: dict[str, Any], debug: bool
) -> int:
    """Fuse and write; returns how many failed, each of which is reported by a line."""
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    from fusionzoo import zoo

    device = chosen_device(args.device)
    model = zoo.load(args.model, device=device, **options)
    how = {
        "color": not args.no_color,
        "resize": args.resize,
        "ir_range": args.ir_range and tuple(args.ir_range),
        "vi_range": args.vi_range and tuple(args.vi_range),
        "dtype": getattr(torch, args.dtype),
        "batch_size": args.batch_size,
    }
    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    with Progress(
        *columns, console=Console(stderr=True), disable=len(jobs) == 1, transient=True
    ) as bar:
        task = bar.add_task("fusing", total=len(jobs))
        for job, error in _results(jobs, model, how, args.batch_size):
            bar.advance(task)
            if error is not None:
                failed += 1
                # Out of the bar's way, and not wrapped: the line may be searched by a program.
                bar.console.print(
                    _report(job, error, debug), markup=False, highlight=False, soft_wrap=True
                )
    return failed


def _results(
    jobs: list[Job], model: Any, how: dict[str, Any], batch_size: int
) -> Iterator[tuple[Job, Exception | None]]:
    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        images = [None] * len(batch)
        if len(batch) > 1:
            # One pair may be broken, or all together too much for the memory: then one by one.
            with contextlib.suppress(Exception):
                images = model.fuse([job.ir for job in batch], [job.vi for job in batch], **how)
        for job, image in zip(batch, images, strict=True):
            try:
                if image is None:
                    image = model.fuse(job.ir, job.vi, **how)
                _write(job.out, image)
            except Exception as error:  # reported; the other pairs are not to suffer
                yield job, error
            else:
                yield job, None


def _write(path: Path, image: Any) -> None:
    from fusionzoo.inference import save_image

    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, image)


def _report(job: Job, error: Exception, debug: bool) -> str:
    line = f"{job.name}: {error or type(error).__name__}"
    return "".join([*traceback.format_exception(error), line]) if debug else line
