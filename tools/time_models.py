"""Time all published weights on one pair, and write checkpoints/speed.csv and the tables.

    python tools/time_models.py            # all weights, 640x480, one thread
    python tools/time_models.py lapnet     # these only

Each model runs in a process of its own (`fusionzoo.speed`), one after the other. Let nothing else
run meanwhile. Speeds of two machines are never put side by side: a file that holds those of another
machine can only be replaced as a whole.

Exit status: 0 done; 1 something failed; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cards
from runs import read_benchmark
from speeds import SPEED_NAME, Speed, read_speeds, speeds_text

from fusionzoo.cli.options import positive
from fusionzoo.errors import FusionZooError, InputError, check_choice
from fusionzoo.files import write_whole
from fusionzoo.speed import measure_fusing
from fusionzoo.weights import fingerprint, weights_table

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
WIDTH, HEIGHT = 640, 480


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see ``python tools/time_models.py --help``."""
    args = _parser().parse_args(arguments)
    try:
        keys = args.keys or sorted(weights_table())
        for key in keys:
            check_choice("KEY", key, sorted(weights_table()))
        time_models(keys, runs=args.runs, threads=args.threads)
    except (FusionZooError, ValueError, OSError) as error:
        print(f"time_models: {error}", file=sys.stderr)
        return 1
    return 0


def time_models(keys: Sequence[str], *, runs: int, threads: int) -> list[Speed]:
    """Time the weights in turn, and write the file and the tables after each.

    Raises:
        InputError: the file holds speeds of another machine that are not replaced.
    """
    others = {k: speed for k, speed in read_speeds(CHECKPOINTS).items() if k not in keys}
    done: list[Speed] = []
    for key in keys:
        speed = timed(key, runs, threads)
        for other in others.values():
            if other.machine != speed.machine:
                raise InputError(
                    f"{CHECKPOINTS / SPEED_NAME}: {other.model} was timed on {other.machine}, and "
                    f"{key} on {speed.machine}; name no KEY to time all weights anew"
                )
        done.append(speed)
        text = speeds_text([*others.values(), *done])
        write_whole(CHECKPOINTS / SPEED_NAME, text.encode())
        print(f"{key:<16} {speed.milliseconds:9.1f} ms  {speed.memory_mb:7.0f} MB", flush=True)
    cards.write_documents(read_benchmark(CHECKPOINTS))
    return done


def timed(key: str, runs: int, threads: int) -> Speed:
    """The speed of one set of weights."""
    found = measure_fusing(key, size=(WIDTH, HEIGHT), runs=runs, threads=threads)
    return Speed(
        model=key,
        weights=fingerprint(CHECKPOINTS / key),
        size=f"{WIDTH}x{HEIGHT}",
        milliseconds=round(found["seconds_median"] * 1000, 1),
        memory_mb=round(found["memory_peak_mb"] or 0),
        runs=runs,
        threads=threads,
        device=found["device_name"],
        torch=found["torch"],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        prog="tools/time_models.py",
    )
    parser.add_argument("keys", nargs="*", metavar="KEY", help="weights to time; all if none")
    parser.add_argument("--runs", type=positive, default=5, help="timed calls of each; %(default)s")
    parser.add_argument("--threads", type=positive, default=1, help="of the CPU; %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
