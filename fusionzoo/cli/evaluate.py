"""``fusionzoo evaluate``: metrics of fused folders and of models, side by side."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fusionzoo.cli import FAILED, UsageError
from fusionzoo.cli.console import complain, describe, printable, progress
from fusionzoo.cli.options import chosen_device, model_options
from fusionzoo.cli.parser import Parser
from fusionzoo.cli.videos import evaluate_videos
from fusionzoo.errors import FusionZooError
from fusionzoo.pairing import folder_of
from fusionzoo.remote import as_path
from fusionzoo.video.names import is_video

if TYPE_CHECKING:
    import torch

    from fusionzoo.evaluation import Evaluation, Method
    from fusionzoo.pairing import Pair

_EPILOG = """\
A fused image belongs to the pair whose path below IR and VI is the same up to the ending. Patterns
take the place of folders where files lie side by side: --ir 'all/*_ir.png' --vi 'all/*_vi.png',
with one * for the pair's name. Missing and left-over files, files of another size and files that
cannot be read are listed; everything else is measured. Means are over the pairs that all methods
have.

Folders, patterns and files may be URLs: s3://bucket/folder, gs://..., with fusionzoo[remote].

Models fuse on the fly what a published protocol measures: grey images, rounded to 8 bits.

Videos: --ir, --vi and --fused take video files or numbered images (frames/ir_%05d.png). What is
measured is flicker: how much more the fused frames change than those of the sources.

Several methods: * marks the best, + the second best.

Exit status: 0 all done; 1 something is missing or could not be measured; 2 wrong usage.
"""


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo evaluate --help``."""
    args = _parser().parse_args(arguments)
    if is_video(args.ir) or is_video(args.vi):
        return evaluate_videos(args)
    pairs, problems = _check(args)
    device = chosen_device(args.device)
    methods = _methods(args, device)
    _spare_images(args, pairs, methods)

    from fusionzoo.evaluation import draw, evaluate_pairs, write_report

    total = sum(method.has(pair) for pair in pairs for method in methods)
    with progress("measuring", total) as bar:
        evaluation = evaluate_pairs(
            pairs,
            methods,
            protocol=args.protocol,
            metrics=args.metrics,
            stretch=args.stretch,
            device=device,
            progress=lambda done, total: bar.advance(),
            problems=problems,
        )
    for problem in evaluation.problems:
        print(printable(problem), file=sys.stderr)
    if not evaluation.compared:
        complain("evaluate: no pair was measured for every method")
        return FAILED
    _print_table(evaluation)
    if args.per_image:
        _print_images(evaluation)
    failed = bool(evaluation.problems)
    jobs = [(write_report, path) for path in args.output] + [(draw, path) for path in args.plot]
    for write, path in jobs:
        try:
            write(evaluation, path)
        except FusionZooError as error:  # the other files are not to suffer
            complain(f"evaluate: {error}")
            failed = True
    return FAILED if failed else 0


class _EvaluateParser(Parser):
    def too_many(self, rest: Sequence[str]) -> NoReturn:
        raise UsageError(
            f"{rest[0]}: images follow --ir, --vi and --fused; quote a pattern, as in "
            "'all/*_ir.png', or the shell puts many file names in its place"
        )


def _parser() -> Parser:
    parser = _EvaluateParser(
        prog="fusionzoo evaluate",
        description="Measure fused images by the metrics of a named protocol.",
        epilog=_EPILOG,
    )
    for side, what in (("ir", "infrared"), ("vi", "visible")):
        parser.add_argument(
            f"--{side}", metavar="DIR", required=True, help=f"{what} images: folder or pattern"
        )
    parser.add_argument(
        "--fused",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]DIR",
        help="folders or patterns of fused images; a method is called NAME, or else like its "
        "folder",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]MODEL",
        help="models that fuse on the fly: name, folder written by save_pretrained, or .ckpt",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="set an option of all these models, in place of its stored value; may be given "
        "several times",
    )
    parser.add_argument(
        "--color",
        action="store_true",
        help="let models fuse in colour; the grey image of the result is measured",
    )
    parser.add_argument(
        "--protocol", default="cddfuse", help="definitions of the metrics (default: %(default)s)"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="EN SD, or EN,SD; by default the protocol's usual ones",
    )
    parser.add_argument(
        "--stretch",
        action="store_true",
        help="spread each fused image over 0...255 before measuring it, as some released test "
        "scripts do; the outputs record it",
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        type=as_path,
        metavar="FILE",
        help="write .csv, .json or .md with every image's values, or .tex, a LaTeX table of means; "
        "may be given several times",
    )
    parser.add_argument(
        "--plot",
        action="append",
        default=[],
        type=as_path,
        metavar="FILE",
        help="draw bars and cumulative curves to .png, .svg or .pdf; may be given several times",
    )
    for option, what in (
        ("offset", "videos: how many seconds later than the visible one the infrared one began"),
        ("fps", "videos: frames per second of numbered images (default: 25)"),
    ):
        parser.add_argument(f"--{option}", type=float, metavar="N", help=what)
    parser.add_argument("--per-image", action="store_true", help="show every image's values")
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, mps; by default the GPU if there is one",
    )
    return parser


