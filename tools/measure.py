"""Published weights × test sets: measure what the benchmark files name, and keep the figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from figures import Figure, figures_text, read_figures, rounded
from runs import Benchmark, Run, TestSet
from torch import Tensor

from fusionzoo import zoo
from fusionzoo.data import FusionDataModule, find_pairs
from fusionzoo.data.decoding import Loaded
from fusionzoo.data.pairs import Pair
from fusionzoo.errors import MissingFileError, ResultError
from fusionzoo.evaluation import Evaluation, Method, darkened, evaluate_pairs, fused_by
from fusionzoo.files import write_whole
from fusionzoo.metrics import get_protocol
from fusionzoo.weights import fingerprint


def measure(
    benchmark: Benchmark,
    runs: Sequence[Run],
    data: str | os.PathLike[str],
    *,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Measure some runs of the benchmark, and bring ``results.csv`` in line.

    Each model fuses on the fly in grey, rounded to 8 bits, and is measured by the protocol of its
    run. The file is written after each run, so that an interrupted benchmark keeps what it has;
    figures of other runs stay, those of runs that are no longer in the benchmark go.

    Args:
        benchmark: what there is to run.
        runs: those of it to measure.
        data: folder that the folders of the test sets are in.
        device: where to fuse and measure; figures made on the CPU repeat to the last digit.
        progress: is told which run it is, how many of its images are done, and how many there are.

    Raises:
        FileNotFoundError, ValueError: a test set or weights are not there.
        ResultError: an image could not be measured: a mean that lacks images is no result.
    """
    pairs = {name: pairs_of(benchmark.sets[name], data) for name in {run.set for run in runs}}
    method, fused = None, None
    alike = [_fused_alike(run) for run in runs]
    for run in sorted(runs, key=lambda run: alike.index(_fused_alike(run))):
        label = " ".join(filter(None, (run.model, run.options_text, "on", run.set)))
        if method is None or fused != _fused_alike(run):
            model = zoo.load(benchmark.folder / run.model, device=device, **run.options)
            method, fused = remembering(fused_by(run.model, model)), _fused_alike(run)
        test_set = benchmark.sets[run.set]
        evaluation = evaluate_pairs(
            pairs[run.set],
            [method],
            protocol=run.protocol,
            metrics=run.metrics,
            stretch=run.stretch,
            prepare=partial(darkened, ir=test_set.dim_ir, vi=test_set.dim_vi),
            device=device,
            progress=progress and partial(progress, label),
        )
        if evaluation.problems:
            raise ResultError("\n  ".join([f"{label}: not measured:", *evaluation.problems]))
        kept = [figure for figure in read_figures(benchmark.results) if figure.key != run.key]
        figures = _figures_of(run, evaluation, _weights_of(run, benchmark))
        write_whole(benchmark.results, tidied(benchmark, [*kept, *figures]).encode())


def _fused_alike(run: Run) -> tuple[str, str, str]:
    """What decides on the fused images: runs that share it differ in how these are measured."""
    return (run.model, run.options_text, run.set)


def remembering(method: Method) -> Method:
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
    roots = [str(Path(data) / folder) for folder in test_set.folders]
    for root in roots:
        if not Path(root).is_dir():
            raise MissingFileError(
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


def stale_runs(benchmark: Benchmark) -> list[tuple[Run, str]]:
    """The runs whose figures do not fit the benchmark and the weights of today, and why."""
    found: dict[tuple[str, ...], list[Figure]] = {}
    for figure in read_figures(benchmark.results):
        found.setdefault(figure.key, []).append(figure)
    problems = [(run, _problem(run, found.get(run.key, ()), benchmark)) for run in benchmark.runs]
    return [(run, problem) for run, problem in problems if problem]


def tidied(benchmark: Benchmark, figures: Iterable[Figure]) -> str:
    """``results.csv`` in the order of the benchmark and with its printed values.

    Figures of runs that the benchmark does not name are left out.
    """
    by_run: dict[tuple[str, ...], list[Figure]] = {}
    for figure in figures:
        by_run.setdefault(figure.key, []).append(figure)
    ordered = [
        replace(figure, printed=run.printed_of(figure.metric))
        for run in benchmark.runs
        for figure in by_run.get(run.key, ())
    ]
    return figures_text(ordered, benchmark.printed_names)


def _problem(run: Run, figures: Sequence[Figure], benchmark: Benchmark) -> str:
    """Why a run has to be measured again; empty where its figures are good."""
    if not figures:
        return "not measured yet"
    if {figure.weights for figure in figures} != {_weights_of(run, benchmark)}:
        return "measured with other weights or options"
    metrics = [entry.name for entry in get_protocol(run.protocol).select(run.metrics)]
    return "" if [figure.metric for figure in figures] == metrics else "other metrics"


def _weights_of(run: Run, benchmark: Benchmark) -> str:
    """The fingerprint of a run's weights and options."""
    return fingerprint(benchmark.folder / run.model, **run.options)


def _figures_of(run: Run, evaluation: Evaluation, weights: str) -> list[Figure]:
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
        )
        for metric in evaluation.metrics
    ]
