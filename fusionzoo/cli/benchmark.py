"""``fusionzoo benchmark``: published weights on the test sets, and the tables made of it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusionzoo.cli import FAILED, UsageError
from fusionzoo.cli.options import chosen_device

if TYPE_CHECKING:
    from fusionzoo.results import Config

DATA_VARIABLE = "FUSIONZOO_TEST_DATA"
_CONFIG = Path("checkpoints") / "benchmark.yaml"

_EPILOG = """\
results.csv is written beside the benchmark file. Tables between markers are made of it and of the
table of weights, in the README.md above the folder of the benchmark file, in the one beside it, and
in the cards below it; so is the YAML header of each card.

Exit status: 0 done, or nothing stale; 1 something failed, or is stale; 2 wrong usage.
"""


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo benchmark --help``."""
    args = _parser().parse_args(arguments)
    if not args.config.is_file():
        raise UsageError(f"--config {args.config}: no such file; run this in a checkout")
    from fusionzoo.results import read_config, stale_documents, write_card, write_documents

    config = read_config(args.config)
    if args.new_card is not None:
        write_card(config, args.new_card)
    if args.check:
        from fusionzoo.benchmark.run import stale_figures

        tables = "tables or header are stale; run fusionzoo benchmark --tables-only"
        stale = [*stale_figures(config), *(f"{path}: {tables}" for path in stale_documents(config))]
        for line in stale:
            print(line)
        return FAILED if stale else 0
    if not args.tables_only and args.new_card is None:
        _run(args, config)
        print(f"wrote {config.results}")
    for path in write_documents(config):
        print(f"wrote {path}")
    return 0


def _run(args: argparse.Namespace, config: Config) -> None:
    if args.data is None:
        raise UsageError(f"give --data DIR, the folder of the test sets, or set {DATA_VARIABLE}")
    unknown = [name for name in args.sets or () if name not in config.sets]
    if unknown:
        raise UsageError(f"--sets {unknown[0]}: there are {', '.join(config.sets)}")
    device = chosen_device(args.device)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    from fusionzoo.benchmark.run import run_benchmark

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def progress(label: str, done: int, total: int) -> None:
            if label not in tasks:
                for task in tasks.values():
                    bar.remove_task(task)
                tasks.clear()
                tasks[label] = bar.add_task(label)
            bar.update(tasks[label], completed=done, total=total)

        run_benchmark(
            config,
            args.data,
            only=args.only,
            sets=args.sets,
            stale=args.stale,
            device=str(device),
            progress=progress,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusionzoo benchmark",
        description="Measure the published weights and write the results tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=_CONFIG, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get(DATA_VARIABLE) or None,
        metavar="DIR",
        help=f"folder of the test sets (default: {DATA_VARIABLE})",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=["*"],
        metavar="MODEL",
        help="run only these, with wildcards; MODEL/TABLE for one table of a model",
    )
    parser.add_argument("--sets", nargs="+", metavar="SET", help="run only on these test sets")
    parser.add_argument(
        "--stale", action="store_true", help="of these, run only what --check finds stale"
    )
    parser.add_argument(
        "--device", default="cpu", help="default: cpu, which repeats to the last digit"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--tables-only", action="store_true", help="run nothing; make tables and headers anew"
    )
    what.add_argument(
        "--check",
        action="store_true",
        help="write nothing; tell which figures and tables are stale",
    )
    what.add_argument(
        "--new-card",
        metavar="WEIGHTS",
        help="run nothing; write the first text of a card, and make tables and headers anew",
    )
    return parser
