"""Checkpoints × test sets: measure what the benchmark file names, and keep the figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fusionzoo.results import Config, Figure, Run, TestSet, figures_text, read_figures
from fusionzoo.results.figures import rounded
from fusionzoo.weights import WEIGHTS_NAME, fingerprint, packaged_folder
from fusionzoo.weights.writing import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from fusionzoo.data.pairs import Loaded, Pair
    from fusionzoo.evaluation import Evaluation, Method


def run_benchmark(
    config: Config,
    data: str | os.PathLike[str],
    *,
    only: Sequence[str] = ("*",),
    sets: Sequence[str] | None = None,
    stale: bool = False,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Figure]:
    """Run the benchmark, or a part of it, and bring ``results.csv`` in line.

    Each model fuses on the fly in grey, rounded to 8 bits, and is measured by the protocol of its
    run. The file is written after each run, so that an interrupted benchmark keeps what it has;
    figures of runs that are not chosen stay, those of runs that are no longer in the file go.

    Args:
        config: what there is to run.
        data: folder that the folders of the test sets are in.
        only: models, with wildcards; or ``model/table``, such as ``didfuse/rules``.
        sets: names of test sets; None takes all.
        stale: of these, only runs without figures, or with those of other weights or options.
        device: where to fuse and measure.
        progress: is told which run it is, and how many of its images are done.

    Returns:
        All figures that the file holds now.

    Raises:
        FileNotFoundError, ValueError: a test set or weights are not there, nothing was chosen, or
            an image could not be measured: a mean that lacks images is no result.
    """
    from fusionzoo import zoo
    from fusionzoo.evaluation import darkened, evaluate_pairs, fused_by

    chosen = [run for run in config.runs if _is_chosen(run, only, sets)]
    if not chosen:
        names = sorted({f"{run.model}/{run.table}" for run in config.runs})
        raise ValueError(f"{config.path} has no such run; there are {', '.join(names)}")
    found = _figures_by_run(config)
    if stale:
        chosen = [run for run in chosen if _problem(run, found.get(run.key), config)]
    pairs = {name: pairs_of(config.sets[name], data) for name in {run.set for run in chosen}}
    method, fused = None, None
    alike = [_fused_alike(run) for run in chosen]
    for run in sorted(chosen, key=lambda run: alike.index(_fused_alike(run))):
        label = " ".join(filter(None, (run.model, run.options_text, "on", run.set)))
        if method is None or fused != _fused_alike(run):
            source = _own_folder(run.model, config) or run.model
            model = zoo.load(source, device=device, **run.options)
            method, fused = _remembering(fused_by(run.model, model)), _fused_alike(run)
        test_set = config.sets[run.set]
        evaluation = evaluate_pairs(
            pairs[run.set],
            [method],
            protocol=run.protocol,
            metrics=run.metrics,
            stretch=run.stretch,
            prepare=partial(darkened, ir=test_set.darken_ir, vi=test_set.darken_vi),
            device=device,
            progress=progress and (lambda done, total, label=label: progress(label, done, total)),
        )
        if evaluation.problems:
            raise ValueError("\n  ".join([f"{label}: not measured:", *evaluation.problems]))
        found[run.key] = figures_of(run, evaluation, weights_of(run, config))
        write_figures(config, found)
    return read_figures(config.results)


def _fused_alike(run: Run) -> tuple[str, str, str]:
    """What decides on the fused images: runs that share it differ in how these are measured."""
    return (run.model, run.options_text, run.set)


def _remembering(method: Method) -> Method:
    """The same method, but each pair is fused once only."""
    fused: dict[str, Tensor] = {}

    def fuse(pair: Pair, loaded: Loaded) -> Tensor:
        if pair.name not in fused:
            fused[pair.name] = method.fuse(pair, loaded)
        return fused[pair.name]

    return replace(method, fuse=fuse)


def pairs_of(test_set: TestSet, data: str | os.PathLike[str]) -> list[Pair]:
    """The pairs of a test set.

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: something is wrong with the pairs; all of it is listed.
    """
    from fusionzoo.data import FusionDataModule, find_pairs

    roots = [str(Path(data) / folder) for folder in test_set.folders]
    for root in roots:
        if not Path(root).is_dir():
            raise FileNotFoundError(
                f"{root}: no such folder; --data names the folder in which that of test set "
                f"{test_set.name!r} is"
            )
    if not test_set.holdout:
        return find_pairs(roots, test_set.ir, test_set.vi)
    module = FusionDataModule(
        roots,
        ir_dir=test_set.ir,
        vi_dir=test_set.vi,
        holdout=test_set.holdout,
        seed=test_set.seed,
        cache=False,
    )
    module.setup("validate")
    return module.datasets["val"].pairs


def weights_of(run: Run, config: Config) -> str:
    """The fingerprint of a run's weights and options; empty where the weights are not here.

    The weights are those beside the benchmark file, or the published ones.
    """
    folder = _own_folder(run.model, config) or packaged_folder(run.model)
    return fingerprint(folder, **run.options) if folder else ""


def figures_of(run: Run, evaluation: Evaluation, weights: str) -> list[Figure]:
    """One figure for each metric of an evaluation of one method."""
    model, table, options, set_name, protocol, stretch = run.key
    name = evaluation.scores[0].name
    return [
        Figure(
            model=model,
            table=table,
            options=options,
            set=set_name,
            protocol=protocol,
            stretch=stretch,
            pairs=len(evaluation.compared),
            weights=weights,
            metric=metric,
            ours=rounded(evaluation.mean(name, metric)),
            std=rounded(evaluation.std(name, metric)),
            printed=_printed(run, metric),
        )
        for metric in evaluation.metrics
    ]


def stale_figures(config: Config) -> list[str]:
    """A line for each run whose figures do not fit the benchmark file and the weights of today."""
    found = _figures_by_run(config)
    runs = {run.key: run for run in config.runs}
    lines = []
    for key, run in runs.items():
        if problem := _problem(run, found.get(key), config):
            lines.append(
                f"{' '.join(filter(None, key))}: {problem}; run fusionzoo benchmark --stale"
            )
    lines += [f"{' '.join(filter(None, key))}: no such run" for key in found if key not in runs]
    return [f"{config.results}: {line}" for line in lines]


def _figures_by_run(config: Config) -> dict[tuple[str, ...], list[Figure]]:
    found: dict[tuple[str, ...], list[Figure]] = {}
    for figure in read_figures(config.results):
        found.setdefault(figure.key, []).append(figure)
    return found


def _problem(run: Run, figures: Sequence[Figure] | None, config: Config) -> str:
    """Why a run has to be measured again; empty where its figures are good."""
    if not figures:
        return "not measured yet"
    if {figure.weights for figure in figures} != {weights_of(run, config)}:
        return "measured with other weights or options"
    if any(figure.printed != _printed(run, figure.metric) for figure in figures):
        return "other printed values"
    return ""


def write_figures(config: Config, found: dict[tuple[str, ...], list[Figure]]) -> None:
    """Write the CSV in the order of the benchmark file."""
    figures = [figure for run in config.runs for figure in found.get(run.key, ())]
    write_atomically(config.results, figures_text(figures, config.printed_names).encode())


def _own_folder(key: str, config: Config) -> Path | None:
    folder = config.path.parent / key
    return folder if (folder / WEIGHTS_NAME).is_file() else None


def _printed(run: Run, metric: str) -> dict[str, float]:
    return {p.name: p.values[metric] for p in run.printed if metric in p.values}


def _is_chosen(run: Run, only: Sequence[str], sets: Sequence[str] | None) -> bool:
    names = (run.model, f"{run.model}/{run.table}")
    if sets is not None and run.set not in sets:
        return False
    return any(fnmatchcase(name, pattern) for name in names for pattern in only)
