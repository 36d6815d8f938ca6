"""Train variants of a model at a small, equal budget, and measure them on the pairs held back.

    python tools/ablate.py KEY --data ROOT [ROOT ...] [--only NAME ...] [-- FIT_ARGUMENT ...]
    python tools/ablate.py KEY --trained NAME=RUN [NAME=RUN ...]

``checkpoints/KEY/ablations.yaml`` names the variants: the options of the model that differ from the
training configuration, and the budget that all of them get. Each variant is one ``fusionzoo fit``
with the same seed and the same draws. The pairs that the configuration holds back are fused,
rounded to 8 bits and measured. ``checkpoints/KEY/ablations.csv`` gets a row for each variant, and
documents with the marker ``<!-- table: ablations KEY -->`` the table. Variants that the file holds
already are left alone. ``--trained`` measures runs of ``fusionzoo fit`` that exist, such as the one
that became the published weights. A run with other options than its variant's is refused.

What follows ``--`` goes to each ``fusionzoo fit`` as it is: what says nothing of a variant, such as
where a file lies (``--model.init_args.vgg_weights FILE``) or the precision.
"""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from cards import write_documents
from measure import remembering
from runs import read_benchmark
from variants import MEASURED, ROWS_NAME, read_plan, read_rows, rows_text

import fusionzoo
from fusionzoo.cli.configs import find_config, read_config
from fusionzoo.data import FusionDataModule
from fusionzoo.errors import InputError, ResultError, check_choice
from fusionzoo.evaluation import evaluate_pairs, fused_by
from fusionzoo.files import write_whole

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None, checkpoints: Path = ROOT / "checkpoints") -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("key", help="of the weights whose folder has an ablations.yaml")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", nargs="+", metavar="ROOT", help="training roots")
    what.add_argument("--trained", nargs="+", metavar="NAME=RUN", help="measure these runs of fit")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants to run now")
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    args, extra = parser.parse_args(given[:cut]), given[cut + 1 :]
    folder = checkpoints / args.key
    plan, rows = read_plan(folder), read_rows(folder)
    runs = dict(given.rpartition("=")[::2] for given in args.trained or ())
    for name in runs:
        check_choice("--trained", name, plan["variants"])
    for name, options in plan["variants"].items():
        if name in rows or name not in (runs or args.only or plan["variants"]):
            continue
        if runs:
            rows[name] = measured(checked(Path(runs[name]), plan, options or {}))
        else:
            rows[name] = trained_and_measured(plan, options or {}, args.data, extra)
        ordered = {known: rows[known] for known in plan["variants"] if known in rows}
        write_whole(folder / ROWS_NAME, rows_text(ordered).encode())
        print(f"{name}: {rows[name]}", flush=True)
    write_documents(read_benchmark(checkpoints))


def trained_and_measured(
    plan: Mapping[str, Any],
    options: Mapping[str, Any],
    data: Sequence[str],
    extra: Sequence[str] = (),
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
                text = value if isinstance(value, str) else json.dumps(value)
                command += [f"--{kind}.{name}", text]
        command += extra
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ResultError(f"{' '.join(command)}\n{done.stderr}")
        (run,) = Path(runs).iterdir()
        return measured(run)


def checked(run: Path, plan: Mapping[str, Any], options: Mapping[str, Any]) -> Path:
    """Return the run, if its options, data and epochs are those of the variant.

    Raises:
        InputError: naming what differs.
    """
    usual = read_config(find_config(plan["config"]))
    config = _config_of(run)
    wanted = {
        "model.init_args": {
            **_defaults(config["model"]["class_path"]),
            **usual["model"].get("init_args", {}),
            **options,
        },
        "data": {k: v for k, v in {**usual["data"], **plan.get("data", {})}.items() if k != "root"},
        "trainer": {"max_epochs": plan["epochs"]},
    }
    found = {**config, "model.init_args": config["model"]["init_args"]}
    for part, values in wanted.items():
        for name, value in values.items():
            if found[part].get(name) != value:
                raise InputError(
                    f"{run}: {part}.{name} is {found[part].get(name)!r}, and the variant's is "
                    f"{value!r}; give the run of that variant"
                )
    return run


def measured(run: Path) -> dict[str, float]:
    """Measure what a run of ``fusionzoo fit`` trained, on the pairs that it held back.

    Raises:
        ResultError: an image could not be measured.
    """
    model = fusionzoo.load(run / "pretrained")
    module = FusionDataModule(**_config_of(run)["data"])
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


def _config_of(run: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return config


def _defaults(class_path: str) -> dict[str, Any]:
    module, _, name = class_path.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


if __name__ == "__main__":
    main()
