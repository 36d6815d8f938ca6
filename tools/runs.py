"""What is measured: test sets, and the runs of each published model on them.

``checkpoints/benchmark.yaml`` holds what all runs share, ``checkpoints/KEY/benchmark.yaml`` those
of KEY. Comments at the top of the shared file explain both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fusionzoo.errors import InputError, MissingFileError, check_choice

#: The table of a run that names none: a model with the options stored with its weights, or, where
#: these depart from its paper in fusing, with the paper's beside them.
MAIN = "results"
#: The label of those with the paper's.
AS_IN_THE_PAPER = "as in the paper"
RUNS_NAME = "benchmark.yaml"
RESULTS_NAME = "results.csv"


@dataclass(frozen=True)
class TestSet:
    """Pairs to measure on.

    Attributes:
        name: key in the file.
        title: what tables call it.
        folders: relative to the data folder; each holds ``ir`` and ``vi``.
        ir: name of the infrared folder in each, or of what takes its place.
        vi: likewise.
        holdout: take only so many pairs, those that training with this ``seed`` and these folders
            as roots keeps back; 0 takes all.
        seed: that of the training.
        dim_ir: factor of the infrared image's values, above 0 and at most 1, with which pairs by
            day stand for others, such as those by night.
        dim_vi: of the visible image's.
    """

    __test__ = False  # the name is no test's

    name: str
    title: str
    folders: tuple[str, ...]
    ir: str = "ir"
    vi: str = "vi"
    holdout: int = 0
    seed: int = 0
    dim_ir: float = 1.0
    dim_vi: float = 1.0


@dataclass(frozen=True)
class Printed:
    """Values that somebody printed, to stand beside ours.

    Attributes:
        name: heads the column in the CSV and the line in tables: ``paper``, ``released weights``.
        source: where they are printed, and what differs from what is measured here.
        values: by metric.
    """

    name: str
    source: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One model on one test set by one protocol.

    Attributes:
        model: key of published weights.
        set: key of a test set.
        protocol: of the metrics.
        metrics: names; None takes the protocol's usual ones.
        stretch: whether results are spread over 0 ... 255 before they are measured.
        options: model options in place of the stored ones.
        table: the table it belongs to, ``results`` or a comparison such as ``rules``.
        label: what tables call its options.
        printed: what to compare with.
    """

    model: str
    set: str
    protocol: str = "cddfuse"
    metrics: tuple[str, ...] | None = None
    stretch: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    table: str = MAIN
    label: str = ""
    printed: tuple[Printed, ...] = ()

    @property
    def options_text(self) -> str:
        """The options as the CSV has them: ``a=1 b=x``, sorted."""
        return " ".join(f"{name}={value}" for name, value in sorted(self.options.items()))

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from all other runs."""
        stretch = "yes" if self.stretch else "no"
        return (self.model, self.table, self.options_text, self.set, self.protocol, stretch)

    def printed_of(self, metric: str) -> dict[str, float]:
        """What was printed for a metric, by the name of who printed it."""
        return {one.name: one.values[metric] for one in self.printed if metric in one.values}


@dataclass(frozen=True)
class Benchmark:
    """All that is to be measured.

    Attributes:
        folder: the checkpoints.
        sets: test sets by name.
        usual_sets: names of those that new weights begin with, by task.
        summary: metrics that the table of models shows.
        runs: in the order of the tables.
    """

    folder: Path
    sets: Mapping[str, TestSet]
    usual_sets: Mapping[str, tuple[str, ...]]
    summary: tuple[str, ...]
    runs: tuple[Run, ...]

    def as_in_the_paper(self, key: str) -> Run | None:
        """The first run of weights with the paper's options, where the stored ones are others."""
        labelled = (run for run in self.runs if (run.model, run.label) == (key, AS_IN_THE_PAPER))
        return next(labelled, None)

    @property
    def results(self) -> Path:
        """The CSV file of what was measured."""
        return self.folder / RESULTS_NAME

    @property
    def printed_names(self) -> list[str]:
        """Names of all printed values, in order of first use."""
        return list(dict.fromkeys(p.name for run in self.runs for p in run.printed))


