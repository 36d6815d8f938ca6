"""``fusionzoo fuse IR VI -o OUT``: two files, folders, patterns of names, or videos.

What fuses is the network alone: Lightning, the losses and the metrics are not imported.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from fusionzoo.cli import FAILED, UsageError
from fusionzoo.cli.aligned import add_align_options, aligning
from fusionzoo.cli.console import failure, in_shell_words, printable, progress
from fusionzoo.cli.options import (
    add_model_options,
    add_tile_options,
    chosen_device,
    model_options,
    positive,
)
from fusionzoo.cli.outputs import check_apart, check_replaceable, existing, make_folder, resolved
from fusionzoo.cli.parser import Parser, given_path, given_text
from fusionzoo.cli.videos import add_video_options, fuse_videos, refuse_video_options
from fusionzoo.cli.volumes import (
    add_scanner_options,
    are_volumes,
    fuse_volume_files,
    refuse_volume_options,
    with_scanner_options,
)
from fusionzoo.errors import InputError, MissingFileError
from fusionzoo.overlap import ahead
from fusionzoo.pairing import RAW_ENDINGS, Problem, folder_of, is_pattern, pair_up
from fusionzoo.remote import as_path, at_hand
from fusionzoo.video.names import is_video

#: Of those that are told in one line where nothing can be fused.
_SHOWN_PROBLEMS = 3

_EPILOG = """\
Two folders: files are a pair if their paths below the two folders are the same up to the ending.
Results go to the same place below OUT, as .png; or as .tif or .npy where the visible file is one,
so that 16-bit and float images keep their depth. Broken pairs and files without a partner are
reported, and all others are fused. Results that exist are kept, unless --overwrite is given.

