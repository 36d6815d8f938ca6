"""``fusionzoo export MODEL -o FILE``: a model as a file that other runtimes read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fusionzoo import export, zoo
from fusionzoo.cli.options import MODEL_HELP, add_set_option, image_size, model_options
from fusionzoo.cli.parser import Parser
from fusionzoo.models import DEFAULT_MODEL


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo export --help``."""
    args = _parser().parse_args(arguments)
    export.check_target(args.output)
    model = zoo.load(args.model, **model_options(args.set))
    info = export.export_model(model, args.output, size=args.size, report=_report)
    sizes = (
        f"images of {args.size[0]}x{args.size[1]}"
        if args.size
        else f"images of any size in multiples of {info.size_multiple}"
    )
    print(
        f"wrote {args.output} ({args.output.stat().st_size / 1e6:.3g} MB): {info.name}, {sizes}; "
        f"greatest difference from the network {info.max_difference:.1e}, for images in 0 ... 1"
    )
    return 0


def _report(step: str) -> None:
    """Tell on a terminal what takes the time: some models need a minute."""
    if sys.stderr.isatty():
        print(f"{step} ...", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(
        prog="fusionzoo export",
        description="Write a model as ONNX (.onnx), for torch.export (.pt2) or OpenVINO (.xml and "
        ".bin).\nThe file is tested before it is kept: it fuses real pairs in a fresh process, and "
        "the results\nhave to agree with those of the network.",
        epilog="fusionzoo.load and --model take the .onnx and .xml; docs/export.md shows how other "
        "programs do.",
    )
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, type=Path, help=".onnx, .pt2 or .xml"
    )
    add_set_option(parser)
    parser.add_argument(
        "--size",
        type=image_size,
        metavar="WxH",
        help="let the file take images of this size only, e.g. 640x480 (default: any size)",
    )
    return parser
