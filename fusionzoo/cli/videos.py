"""``fusionzoo fuse`` and ``fusionzoo evaluate`` for videos."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from fusionzoo.cli import UsageError
from fusionzoo.cli.aligned import check_align_options
from fusionzoo.cli.console import Bar, complain, in_shell_words, printable, progress
from fusionzoo.errors import FusionZooError, InputError

__all__ = ["add_video_options", "evaluate_videos", "fuse_videos", "refuse_video_options"]

# Option: its default, which argparse does not set, so that it can be told whether it was given.
_DEFAULTS: dict[str, Any] = {
    "offset": 0.0,
    "fps": 25.0,
    "range": "follow",
    "codec": None,
    "crf": None,
    "pix_fmt": None,
    "duration": None,
    "live": False,
}


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only videos have."""
    group = parser.add_argument_group("videos")
    group.add_argument(
        "--offset",
        type=float,
        metavar="SECONDS",
        help="how many seconds later than the visible stream the infrared one began (default: 0)",
    )
    group.add_argument(
        "--range",
        choices=("follow", "fixed", "each"),
        help="how to find black and white in grey streams of more than 8 bits: percentiles that "
        "change slowly (follow), that are the same for all frames (fixed), or that each frame has "
        "of its own (each); default: follow",
    )
    group.add_argument("--codec", help="h264, hevc, vp9, av1 or ffv1 (default: by OUT's ending)")
    group.add_argument(
        "--crf", type=int, metavar="N", help="quality; lower is better (default: 18 for h264)"
    )
    group.add_argument(
        "--pix-fmt", metavar="NAME", help="such as yuv444p, yuv420p10le, gray (default: yuv420p)"
    )
    group.add_argument(
        "--fps", type=float, metavar="N", help="frames per second of numbered images (default: 25)"
    )
    group.add_argument(
        "--duration", type=float, metavar="SECONDS", help="stop after so many seconds of video"
    )
    group.add_argument(
        "--live",
        action="store_const",
        const=True,
        help="show the result in a window while it is fused, with or without -o; closing it, q or "
        "Escape ends the stream",
    )


def refuse_video_options(args: argparse.Namespace) -> None:
    """Refuse options of videos where pictures are fused.

    Raises:
        UsageError: naming the option.
    """
    for name in _DEFAULTS:
        if getattr(args, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for videos, and {args.ir} is not one; leave it out")


def fuse_videos(
    args: argparse.Namespace, load: Callable[[], Callable[..., Any]], ranges: dict[str, Any]
) -> int:
    """Fuse two videos as the arguments say; returns the exit status.

    Raises:
        FusionZooError: what went wrong, and what was kept.
        KeyboardInterrupt: after the file is finished, and that is told.
    """
    check_align_options(args)
    if args.crop:
        raise UsageError("--crop is for images; leave it out")
    from fusionzoo.video.pyav import import_av

    import_av()  # where it is missing, that is told before torch and the model are loaded
    from fusionzoo.video import fuse_video

    options = {
        name: default if getattr(args, name) is None else getattr(args, name)
        for name, default in _DEFAULTS.items()
    }
    options["ranges"] = options.pop("range")
    live = options.pop("live")
    frames = 0
    bar: Bar | None = None
    with ExitStack() as shown:
        if live:
            from fusionzoo.video import Window

            title = f"{args.model}: {args.ir} and {args.vi}"
            options["show"] = shown.enter_context(Window(printable(title))).show
        model = load()
        start = time.monotonic()

        def advance(number: int, total: int | None) -> None:
            nonlocal bar, frames
            if bar is None:
                bar = shown.enter_context(progress("fusing", total, "frames"))
            frames = number
            bar.advance()

        try:
            done = fuse_video(
                model,
                args.ir,
                args.vi,
                args.output,
                ir_range=ranges["ir"],
                vi_range=ranges["vi"],
                resize=args.resize,
                align=args.align,
                force=args.force,
                track=args.track,
                color=not args.no_color,
                overwrite=args.overwrite,
                progress=advance,
                **options,
            )
        except FusionZooError as error:
            told = in_shell_words(str(error).replace("allow overwriting", "give --overwrite"))
            raise type(error)(told) from error
        except KeyboardInterrupt:
            if frames and args.output is not None:
                complain(f"the {frames} frames that are fused are in {args.output}")
            raise
    speed = done.frames / max(time.monotonic() - start, 1e-9)
    count = f"{done.frames} frame{'s' * (done.frames != 1)}"
    where = "" if done.path is None else f" to {done.path}"
    print(printable(f"fused {count} ({done.seconds:.2f} s){where}, {speed:.1f} frames/s"))
    return 0


def evaluate_videos(args: argparse.Namespace) -> int:
    """Print the flicker of fused videos; returns the exit status.

    Raises:
        UsageError: an option that videos do not have.
        FusionZooError: a video cannot be read.
    """
    from fusionzoo.video.pyav import import_av

    import_av()
    given = {
        "--model": args.model,
        "--metrics": args.metrics,
        "--output": args.output,
        "--plot": args.plot,
        "--stretch": args.stretch,
        "--per-image": args.per_image,
    }
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} is for images; of videos the flicker is measured. Write the frames to "
                "image files to measure more"
            )
    if not args.fused:
        raise UsageError("give --fused FILE: which video is to be measured?")
    from fusionzoo.video import flicker

    for path in args.fused:
        found = flicker(path, args.ir, args.vi, offset=args.offset or 0.0, fps=args.fps or 25.0)
        if found.frames < 2:
            raise InputError(f"{path}: flicker needs two frames that {args.ir} and {args.vi} have")
        print(
            printable(
                f"{path}: flicker {found.figure:.3f} over {found.frames} frames (change of fused "
                "by the larger change of the sources; 1 is as lively as they are)"
            )
        )
    return 0
