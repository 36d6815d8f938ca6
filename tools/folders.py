"""Pairs a second of ``fusionzoo fuse`` on two folders, beside those of a plain loop.

    python tools/folders.py shared/data/roadscene/test/ir shared/data/roadscene/test/vi
    python tools/folders.py IR VI --model didfuse --threads 1 --rounds 5

The plain loop reads, fuses and writes pair after pair, by the same functions; the command does the
three at the same time. Both run in processes of their own, by turns; loading does not count. The
network has one thread, unless told otherwise: what the command wins is a second core. Only a quiet
machine tells the truth.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fusionzoo.cli import main as fusionzoo
from fusionzoo.cli.options import positive
from fusionzoo.errors import ResultError
from fusionzoo.pairing import pair_up
from fusionzoo.processes import ask


def together(ir: str, vi: str, model: str) -> float:
    """Pairs a second of the command, as it prints them."""
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()) as told:
        status = fusionzoo(["fuse", ir, vi, "-o", out, "--model", model, "--device", "cpu"])
    found = re.search(r"([\d.e+]+) pairs/s", told.getvalue())
    if status or found is None:
        raise ResultError(f"the command fused too little: {told.getvalue().strip()}")
    return float(found[1])


def in_turn(ir: str, vi: str, model: str) -> float:
    """Pairs a second of the plain loop."""
    from fusionzoo import zoo
    from fusionzoo.inference import save_image

    fuse = zoo.load_network(model)
    pairs, _ = pair_up(Path(ir), Path(vi))
    with tempfile.TemporaryDirectory() as out:
        start = time.monotonic()
        for number, pair in enumerate(pairs):
            save_image(Path(out, f"{number}.png"), fuse(pair.ir, pair.vi))
        return len(pairs) / (time.monotonic() - start)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ir")
    parser.add_argument("vi")
    parser.add_argument("--model", default="lapnet")
    parser.add_argument("--threads", type=positive, default=1, help="of the network")
    parser.add_argument("--rounds", type=positive, default=3, help="the median counts")
    args = parser.parse_args(arguments)
    question = {"ir": args.ir, "vi": args.vi, "model": args.model}
    speeds: dict[str, list[float]] = {"in_turn": [], "together": []}
    for _ in range(args.rounds):
        for function, found in speeds.items():
            found.append(ask("folders", function, question, failure=function, threads=args.threads))
    plain, command = (statistics.median(found) for found in speeds.values())
    print(
        f"{args.model}, {args.threads} thread{'s' * (args.threads > 1)} of the network: "
        f"{plain:.3g} pairs/s one after the other, {command:.3g} by fusionzoo fuse, "
        f"{command / plain:.2f} times as many"
    )


if __name__ == "__main__":
    main()
