"""``fusionzoo list``: the models, from tables alone, so that it answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusionzoo import weights, zoo
from fusionzoo.cli.parser import Parser
from fusionzoo.errors import InputError, did_you_mean
from fusionzoo.models import MODELS, split_key

_BYTES = (" B", " kB", " MB", " GB")


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command; see ``fusionzoo list --help``."""
    args = _parser().parse_args(arguments)
    rows = model_rows(args.filter, args.pretrained)
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        _print_table(rows)
    if not rows and args.filter != "*":
        known = {*zoo.list_models(), *zoo.list_models(pretrained=False)}
        hint = (
            did_you_mean(args.filter.strip("*"), known) or f"there are {', '.join(sorted(known))}"
        )
        raise InputError(f"no model fits {args.filter!r}; {hint}")
    return 0


def model_rows(filter: str = "*", pretrained: bool = False) -> list[dict[str, Any]]:
    """One row for each published weight file, and one for each model that has none.

    Args:
        filter: names with wildcards.
        pretrained: leave out models without weights.

    Returns:
        Of each: ``weights`` (``local``, ``cached``, ``hub``, ``missing`` or ``none``), the
        ``path`` where they are, their address on the ``hub``, their size in ``bytes``, and what
        else the tables say. No server is asked.
    """
    table = weights.weights_table()
    names = set(zoo.list_models(filter))
    if not pretrained:
        with_weights = {key.partition(".")[0] for key in table}
        names.update(
            name for name in zoo.list_models(filter, pretrained=False) if name not in with_weights
        )
    return [_row(name, table.get(name)) for name in sorted(names)]


def _row(name: str, cfg: weights.WeightsCfg | None) -> dict[str, Any]:
    model = MODELS[split_key(name)[0]]
    row = {
        "name": name,
        "title": model.title,
        "year": model.year,
        "paper": model.paper,
        "modalities": list(model.modalities_of(name)),
        "weights": "none",
        "path": None,
        "hub": None,
        "parameters": None,
        "bytes": None,
        "weights_licence": None,
        "training_data": None,
    }
    if cfg is not None:
        state, path = _whereabouts(cfg)
        row |= {
            "weights": state,
            "path": path and str(path),
            "hub": cfg.hub_repo and str(weights.HubAddress(cfg.hub_repo, cfg.hub_revision)),
            "parameters": cfg.parameters,
            "bytes": cfg.size,
            "weights_licence": cfg.weights_licence,
            "training_data": cfg.training_data,
        }
    return row


def _whereabouts(cfg: weights.WeightsCfg) -> tuple[str, Path | None]:
    """Where weights are; the hub's client is imported only for those that are not local."""
    path = weights.local_file(cfg)
    if path is not None:
        return "local", path
    path = weights.cached_file(cfg)
    if path is not None:
        return "cached", path
    return ("hub" if cfg.hub_repo else "missing"), None


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
            _count(row["bytes"], 1000, _BYTES),
            row["weights_licence"] or "-",
            str(row["year"]),
            f"{row['title']}\n{row['paper']}",
        )
    # A pipe has no width: nothing may be broken there for want of space.
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    console.print(table)
    distant = [row["bytes"] for row in rows if row["weights"] == "hub"]
    if distant:
        size = _count(sum(distant), 1000, _BYTES)
        console.print(f"\n{len(distant)} to be downloaded on first use, {size}")


def _count(value: float | None, step: int, units: Sequence[str]) -> str:
    if value is None:
        return "-"
    power = 0
    while value >= step and power < len(units) - 1:
        value, power = value / step, power + 1
    return f"{value:.3g}{units[power]}"


def _parser() -> Parser:
    parser = Parser(
        prog="fusionzoo list",
        description="Show models with their parameters, weights and licence.",
        epilog="The column weights says where they are: local (in the package, or in\n"
        "FUSIONZOO_HOME), cached (downloaded from the Hugging Face hub before), hub\n"
        "(downloaded on first use), missing, or none.",
    )
    parser.add_argument(
        "filter", nargs="?", default="*", help="names to show; * stands for any characters: 'co*'"
    )
    parser.add_argument(
        "--pretrained", action="store_true", help="show only models that have weights"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
