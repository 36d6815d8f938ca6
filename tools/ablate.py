"""Train variants of a model at a small, equal budget, and measure them on the pairs held back.

    python tools/ablate.py KEY --data ROOT [ROOT ...] [--only NAME ...]

``checkpoints/KEY/ablations.yaml`` names the variants: the options of the model that differ from the
training configuration, and the budget that all of them get. Each variant is one ``fusionzoo fit``
with the same seed and the same draws. The pairs that the configuration holds back are fused,
rounded to 8 bits and measured; ``checkpoints/KEY/ablations.csv`` gets a row for each variant, and
its card the table. Variants that the file holds already are left alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import fusionzoo
from fusionzoo.data import FusionDataModule
from fusionzoo.files import write_whole
from fusionzoo.metrics import per_image

ROOT = Path(__file__).resolve().parents[1]
#: Column -> protocol: what the training asks for first, then what it does not.
COLUMNS = {
    "VIF": "cddfuse", "Qabf": "cddfuse", "SSIM": "cddfuse", "SCD": "cddfuse", "SD": "cddfuse",
    "EN": "cddfuse", "MI": "cddfuse", "Qcb": "zoo", "Qcv": "zoo", "CE": "zoo", "Nabf": "zoo",
    "VIFF": "zoo", "MS_SSIM": "zoo",
}  # fmt: skip
BEGIN, END = "<!-- ablations -->", "<!-- end ablations -->"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("key", help="of the weights whose folder has an ablations.yaml")
    parser.add_argument("--data", nargs="+", required=True, help="training roots")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants to run now")
    args = parser.parse_args()
    folder = ROOT / "checkpoints" / args.key
    plan = yaml.safe_load((folder / "ablations.yaml").read_text(encoding="utf-8"))
    rows = read_rows(folder / "ablations.csv")
    for name, options in plan["variants"].items():
        if name in rows or (args.only and name not in args.only):
            continue
        rows[name] = trained_and_measured(plan, options or {}, args.data)
        ordered = {known: rows[known] for known in plan["variants"] if known in rows}
        write_whole(folder / "ablations.csv", rows_text(ordered).encode())
        print(f"{name}: {rows[name]}", flush=True)
    put_table(folder / "README.md", rows)
    put_table(ROOT / "docs" / f"{args.key}.md", rows)


def trained_and_measured(
    plan: Mapping[str, Any], options: Mapping[str, Any], data: Sequence[str]
) -> dict[str, float]:
    """Fit one variant in a process of its own, and measure it on the pairs held back."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "fusionzoo", "fit", "--config", plan["config"]]
        command += ["--data.root", json.dumps(list(data))]
        command += ["--trainer.max_epochs", str(plan["epochs"])]
        command += ["--trainer.default_root_dir", runs, "--trainer.enable_progress_bar", "false"]
        for name, value in options.items():
            command += [f"--model.init_args.{name}", json.dumps(value)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        (run,) = Path(runs).glob("*/pretrained")
        model = fusionzoo.load(run)
        config = yaml.safe_load((run.parent / "config.yaml").read_text(encoding="utf-8"))
    pairs = FusionDataModule(**config["data"])
    pairs.setup("validate")
    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for batch in pairs.val_dataloader():
        fused = (model.predict_step({**batch}, 0)["fused"] * 255).round() / 255
        for protocol in dict.fromkeys(COLUMNS.values()):
            names = tuple(name for name, home in COLUMNS.items() if home == protocol)
            for name, value in per_image(protocol, names, fused, batch["ir"], batch["vi"]).items():
                values[name].append(value.item())
    means = {name: float(torch.tensor(column).mean()) for name, column in values.items()}
    count = sum(parameter.numel() for parameter in model.network.parameters())
    return {"parameters": count, **{name: float(f"{mean:.4g}") for name, mean in means.items()}}


def read_rows(path: Path) -> dict[str, dict[str, float]]:
    """The rows that were measured, by name of the variant."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            row.pop("variant"): {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(stream)
        }


def rows_text(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "parameters", *COLUMNS])
    for name, row in rows.items():
        writer.writerow([name, int(row["parameters"]), *(row[column] for column in COLUMNS)])
    return text.getvalue()


def put_table(document: Path, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Write the rows between the markers of a document, where it has them."""
    text = document.read_text(encoding="utf-8") if document.is_file() else ""
    if BEGIN not in text:
        return
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = ["| variant | parameters | " + " | ".join(COLUMNS) + " |"]
    lines.append("| --- |" + " ---: |" * (len(COLUMNS) + 1))
    for name, row in rows.items():
        cells = [f"{int(row['parameters']):,}", *(f"{row[column]:g}" for column in COLUMNS)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    write_whole(document, f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}".encode())


if __name__ == "__main__":
    main()