def read_benchmark(folder: str | os.PathLike[str]) -> Benchmark:
    """Read the shared file of a folder of checkpoints, and the runs of each model in it.

    Raises:
        MissingFileError: there is no shared file.
        InputError: a file is not of its form; the message says where.
    """
    folder = Path(folder).resolve()
    path = folder / RUNS_NAME
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; name a folder of checkpoints")
    shared = _fields(_content(path), ("sets",), ("summary", "metrics", "usual_sets"), str(path))
    sets = {name: _read_set(name, facts, path) for name, facts in shared["sets"].items()}
    metrics = shared.get("metrics", {})
    runs: list[Run] = []
    for own in sorted(folder.glob(f"*/{RUNS_NAME}")):
        entries = _fields(_content(own), ("runs",), (), str(own))["runs"]
        for number, facts in enumerate(_listed(entries, f"{own}: runs"), start=1):
            runs += _read_runs(own.parent.name, facts, sets, metrics, f"{own}: run {number}")
        keys = [run.key for run in runs]
        for key in keys:
            if keys.count(key) > 1:
                raise InputError(f"{own}: this is run twice: {' '.join(filter(None, key))}")
    usual = {task: tuple(names) for task, names in shared.get("usual_sets", {}).items()}
    return Benchmark(folder, sets, usual, tuple(shared.get("summary", ())), tuple(runs))


def _content(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from None


def _read_set(name: str, facts: Any, path: Path) -> TestSet:
    where = f"{path}: set {name!r}"
    optional = ("title", "ir", "vi", "holdout", "seed", "dim_ir", "dim_vi")
    facts = _fields(facts, ("folders",), optional, where)
    for key in ("dim_ir", "dim_vi"):
        factor = facts.get(key, 1.0)
        if not isinstance(factor, int | float) or not 0 < factor <= 1:
            raise InputError(f"{where}: {key} must be above 0 and at most 1, not {factor!r}")
    folders = facts.pop("folders")
    folders = (folders,) if isinstance(folders, str) else tuple(_listed(folders, where))
    return TestSet(name, facts.pop("title", name), folders, **facts)


def _read_runs(
    key: str,
    facts: Any,
    sets: Mapping[str, TestSet],
    shared_metrics: Mapping[str, Iterable[str]],
    where: str,
) -> list[Run]:
    """The runs of an entry: each of its sets, with each of its options."""
    optional = ("protocol", "metrics", "stretch", "options", "each", "table", "label", "printed")
    facts = _fields(facts, ("sets",), optional, where)
    chosen = _listed(facts.pop("sets"), f"{where}: sets")
    options = facts.pop("options", {})
    variants = _listed(facts.pop("each", [{}]), f"{where}: each")
    printed = [
        _fields(entry, ("name", "set", "source", "values"), (), f"{where}: printed")
        for entry in _listed(facts.pop("printed", []), f"{where}: printed")
    ]
    for name in [*chosen, *(entry["set"] for entry in printed)]:
        check_choice(f"{where}: set", name, sets)
    metrics = facts.pop("metrics", None)
    if isinstance(metrics, str):
        check_choice(f"{where}: metrics", metrics, shared_metrics)
        metrics = shared_metrics[metrics]
    return [
        Run(
            model=key,
            set=name,
            options={**options, **variant},
            metrics=None if metrics is None else tuple(_listed(metrics, f"{where}: metrics")),
            printed=tuple(
                Printed(entry["name"], entry["source"].strip(), entry["values"])
                for entry in printed
                if entry["set"] == name
            ),
            **facts,
        )
        for name in chosen
        for variant in variants
    ]


def _fields(
    facts: Any, needed: tuple[str, ...], optional: tuple[str, ...], where: str
) -> dict[str, Any]:
    """A mapping with these keys and no others, as a copy."""
    if not isinstance(facts, Mapping):
        raise InputError(f"{where}: expected names with values, found {facts!r}")
    wrong = [f"{key} is missing" for key in needed if key not in facts]
    wrong += [f"{key} is unknown" for key in facts if key not in (*needed, *optional)]
    if wrong:
        known = ", ".join((*needed, *optional))
        raise InputError(f"{where}: {'; '.join(wrong)} (there are {known})")
    return dict(facts)


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list, found {value!r}")
    return value
