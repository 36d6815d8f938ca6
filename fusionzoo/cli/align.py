"""``fusionzoo align``: how an infrared lies in a visible image, for a pair, a rig, a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusionzoo.cli import FAILED, UsageError
from fusionzoo.cli.console import failure, in_shell_words, printable, progress
from fusionzoo.cli.outputs import check_apart, check_replaceable
from fusionzoo.cli.parser import Parser
from fusionzoo.errors import FusionZooError, InputError, MissingFileError
from fusionzoo.pairing import Pair, Problem, is_pattern, pair_up

if TYPE_CHECKING:
    from fusionzoo.alignment import Alignment

_EPILOG = """\
Two files: their alignment goes to OUT, as JSON, for fusionzoo fuse --align OUT.

Two folders or patterns: the images are of one rig of cameras that do not move against each other.
One alignment is estimated from all pairs together.

--check FOLDER: tells how far each pair of FOLDER/ir and FOLDER/vi is off (the mean shift of the
four corners), and lists the pairs that are off by more than --limit.

--points FILE: takes matching points in place of a search. Each line of FILE is one point: ir_x ir_y
vi_x vi_y, in pixels, counted from the centre of the top left pixel.

Exit status: 0 done, and no bad pair; 1 low confidence, or bad pairs; 2 wrong usage.
"""


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo align --help``."""
    args = _parser().parse_args(arguments)
    if args.check is not None:
        if args.ir is not None or args.output is not None or args.points is not None:
            raise UsageError("--check takes a folder alone; leave IR, VI, -o and --points out")
        return _check(args.check, args.model, args.limit, debug)
    if args.ir is None or args.vi is None or args.output is None:
        raise UsageError("give IR, VI and -o OUT, or --check FOLDER; see fusionzoo align --help")
    for option, path in (("-o", args.output), ("--checkerboard", args.checkerboard)):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}; make it")
    if args.checkerboard is not None:
        _check_picture(args.checkerboard, args.ir, args.vi)
    try:
        found = _found(args)
    except FusionZooError as error:
        raise type(error)(in_shell_words(str(error))) from error
    found.save(args.output)
    print(printable(f"{args.output}: {found}"))
    if args.checkerboard is not None:
        _draw(args, found)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="fusionzoo align",
        description="Find how infrared images lie in visible ones.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "ir", metavar="IR", nargs="?", type=Path, help="infrared image, folder or pattern"
    )
    parser.add_argument(
        "vi", metavar="VI", nargs="?", type=Path, help="visible image, folder or pattern"
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, help="the JSON file to write")
    parser.add_argument(
        "--model",
        choices=("translation", "similarity", "affine", "homography"),
        default="homography",
        help="the largest kind of transform to consider (default: %(default)s)",
    )
    parser.add_argument("--points", metavar="FILE", type=Path, help="matching points, see below")
    parser.add_argument(
        "--force", action="store_true", help="write the alignment even if its confidence is low"
    )
    parser.add_argument(
        "--checkerboard",
        metavar="FILE",
        type=Path,
        help="draw both images as one checkerboard, before and after, to judge by eye (of folders: "
        "the first pair)",
    )
    parser.add_argument(
        "--check", metavar="FOLDER", type=Path, help="check the pairs of a data set"
    )
    parser.add_argument(
        "--limit",
        metavar="PX",
        type=float,
        help="with --check: how far a good pair may be off (default: 1 %% of the longer side)",
    )
    return parser


def _found(args: argparse.Namespace) -> Alignment:
    from fusionzoo.alignment import align, align_rig, fit_points, read_points
    from fusionzoo.inference import read_header

    for path in (args.ir, args.vi):
        if not (is_pattern(path) or path.exists()):
            raise UsageError(f"{path} does not exist")
    single = [not (is_pattern(path) or path.is_dir()) for path in (args.ir, args.vi)]
    if single[0] != single[1]:
        raise UsageError(f"{args.ir} and {args.vi}: give two files, two folders or two patterns")
    pairs = [Pair("", args.ir, args.vi)] if single[0] else _pairs(args.ir, args.vi)
    if args.points is not None:
        headers = [read_header(path) for path in (pairs[0].ir, pairs[0].vi)]
        ir_size, vi_size = ((header.height, header.width) for header in headers)
        points = read_points(args.points)
        return fit_points(*points, ir_size, vi_size, args.model, force=args.force)
    if single[0]:
        return align(args.ir, args.vi, args.model, force=args.force)
    return align_rig([(pair.ir, pair.vi) for pair in pairs], args.model, force=args.force)


def _check_picture(path: Path, *sources: Path) -> None:
    """Refuse a picture that cannot be written, before the search.

    Raises:
        UsageError: saying why.
    """
    from fusionzoo.readers.writing import file_format

    check_replaceable("--checkerboard", path)
    check_apart([path], sources)
    try:
        file_format(path)
    except InputError as error:
        raise UsageError(f"--checkerboard {error}") from None


def _draw(args: argparse.Namespace, found: Alignment) -> None:
    from fusionzoo.alignment import checkerboard
    from fusionzoo.readers.writing import save_image

    ir, vi = args.ir, args.vi
    if is_pattern(ir) or ir.is_dir():
        first = pair_up(ir, vi)[0][0]
        ir, vi = first.ir, first.vi
    save_image(args.checkerboard, checkerboard(ir, vi, found))
    print(printable(f"{args.checkerboard}: before and after"))


def _pairs(ir: Path, vi: Path) -> list[Pair]:
    try:
        pairs, problems = pair_up(ir, vi)
    except (MissingFileError, InputError) as error:
        raise UsageError(str(error)) from None
    _tell(problems)
    if not pairs:
        raise UsageError(f"{ir} and {vi}: no pairs of images")
    return pairs


def _tell(problems: Sequence[Problem]) -> None:
    for problem in problems:
        print(printable(str(problem)), file=sys.stderr)


def _check(folder: Path, model: str, limit: float | None, debug: bool) -> int:
    from fusionzoo.alignment import LEAST_CONFIDENCE, align

    pairs = _pairs(folder / "ir", folder / "vi")
    lines, bad, unsure, failed = [], [], [], 0
    with progress("checking", len(pairs)) as bar:
        for pair in pairs:
            try:
                found = align(pair.ir, pair.vi, model, force=True)
            except Exception as error:  # reported; the other pairs are not to suffer
                failed += 1
                bar.report(in_shell_words(failure(pair.name, error, debug)))
                bar.advance()
                continue
            bar.advance()
            off, most = found.corner_shift, limit or 0.01 * max(found.vi_size)
            verdict = "good"
            if found.confidence < LEAST_CONFIDENCE:
                verdict = "unsure"
                unsure.append(pair.name)
            elif off > most:
                verdict = "bad"
                bad.append(pair.name)
            lines.append(f"{pair.name}\t{off:.1f} px\t{found.confidence:.2f}\t{verdict}")
    for line in ["pair\toff\tconfidence\tverdict", *lines]:
        print(printable(line.replace("\t", "  ")))
    good = len(pairs) - len(bad) - len(unsure) - failed
    print(f"{good} of {len(pairs)} pairs good, {len(bad)} bad, {len(unsure)} unsure")
    if bad:
        print(printable("bad: " + ", ".join(bad)))
    return FAILED if bad or failed else 0
