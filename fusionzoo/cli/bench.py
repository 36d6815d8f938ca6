"""``fusionzoo bench``: speed and memory of fusing, or of the metrics."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusionzoo.cli import UsageError
from fusionzoo.cli.options import (
    add_model_options,
    add_tile_options,
    chosen_device,
    image_size,
    model_options,
    positive,
)
from fusionzoo.cli.parser import Parser
from fusionzoo.files import write_whole
from fusionzoo.speed import measure_fusing, measure_metrics

#: Measured by ``--metrics`` without names: all there are. Asking for them would load torch.
PROTOCOLS = ("zoo", "cddfuse", "tang", "vifb")


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo bench --help``."""
    args = _parser().parse_args(arguments)
    if args.json not in (None, "-"):
        _check_writable(Path(args.json))
    # Only "auto" needs torch here, and this process is not the one that is measured.
    device = str(chosen_device(args.device)) if args.device != "cpu" else "cpu"
    settings = {
        "size": args.size,
        "runs": args.runs,
        "threads": args.threads,
        "device": device,
        "batch_size": args.batch_size,
    }
    if args.metrics is not None:
        results = [measure_metrics(protocol, **settings) for protocol in args.metrics or PROTOCOLS]
    else:
        settings |= {
            "options": model_options(args.set),
            "untrained": args.untrained,
            "dtype": args.dtype,
            "tile": args.tile,
            "memory": args.memory,
        }
        results = [
            measure_fusing(args.model, **settings, plain=plain)
            for plain in ((True, False) if args.baseline else (False,))
        ]
    text = json.dumps(results if len(results) > 1 else results[0], indent=2)
    if args.json == "-":
        print(text)
        return 0
    if args.json:
        write_whole(args.json, f"{text}\n".encode())
    _print_table(results)
    return 0


def _check_writable(path: Path) -> None:
    """Refuse a place for the JSON before minutes of measuring are spent on it."""
    if path.exists() and not path.is_file():
        raise UsageError(f"--json {path} is no regular file; name another one, or - to print")
    if not path.parent.is_dir():
        raise UsageError(f"--json {path}: there is no folder {path.parent}; make it first")


def _parser() -> Parser:
    parser = Parser(
        prog="fusionzoo bench",
        description="Measure speed and memory of model.fuse, or of metrics, in a fresh process.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--size", type=image_size, default=(640, 480), metavar="WxH", help="default: 640x480"
    )
    parser.add_argument(
        "--runs",
        type=_count,
        default=5,
        metavar="N",
        help="how many calls to time, after a first one that does not count; 0 times the first "
        "alone (default: 5)",
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch's choice)")
    parser.add_argument("--batch-size", type=positive, default=1, metavar="N")
    add_tile_options(parser)
    parser.add_argument(
        "--untrained", action="store_true", help="measure MODEL, a name, with fresh weights"
    )
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="also measure the network as training uses it, without what makes inference faster",
    )
    parser.add_argument(
        "--metrics",
        nargs="*",
        metavar="PROTOCOL",
        help="measure metrics instead of a model: the usual ones of these protocols, by default of "
        f"{', '.join(PROTOCOLS)}",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the results as JSON; - prints them, in place of the table",
    )
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is less than 0")
    return value


def _print_table(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    last = results[-1]
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    what = f"{last['model']}, {last['dtype']}" if "model" in last else "metrics"
    console.print(
        f"{what}, {last['width']} x {last['height']}, batch of {last['batch_size']}, "
        f"{last['device']} ({last['device_name']}), {last['threads']} threads, "
        f"median of {last['runs']}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("s / call", "min", "max", "first", "CPU s", "Mpixel / s"):
        table.add_column(heading, justify="right")
    for heading in ("peak MB", "loaded MB", "extra MB"):
        table.add_column(heading, justify="right")
    if last["cuda_memory_peak_mb"] is not None:
        table.add_column("CUDA peak MB", justify="right")
    for result in results:
        keys = ("median", "min", "max", "first", "processor")
        cells = [result[f"seconds_{key}"] for key in keys]
        memory = [result[f"memory_{key}_mb"] for key in ("peak", "loaded", "extra")]
        if last["cuda_memory_peak_mb"] is not None:
            memory.append(result["cuda_memory_peak_mb"])
        table.add_row(
            result.get("protocol") or ("as trained" if result["plain"] else "fuse"),
            *(f"{cell:.3f}" for cell in cells),
            f"{result['megapixels_per_second']:.2f}",
            *("-" if cell is None else f"{cell:.0f}" for cell in memory),
        )
    console.print(table)
    if len(results) > 1 and "model" in last:
        plain, fused = (result["seconds_median"] for result in results)
        console.print(f"{plain / fused:.2f} times as fast as the network as it is trained")
