"""Train variants of a model at a small, equal budget, and measure them on the pairs held back.

    python tools/ablate.py KEY --data ROOT [ROOT ...] [--only NAME ...]

``checkpoints/KEY/ablations.yaml`` names the variants: the options of the model that differ from the
training configuration, and the budget that all of them get. Each variant is one ``fusionzoo fit``
with the same seed and the same draws. The pairs that the configuration holds back are fused,
rounded to 8 bits and measured. ``checkpoints/KEY/ablations.csv`` gets a row for each variant, and
documents with the marker ``<!-- table: ablations KEY -->`` the table. Variants that the file holds
already are left alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cards import write_documents
from measure import remembering
from runs import read_benchmark
from variants import MEASURED, ROWS_NAME, read_plan, read_rows, rows_text

import fusionzoo
from fusionzoo.data import FusionDataModule
from fusionzoo.errors import ResultError
from fusionzoo.evaluation import evaluate_pairs, fused_by
from fusionzoo.files import write_whole

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None, checkpoints: Path = ROOT / "checkpoints") -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("key", help="of the weights whose folder has an ablations.yaml")
    parser.add_argument("--data", nargs="+", required=True, metavar="ROOT", help="training roots")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants to run now")
    args = parser.parse_args(arguments)
    folder = checkpoints / args.key
    plan, rows = read_plan(folder), read_rows(folder)
    for name, options in plan["variants"].items():
        if name in rows or (args.only and name not in args.only):
            continue
        rows[name] = trained_and_measured(plan, options or {}, args.data)
        ordered = {known: rows[known] for known in plan["variants"] if known in rows}
        write_whole(folder / ROWS_NAME, rows_text(ordered).encode())
        print(f"{name}: {rows[name]}", flush=True)
    write_documents(read_benchmark(checkpoints))


def trained_and_measured(
    plan: Mapping[str, Any], options: Mapping[str, Any], data: Sequence[str]
) -> dict[str, float]:
    """Fit one variant in a process of its own, and measure it on the pairs held back.

    Raises:
        ResultError: training failed, or an image could not be measured.
    """
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "fusionzoo", "fit", "--config", plan["config"]]
        command += ["--data.root", json.dumps(list(data))]
        command += ["--trainer.max_epochs", str(plan["epochs"])]
        command += ["--trainer.default_root_dir", runs, "--trainer.enable_progress_bar", "false"]
        for kind, values in (("model.init_args", options), ("data", plan.get("data", {}))):
            for name, value in values.items():
                command += [f"--{kind}.{name}", json.dumps(value)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ResultError(f"{' '.join(command)}\n{done.stderr}")
        (run,) = Path(runs).glob("*/pretrained")
        model = fusionzoo.load(run)
        config = yaml.safe_load((run.parent / "config.yaml").read_text(encoding="utf-8"))
    module = FusionDataModule(**config["data"])
    module.setup("validate")
    pairs = module.datasets["val"].pairs
    method = remembering(fused_by("variant", model))
    values = {"parameters": float(sum(p.numel() for p in model.network.parameters()))}
    for protocol, names in MEASURED.items():
        evaluation = evaluate_pairs(pairs, [method], protocol=protocol, metrics=names)
        if evaluation.problems:
            raise ResultError("\n".join(evaluation.problems))
        for name in names:
            values[name] = float(f"{evaluation.mean('variant', name):.4g}")
    return values


if __name__ == "__main__":
    main()