Two patterns: a * stands for the pair's name, in quotes: 'all/*_ir.png' 'all/*_vi.png'. All else is
as for two folders.

One radiometric JPEG of a thermal camera, or a folder of them: its temperatures are fused with the
visible photograph in the same file. --ir-range 10 40 is in °C.

Two files: OUT is the file to write, or an existing folder. A file that exists is replaced.

Folders, patterns and files may be URLs: s3://bucket/folder, gs://..., with fusionzoo[remote].

Two videos: .mp4, .mov, .mkv, .avi, ...; numbered images by a pattern such as frames/ir_%05d.png;
cameras, as /dev/video0 or 0; or addresses, as rtsp://... and udp://... OUT is an .mp4, .mov or .avi
(H.264), .mkv (FFV1, without loss) or .webm file. The visible stream gives times, colour and sound;
the nearest infrared frame in time belongs to each of its frames. Ctrl-C finishes the file. With
--live a window shows the result, and -o may be left out.

Two volumes: NIfTI files (.nii, .nii.gz) or folders of DICOM slices, with OUT as .nii or .nii.gz.
IR (PET, SPECT, CT) is brought onto the grid of VI (MRI) by their positions.

Exit status: 0 all done; 1 something could not be fused; 2 wrong usage; 130 interrupted.
"""

# Files of more pixels are not decoded in advance.
_LARGE = 16_000_000


@dataclass(frozen=True)
class Job:
    """One pair and the file that its fused image goes to.

    ``alone``: both are in one file. ``pages``: which images of files that hold several.
    """

    name: str
    ir: Path
    vi: Path
    out: Path
    alone: bool = False
    pages: tuple[int | str | None, int | str | None] = (None, None)


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo fuse --help``."""
    args = _parser(needs_output="--live" not in arguments).parse_args(arguments)
    options = model_options(args.set)
    ranges = {side: _range(args, side) for side in ("ir", "vi")}
    if is_video(args.ir) or (args.vi is not None and is_video(args.vi)):
        if args.vi is None:
            raise UsageError(f"{args.ir} is a video, and needs a second one; give IR and VI")
        return fuse_videos(args, lambda: _fuser(args, options, ranges), ranges)
    refuse_video_options(args)
    if are_volumes(args):
        return fuse_volume_files(args, lambda: _fuser(args, options, ranges), ranges)
    refuse_volume_options(args)
    alone = args.vi is None
    if alone:
        args.vi = args.ir
        args.resize = args.resize or (None if args.align else "ir")
    args.ir, args.vi = as_path(args.ir), as_path(args.vi)
    jobs, problems = _plan(args.ir, args.vi, args.output)
    pages = args.ir_page, args.vi_page
    jobs = [replace(job, alone=alone, pages=pages) for job in jobs]
    for problem in problems:
        print(printable(str(problem)), file=sys.stderr)
    fuse = aligning(args, with_scanner_options(args, _fuser(args, options, ranges)))
    # A single file is replaced, as -o does everywhere; of folders only the rest is done.
    single = _is_single(args.ir)
    kept = set() if single or args.overwrite else existing([job.out for job in jobs], args.output)
    todo = [job for job in jobs if job.out not in kept]
    if args.raw and not any(_is_raw(path) for job in jobs for path in (job.ir, job.vi)):
        raise UsageError(
            f"--raw {args.raw} is for files that end in {', '.join(sorted(RAW_ENDINGS))}, and "
            "there is none; rename the file, or quote a pattern such as 'ir/*.raw'"
        )
    start = time.monotonic()
    failed = _fuse_all(todo, fuse, args, debug)

    done = len(todo) - failed
    passed = time.monotonic() - start
    notes = [f"fused {done} of {len(jobs)} pair{'s' * (len(jobs) != 1)} to {args.output}"]
    if done > 1:
        notes[0] += f", {done / passed:.3g} pairs/s"
    if len(todo) < len(jobs):
        notes.append(f"skipped {len(jobs) - len(todo)} that exist (--overwrite replaces them)")
    if failed:
        notes.append(f"{failed} failed")
    if problems:
        notes.append(f"{len(problems)} problem{'s' * (len(problems) != 1)} with the files")
    print(printable("; ".join(notes)))
    return FAILED if failed or problems else 0


class _FuseParser(Parser):
    def too_many(self, rest: Sequence[str]) -> NoReturn:
        raise UsageError(
            f"{rest[0]}: give two files, two folders or two patterns; quote a pattern, as in "
            "'all/*_ir.png', or the shell puts many file names in its place"
        )


def _parser(needs_output: bool) -> Parser:
    parser = _FuseParser(
        prog="fusionzoo fuse",
        description="Fuse an infrared with a visible image or video, or two folders of images.",
        epilog=_EPILOG,
    )
    # Text, not paths, which would take one / of rtsp:// away.
    for side, what in (("ir", "infrared"), ("vi", "visible")):
        parser.add_argument(
            side,
            metavar=side.upper(),
            type=given_text,
            nargs="?" if side == "vi" else None,
            help=f"{what} image, folder, pattern or video"
            + ("; leave it out if IR also holds the photograph" if side == "vi" else ""),
        )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=needs_output,
        type=given_path,
        help="file or folder to write",
    )
    add_model_options(parser)
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        metavar="N",
        help="how many pairs of equal size to fuse at once (default: 1)",
    )
    add_tile_options(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results that exist in folders, and videos",
    )
    parser.add_argument("--no-color", action="store_true", help="write grey results")
    parser.add_argument(
        "--resize", choices=("ir", "vi"), help="scale that image to the other's size if they differ"
    )
    for side in ("ir", "vi"):
        parser.add_argument(
            f"--{side}-range",
            nargs=2,
            type=float,
            metavar=("LO", "HI"),
            help=f"values of {side.upper()} that become black and white; by default 0 and 255 for "
            "8-bit images, and the 0.5 and 99.5 percentiles for others",
        )
    for side in ("ir", "vi"):
        parser.add_argument(
            f"--{side}-page",
            type=_page,
            metavar="N",
            help=f"if the file {side.upper()} holds several images: which one to take, counted "
            "from 0 (in .npz: its name)",
        )
    parser.add_argument(
        "--raw",
        type=_raw,
        metavar="WxH:TYPE",
        help="how values lie in files of raw values (.raw, .bin, .dat), such as 640x512:uint16; "
        "uint16be is big-endian, and +64 at the end passes over 64 bytes",
    )
    add_align_options(parser)
    add_video_options(parser)
    add_scanner_options(parser)
    return parser


def _page(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _raw(text: str) -> str:
    from fusionzoo.readers.raw import raw_layout

    try:
        raw_layout(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _range(args: argparse.Namespace, side: str) -> tuple[float, float] | None:
    given = getattr(args, f"{side}_range")
    if given is None:
        return None
    from fusionzoo.inference.ranges import LARGEST

    low, high = given
    if not -LARGEST <= low < high <= LARGEST:
        raise UsageError(
            f"--{side}-range {low:g} {high:g}: give two numbers within ±{LARGEST:g}, LO below HI"
        )
    return low, high


def _is_single(ir: Path) -> bool:
    return not (is_pattern(ir) or ir.is_dir())


def _plan(ir: Path, vi: Path, out: Path) -> tuple[list[Job], list[Problem]]:
    """What is to be fused, and what cannot be.

    Raises:
        UsageError: nothing to fuse, or no place for the results.
    """
    for path in (ir, vi):
        if not (is_pattern(path) or path.exists()):
            raise UsageError(f"{path} does not exist")
    if _is_single(ir) != _is_single(vi):
        raise UsageError(f"{ir} and {vi}: give two files, two folders or two patterns")
    return (_plan_files(ir, vi, out), []) if _is_single(ir) else _plan_folders(ir, vi, out)


def _plan_files(ir: Path, vi: Path, out: Path) -> list[Job]:
    from fusionzoo.inference import file_format

    if out.is_dir():
        out = out / _result_name(Path(vi.name))
    else:
        try:
            file_format(out)
        except InputError as error:
            message = f"-o {out}: name a file that ends in .png, .tif or .jpg, or a folder"
            raise UsageError(message) from error
    check_replaceable("-o", out)
    if any(out.exists() and out.samefile(source) for source in (ir, vi)):
        raise UsageError(f"-o {out} is one of the images to fuse; name another file")
    return [Job(out.stem, ir, vi, out)]


def _plan_folders(ir: Path, vi: Path, out: Path) -> tuple[list[Job], list[Problem]]:
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out} is a file; name a folder for the results")
    goal = resolved(out)
    for place in (ir, vi):
        if not is_pattern(place) and goal == resolved(place):
            raise UsageError(f"-o {out} is one of the folders to fuse; name another one")
    try:
        pairs, problems = pair_up(ir, vi)
        # Results of an earlier call are no images to fuse, where OUT lies inside IR or VI.
        homes = [resolved(folder_of(place)) for place in (ir, vi)]
    except (MissingFileError, InputError) as error:
        raise UsageError(str(error)) from None
    inside = any(home in goal.parents for home in homes)

    def is_result(path: Path) -> bool:
        return inside and resolved(path.parent).is_relative_to(goal)

    pairs = [pair for pair in pairs if not (is_result(pair.ir) or is_result(pair.vi))]
    problems = [problem for problem in problems if not is_result(problem.path)]
    if not pairs:
        told = [str(problem) for problem in problems[:_SHOWN_PROBLEMS]]
        more = len(problems) - len(told)
        told += [f"and {more} more problem{'s' * (more > 1)}"] if more else []
        raise UsageError("; ".join([f"{ir} and {vi}: no pairs of images", *told]))
    jobs = [
        Job(pair.name, pair.ir, pair.vi, out / _result_name(Path(pair.name + pair.vi.suffix)))
        for pair in pairs
    ]
    check_apart([job.out for job in jobs], [path for job in jobs for path in (job.ir, job.vi)])
    return jobs, problems


def _result_name(visible: Path) -> Path:
    """The name of a result: lossless, and as deep as the visible file."""
    ending = visible.suffix.lower()
    if ending in (".npy", ".npz", *RAW_ENDINGS):
        return visible.with_suffix(".npy")
    return visible if ending in (".tif", ".tiff") else visible.with_suffix(".png")


def _fuser(
    args: argparse.Namespace, options: dict[str, Any], ranges: dict[str, Any]
) -> Callable[..., Any]:
    """Load the network; returns a function of images, or lists of them, that fuses."""
    import torch

    from fusionzoo import zoo

    fuse = zoo.load_network(
        args.model,
        device=chosen_device(args.device),
        dtype=getattr(torch, args.dtype),
        options=options,
    )
    return partial(
        fuse,
        color=not args.no_color,
        resize=args.resize,
        ir_range=ranges["ir"],
        vi_range=ranges["vi"],
        batch_size=args.batch_size,
        tile=args.tile,
        memory=args.memory,
    )


def _fuse_all(
    jobs: list[Job], fuse: Callable[..., Any], args: argparse.Namespace, debug: bool
) -> int:
    """Fuse and write; returns how many failed, each of which is reported by a line."""
    failed = 0
    for folder in {job.out.parent for job in jobs}:
        make_folder(folder, "-o")
    with progress("fusing", len(jobs), "pairs") as bar:
        for job, error in _results(jobs, fuse, args.batch_size, args.raw):
            bar.advance()
            if error is not None:
                failed += 1
                bar.report(in_shell_words(failure(job.name, error, debug)))
    return failed


def _results(
    jobs: list[Job], fuse: Callable[..., Any], batch_size: int, raw: str | None
) -> Iterator[tuple[Job, Exception | None]]:
    """Fuse and write: one thread decodes, one fuses, and this one writes, all at the same time.

    Three batches of pairs and three of results are in memory at most, and of files of more than
    `_LARGE` pixels a single one.
    """
    from fusionzoo.inference import save_image

    decoded = ahead(_decoded(jobs, batch_size, raw), 1)
    with closing(ahead(_fused(decoded, fuse), 1)) as fused:
        for job, image in fused:
            try:
                if isinstance(image, Exception):
                    raise image
                save_image(job.out, image)
            except Exception as error:  # reported; the other pairs are not to suffer
                yield job, error
            else:
                yield job, None


def _decoded(
    jobs: list[Job], batch_size: int, raw: str | None
) -> Generator[list[tuple[Job, Any, Any]], None, None]:
    """Batches of pairs with their images, or the error that stands in a pair's way twice."""
    for start in range(0, len(jobs), batch_size):
        batch: list[tuple[Job, Any, Any]] = []
        for job in jobs[start : start + batch_size]:
            try:
                batch.append((job, *_images(job, raw)))
            except Exception as error:
                batch.append((job, error, error))
        yield batch


def _is_raw(path: Path) -> bool:
    return path.suffix.lower() in RAW_ENDINGS


def _images(job: Job, raw: str | None) -> tuple[Any, Any]:
    if not job.alone:
        ir, vi = job.pages
        return _image(job.ir, "ir", raw, ir), _image(job.vi, "vi", raw, vi)
    from PIL import Image

    from fusionzoo.readers import Reading, decode

    reading = decode(at_hand(job.ir))
    if not isinstance(reading, Reading) or reading.visible is None:
        raise InputError(
            f"{job.ir} holds no visible photograph beside its image, as a thermal camera's file "
            "may; give two files, IR and VI"
        )
    return reading, Image.fromarray(reading.visible)


def _image(path: Path, name: str, raw: str | None, page: int | str | None) -> Any:
    """The decoded image; of a large one the path, so that it is in memory while it is fused only.

    Raises:
        FusionZooError: it cannot be read.
    """
    from fusionzoo.readers import opening, pictures
    from fusionzoo.readers.raw import read_raw
    from fusionzoo.readers.table import format_of

    file = at_hand(path)
    if raw is not None and _is_raw(path):
        if isinstance(page, str):
            raise InputError(f"--{name}-page {page}: images of raw values have numbers, from 0")
        return read_raw(file, raw, page=page)
    if page is None and format_of(file, name) is None:
        with pictures.opened(file, name) as header:
            if header.width * header.height > _LARGE:
                return file
    return opening.decode(file, name, page=page)


def _fused(
    batches: Generator[list[tuple[Job, Any, Any]], None, None], fuse: Callable[..., Any]
) -> Generator[tuple[Job, Any], None, None]:
    """Each pair's fused image, or its error."""
    with closing(batches):
        for batch in batches:
            images: list[Any] = [None] * len(batch)
            if len(batch) > 1:
                # One pair may be broken, or all too much for the memory: then one by one.
                with contextlib.suppress(Exception):
                    images = fuse([ir for _, ir, _ in batch], [vi for _, _, vi in batch])
            for (job, ir, vi), image in zip(batch, images, strict=True):
                if isinstance(ir, Exception):
                    yield job, ir
                    continue
                try:
                    yield job, fuse(ir, vi) if image is None else image
                except Exception as error:
                    yield job, error
