"""``fusionzoo list``: the models, from tables alone, so that it answers at once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from fusionzoo import weights, zoo
from fusionzoo.models import MODELS


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo list --help``."""
    args = _parser().parse_args(arguments)
    rows = model_rows(args.filter, args.pretrained)
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        _print_table(rows)
    else:
        print("no such models", file=sys.stderr)
    return 0


def model_rows(filter: str = "*", pretrained: bool = False) -> list[dict[str, Any]]:
    """One row for each published weight file, and one for each model that has none.

    Args:
        filter: names with wildcards.
        pretrained: leave out models without weights.
    """
    table = weights.weights_table()
    names = set(zoo.list_models(filter, pretrained=True))
    if not pretrained:
        with_weights = {key.partition(".")[0] for key in table}
        names.update(name for name in zoo.list_models(filter) if name not in with_weights)
    return [_row(name, table.get(name)) for name in sorted(names)]


def _row(name: str, cfg: weights.WeightsCfg | None) -> dict[str, Any]:
    model = MODELS[name.partition(".")[0]]
    row = {
        "name": name,
        "title": model.title,
        "year": model.year,
        "paper": model.paper,
        "modalities": list(model.modalities_of(name)),
        "weights": "none",
        "parameters": None,
        "bytes": None,
        "weights_licence": None,
        "training_data": None,
    }
    if cfg is not None:
        local = any((folder / cfg.file).is_file() for folder in weights.checkpoint_folders())
        row |= {
            "weights": "local" if local else "hub" if cfg.hub_repo else "missing",
            "parameters": cfg.parameters,
            "bytes": cfg.size,
            "weights_licence": cfg.weights_licence,
            "training_data": cfg.training_data,
        }
    return row


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "weights", "parameters", "size", "licence", "year", "paper"):
        right = heading in ("parameters", "size")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "paper")
    for row in rows:
        table.add_row(
            row["name"],
            row["weights"],
            _count(row["parameters"], 1000, ("", " k", " M", " G")),
            _count(row["bytes"], 1000, (" B", " kB", " MB", " GB")),
            row["weights_licence"] or "-",
            str(row["year"]),
            f"{row['title']}\n{row['paper']}",
        )
    # A pipe has no width: nothing may be broken there for want of space.
    Console(width=None if sys.stdout.isatty() else 240, highlight=False).print(table)


def _count(value: float | None, step: int, units: Sequence[str]) -> str:
    if value is None:
        return "-"
    power = 0
    while value >= step and power < len(units) - 1:
        value, power = value / step, power + 1
    return f"{value:.3g}{units[power]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusionzoo list",
        description="Show models with their parameters, weights and licence.",
        epilog="weights: local, on this machine; hub, to be fetched; missing; or none.",
    )
    parser.add_argument("filter", nargs="?", default="*", help="names, with wildcards: 'co*'")
    parser.add_argument("--pretrained", action="store_true", help="only those with weights")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
