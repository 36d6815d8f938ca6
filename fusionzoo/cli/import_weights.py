"""``fusionzoo import-weights didfuse ENCODER DECODER -o FOLDER``: authors' files to our format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fusionzoo import zoo
from fusionzoo.cli.parser import Parser
from fusionzoo.models import MODELS


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo import-weights --help``."""
    args = _parser().parse_args(arguments)
    folder = zoo.import_weights(args.model, *args.files, args.output)
    print(f"wrote {folder}; use it as --model {folder}, or fusionzoo.load({str(folder)!r})")
    return 0


def _parser() -> Parser:
    lines = ["models, their files in order, and where the authors publish them:"]
    for model in MODELS.values():
        if (importer := model.importer) is not None:
            files = " ".join(file.upper() for file in importer.files)
            terms = f"({importer.source}; licence: {importer.licence})"
            lines.append(f"  {model.name} {files}  {terms}")
    parser = Parser(
        prog="fusionzoo import-weights",
        description="Convert weights that a paper's authors released into a model folder.\n"
        "The files are opened safely: nothing but tensors is read from them.",
        epilog="\n".join(lines),
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the authors' files")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        required=True,
        type=Path,
        help="the model folder to write",
    )
    return parser
