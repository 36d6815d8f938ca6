"""``--align`` of ``fusionzoo fuse``: aligned fusion, and what cuts its results."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from fusionzoo.cli import UsageError

__all__ = ["add_align_options", "aligning", "check_align_options"]


def add_align_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--align``, ``--crop``, ``--force`` and ``--track``."""
    group = parser.add_argument_group("alignment")
    group.add_argument(
        "--align",
        metavar="RIG.json",
        nargs="?",
        const=True,
        help="align the infrared to the visible image. RIG.json is a file that fusionzoo align "
        "wrote; without it each pair is aligned by itself, and a video by its first frames",
    )
    group.add_argument(
        "--crop", action="store_true", help="with --align: cut results to what both images show"
    )
    group.add_argument(
        "--force",
        action="store_true",
        help="with --align: fuse even if confidence is low; volumes: even if their files name "
        "different spaces",
    )
    group.add_argument(
        "--track",
        action="store_true",
        help="with --align, of videos: follow cameras that move slowly against each other",
    )


def check_align_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: naming them.
    """
    for name in ("crop", "force", "track"):
        if args.align is None and getattr(args, name):
            raise UsageError(f"--{name} goes with --align; add it")
    if args.align is not None and args.resize is not None:
        raise UsageError("--align brings IR to the size of VI; drop --resize")


def aligning(args: argparse.Namespace, fuse: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that aligns, fuses and, with ``--crop``, cuts; or ``fuse`` as it is.

    Raises:
        UsageError: options that do not go together.
        MissingFileError, FileError, InputError: the file is no alignment.
    """
    check_align_options(args)
    if args.track:
        raise UsageError(f"--track is for videos, and {args.ir} is not one; leave it out")
    if args.align is None:
        return fuse
    from fusionzoo.alignment import Alignment, align, registration

    rig = None if args.align is True else Alignment.load(args.align)
    register = None if rig is None else registration(rig)

    def fused(ir: Any, vi: Any) -> Any:
        if rig is not None:
            image = fuse(ir, vi, register=register)
            return rig.crop(image) if args.crop else image
        found = align(ir, vi, force=args.force)
        image = fuse(ir, vi, register=registration(found))
        return found.crop(image) if args.crop else image

    def fused_all(ir: Any, vi: Any) -> Any:
        if isinstance(ir, list) and isinstance(vi, list):
            return [fused(one, other) for one, other in zip(ir, vi, strict=True)]
        return fused(ir, vi)

    return fused_all
