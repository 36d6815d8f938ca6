"""``fusionzoo masks ROOT…``: files with the targets of training pairs, to see and to correct."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionzoo.cli import FAILED, UsageError
from fusionzoo.cli.console import failure, printable, progress
from fusionzoo.cli.parser import Parser
from fusionzoo.data.layouts import get_layout, list_layouts

if TYPE_CHECKING:
    from fusionzoo.data.pairs import Pair

_EPILOG = """\
Models that train with masks (data.mask) take these files, and make the same masks by themselves
where there are none. So write them to see what is marked, and redraw what is wrong: white is a
target, black is not.

saliency marks what is hot in infrared images; foreground marks tissue in MRI, in the visible
image's place.

Exit status: 0 all done; 1 something could not be made; 2 wrong usage.
"""


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo masks --help``."""
    args = _parser().parse_args(arguments)
    try:
        layout = get_layout(args.layout) if args.layout is not None else None
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    kind = args.kind or (layout.mask if layout else "saliency")
    folders = {
        "ir_dir": args.ir_dir or (layout.ir_dir if layout else "ir"),
        "vi_dir": args.vi_dir or (layout.vi_dir if layout else "vi"),
        "mask_dir": args.mask_dir,
    }
    # Masks are for training.
    folders = {option: folder.replace("{split}", "train") for option, folder in folders.items()}
    for root in args.roots:
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder")
    good = [_one_root(root, folders, kind, args.overwrite, debug) for root in args.roots]
    return 0 if all(good) else FAILED


def _parser() -> Parser:
    parser = Parser(
        prog="fusionzoo masks",
        description="Write ROOT/mask/NAME.png, a mask of targets, for every pair of images.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "roots",
        metavar="ROOT",
        nargs="+",
        type=Path,
        help="folder that holds the folders ir and vi",
    )
    parser.add_argument(
        "--kind",
        choices=("saliency", "foreground"),
        help="what to mark (default: what suits the layout, or else saliency)",
    )
    names = ", ".join(layout.name for layout in list_layouts())
    parser.add_argument("--layout", metavar="NAME", help=f"known dataset: {names}")
    for side, what in (("ir", "infrared"), ("vi", "visible")):
        parser.add_argument(
            f"--{side}-dir", metavar="DIR", help=f"folder of the {what} images below ROOT"
        )
    parser.add_argument(
        "--mask-dir",
        metavar="DIR",
        default="mask",
        help="folder of the masks below ROOT (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace masks that exist, even those drawn by hand",
    )
    return parser


def _one_root(root: Path, folders: dict[str, str], kind: str, overwrite: bool, debug: bool) -> bool:
    """Make the masks of a root and tell of it; returns whether all went well."""
    from fusionzoo.data.pairs import scan_pairs

    pairs, problems = scan_pairs(root, **folders)
    for problem in problems:
        print(printable(str(problem)), file=sys.stderr)
    folder = root / folders["mask_dir"]
    if any(problem.path == folder for problem in problems):  # no place for masks
        return False
    todo = [pair for pair in pairs if overwrite or pair.mask is None]
    failed, empty = _make_all(todo, folder, kind, debug) if todo else (0, 0)

    done = len(todo) - failed
    notes = [f"wrote {done} mask{'s' * (done != 1)} to {folder}"]
    if empty:
        notes.append(f"{empty} of them without targets")
    if len(todo) < len(pairs):
        notes.append(f"kept {len(pairs) - len(todo)} that exist (--overwrite replaces them)")
    if failed:
        notes.append(f"{failed} failed")
    if problems:
        notes.append(f"{len(problems)} problem{'s' * (len(problems) != 1)} with the files")
    print(printable("; ".join(notes)))
    return not (failed or problems)


def _make_all(pairs: list[Pair], folder: Path, kind: str, debug: bool) -> tuple[int, int]:
    """Make and write; returns how many failed, with a line for each, and how many are empty."""
    from fusionzoo.data.decoding import make_mask

    failed = empty = 0
    with progress("making masks", len(pairs)) as bar:
        for pair in pairs:
            bar.advance()
            try:
                mask = make_mask(pair, kind)
                _write(pair, folder, mask)
            except Exception as error:  # reported; the other pairs are not to suffer
                failed += 1
                bar.report(failure(pair.name, error, debug))
            else:
                empty += not mask.any()
    return failed, empty


def _write(pair: Pair, folder: Path, mask: Any) -> None:
    from fusionzoo.inference import save_image

    path = folder / f"{pair.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, mask * 255)
    if pair.mask is not None and not pair.mask.samefile(path):
        pair.mask.unlink()  # of another format: two masks of one name would be an error