def _check(args: argparse.Namespace) -> tuple[list[Pair], list[str]]:
    """Find the pairs; refuse what cannot end well before anything is measured.

    Raises:
        UsageError: saying what.
    """
    if not args.fused and not args.model:
        raise UsageError("give --fused DIR or --model NAME: what is to be measured?")
    if args.set and not args.model:
        raise UsageError("--set is for models that fuse on the fly; give --model")
    if args.metrics is not None:
        given = [name for names in args.metrics for name in names.split(",") if name]
        args.metrics = list(dict.fromkeys(given))
        if not given:
            raise UsageError("--metrics names no metric; leave the option out for all of them")
    from fusionzoo.evaluation.measuring import find_sources
    from fusionzoo.evaluation.plots import check_plot
    from fusionzoo.evaluation.reports import check_report
    from fusionzoo.metrics import get_protocol

    try:
        get_protocol(args.protocol).select(args.metrics)
        for path in args.output:
            check_report(path)
        for path in args.plot:
            check_plot(path)
        return find_sources(args.ir, args.vi)
    except (FusionZooError, OSError, ImportError) as error:
        text = str(error) if isinstance(error, ImportError) else describe(error)
        raise UsageError(text) from None


def _spare_images(args: argparse.Namespace, pairs: list[Pair], methods: list[Method]) -> None:
    """Refuse to draw over an image that is to be measured.

    Raises:
        UsageError: naming the file.
    """
    images = {path for pair in pairs for path in (pair.ir, pair.vi)}
    images |= {path for method in methods for path in (method.files or {}).values()}
    real = {os.path.realpath(path) for path in images}
    for path in args.plot:
        if os.path.realpath(path) in real:
            raise UsageError(f"--plot {path} is one of the images to measure; name another file")


def _methods(args: argparse.Namespace, device: torch.device) -> list[Method]:
    from fusionzoo import zoo
    from fusionzoo.evaluation import fused_by, fused_folder

    methods = []
    for given in args.fused:
        name, folder = _named(given)
        try:
            methods.append(fused_folder(name or folder_of(folder).resolve().name, folder))
        except (FusionZooError, OSError) as error:
            raise UsageError(f"--fused {given}: {describe(error)}") from None
    options = model_options(args.set)
    for given in args.model:
        name, source = _named(given)
        model = zoo.load(source, device=device, **options)
        label = name or (Path(source).resolve().name if Path(source).is_dir() else source)
        told = " ".join([source, *sorted(args.set), *(["color"] if args.color else [])])
        methods.append(fused_by(label, model, color=args.color, source=told))
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two methods are called {name}; call one of them by NAME={name}")
    return methods


def _named(given: str) -> tuple[str, str]:
    """``NAME=WHERE`` in its parts; the name is empty where there is none."""
    name, equals, where = given.partition("=")
    named = equals and name and "://" not in name and not Path(given).exists()
    return (name, where) if named else ("", given)


def _print_table(evaluation: Evaluation) -> None:
    from rich.table import Table
    from rich.text import Text

    from fusionzoo.evaluation.reports import arrow, cells, headline

    console = _console()
    console.print(headline(evaluation))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for scores in evaluation.scores:
        table.add_column(Text(printable(scores.name)), justify="right", no_wrap=True)
    for metric, better in evaluation.higher_is_better.items():
        row = cells(evaluation, metric, marks={1: "{} *", 2: "{} +"})
        # Unmarked values keep the room of a mark, so that digits stand below digits.
        wide = [cell if cell[-1] in "*+" else f"{cell}  " for cell in row]
        texts = [Text(cell, style="bold" if cell.endswith("*") else "") for cell in wide]
        table.add_row(metric + arrow(better), *texts)
    console.print(table)


def _print_images(evaluation: Evaluation) -> None:
    from rich.table import Table
    from rich.text import Text

    from fusionzoo.evaluation.numbers import decimals, shown

    for scores in evaluation.scores:
        table = Table(
            title=Text(printable(scores.name)), box=None, pad_edge=False, header_style="bold"
        )
        table.add_column("image", no_wrap=True)
        for metric in evaluation.metrics:
            table.add_column(metric, justify="right", no_wrap=True)
        images = scores.images.values()
        digits = {m: decimals(values[m] for values in images) for m in evaluation.metrics}
        for name, values in scores.images.items():
            table.add_row(
                Text(printable(name)), *(shown(values[m], digits[m]) for m in evaluation.metrics)
            )
        _console().print(table)


def _console() -> Any:
    from rich.console import Console

    # A pipe has no width: nothing may be broken there for want of space.
    return Console(width=None if sys.stdout.isatty() else 400, highlight=False, markup=False)
