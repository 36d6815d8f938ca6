"""What is run: the YAML file that names models, test sets, protocols and printed values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: The table of a run that names none: a model with the options stored with its weights.
MAIN = "results"
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
        darken_ir: factor of the infrared image's values, above 0 and at most 1, with which pairs by
            day stand for others, such as those by night.
        darken_vi: of the visible image's.
    """

    __test__ = False  # the name is no test's

    name: str
    title: str
    folders: tuple[str, ...]
    ir: str = "ir"
    vi: str = "vi"
    holdout: int = 0
    seed: int = 0
    darken_ir: float = 1.0
    darken_vi: float = 1.0


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
        printed: what to compare with.
    """

    model: str
    set: str
    protocol: str = "cddfuse"
    metrics: tuple[str, ...] | None = None
    stretch: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    table: str = MAIN
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


@dataclass(frozen=True)
class Config:
    """The whole file.

    Attributes:
        path: of the file.
        sets: test sets by name.
        runs: in the order of the tables.
        summary: metrics that the table of models shows.
    """

    path: Path
    sets: Mapping[str, TestSet]
    runs: tuple[Run, ...]
    summary: tuple[str, ...]

    @property
    def results(self) -> Path:
        """The CSV file: beside this one."""
        return self.path.parent / RESULTS_NAME

    @property
    def printed_names(self) -> list[str]:
        """Names of all printed values, in order of first use."""
        return list(dict.fromkeys(p.name for run in self.runs for p in run.printed))


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a benchmark file; ``checkpoints/benchmark.yaml`` is the example with comments.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of that form; the message says where.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a benchmark.yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    content = _fields(content, ("sets", "runs"), ("summary",), str(path))
    sets = {
        str(name): _read_set(str(name), facts, f"{path}: set {name!r}")
        for name, facts in _mapping(content["sets"], f"{path}: sets").items()
    }
    runs = [
        run
        for number, facts in enumerate(_list(content["runs"], f"{path}: runs"), start=1)
        for run in _read_runs(facts, sets, f"{path}: run {number}")
    ]
    keys = [run.key for run in runs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{path}: this is run twice: {' '.join(filter(None, key))}")
    summary = tuple(map(str, _list(content.get("summary", []), f"{path}: summary")))
    return Config(path, sets, tuple(runs), summary)


def _read_set(name: str, facts: Any, where: str) -> TestSet:
    if isinstance(facts, str):
        facts = {"folders": facts}
    optional = ("title", "ir", "vi", "holdout", "seed", "darken_ir", "darken_vi")
    facts = _fields(facts, ("folders",), optional, where)
    for key in ("darken_ir", "darken_vi"):
        factor = facts.get(key, 1.0)
        if not isinstance(factor, int | float) or not 0 < factor <= 1:
            raise ValueError(f"{where}: {key} must be above 0 and at most 1, not {factor!r}")
    folders = facts.pop("folders")
    folders = (folders,) if isinstance(folders, str) else tuple(_list(folders, where))
    return TestSet(name, facts.pop("title", name), folders, **facts)


def _read_runs(facts: Any, sets: Mapping[str, TestSet], where: str) -> list[Run]:
    """The runs of an entry: each of its sets, with each of its options."""
    optional = ("protocol", "metrics", "stretch", "options", "each", "table", "printed")
    facts = _fields(facts, ("model", "sets"), optional, where)
    chosen = [str(name) for name in _list(facts.pop("sets"), where)]
    options = _mapping(facts.pop("options", {}), f"{where}: options")
    variants = _list(facts.pop("each", [{}]), f"{where}: each")
    printed = [
        _fields(entry, ("name", "set", "source", "values"), (), f"{where}: printed")
        for entry in _list(facts.pop("printed", []), f"{where}: printed")
    ]
    for name in [*chosen, *(entry["set"] for entry in printed)]:
        if name not in sets:
            raise ValueError(f"{where}: there is no set {name!r}; sets are {', '.join(sets)}")
    metrics = facts.pop("metrics", None)
    return [
        Run(
            set=name,
            options={**options, **_mapping(variant, f"{where}: each")},
            metrics=None if metrics is None else tuple(_list(metrics, f"{where}: metrics")),
            printed=tuple(
                Printed(entry["name"], entry["source"].strip(), _values(entry["values"], where))
                for entry in printed
                if entry["set"] == name
            ),
            **facts,
        )
        for name in chosen
        for variant in variants
    ]


def _values(values: Any, where: str) -> dict[str, float]:
    return {name: float(value) for name, value in _mapping(values, f"{where}: values").items()}


def _fields(
    facts: Any, needed: tuple[str, ...], optional: tuple[str, ...], where: str
) -> dict[str, Any]:
    """A mapping with these keys and no others, as a copy."""
    facts = dict(_mapping(facts, where))
    wrong = [f"{key} is missing" for key in needed if key not in facts]
    wrong += [f"{key} is unknown" for key in facts if key not in (*needed, *optional)]
    if wrong:
        known = ", ".join((*needed, *optional))
        raise ValueError(f"{where}: {'; '.join(wrong)} (there are {known})")
    return facts


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected names with values, found {value!r}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, found {value!r}")
    return value
