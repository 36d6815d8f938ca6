"""A small benchmark file with its figures."""

from __future__ import annotations

from pathlib import Path

import cards
import choice
import overviews
import pytest
from figures import Figure
from runs import Benchmark, read_benchmark

from fusionzoo.weights import WeightsCfg

SHARED = """\
sets:
  near: {title: Near, folders: near/test}
  far: {folders: [far/one, far/two], ir: pet, vi: mri}
usual_sets: {infrared-visible: [near]}
metrics: {three: [EN, SD, MSE]}
summary: [SD, MSE]
"""

RUNS = """\
runs:
  - sets: [near]
    metrics: [EN, SD, MSE]
    printed:
      - name: paper
        set: near
        source: Table 9 of a paper.
        values: {EN: 7.25, SD: 40.5}
      - name: released weights
        set: near
        source: Table 1 of another.
        values: {EN: 6.8621}
  - sets: [far]
    stretch: true
  - table: rules
    sets: [near]
    metrics: three
    options: {channel_attention: none}
    each:
      - {rule: sum}
      - {rule: average}
"""

_PRINTED = {"EN": {"paper": 7.25, "released weights": 6.8621}, "SD": {"paper": 40.5}, "MSE": {}}


def _figures(table: str, options: str, values: tuple[float, ...]) -> list[Figure]:
    return [
        Figure("didfuse", table, options, "near", "cddfuse", "no", 25, "0123abcd", metric, value,
               0.5, _PRINTED[metric] if table == "results" else {})
        for metric, value in zip(("EN", "SD", "MSE"), values, strict=True)
    ]  # fmt: skip


FIGURES = (
    *_figures("results", "", (7.0, 42.125, 2000.0)),
    *_figures("rules", "channel_attention=none rule=sum", (7.0, 42.125, 2000.0)),
    *_figures("rules", "channel_attention=none rule=average", (6.5, 30.0, 1500.0)),
)

WEIGHTS = {
    "didfuse": WeightsCfg(
        file="didfuse/model.safetensors",
        fingerprint="0" * 16,
        sha256="0123abcd" * 8,
        size=1_049_876,
        parameters=261_572,
        origin="here",
        training_data="pairs",
        weights_licence="CC0-1.0",
        commit="fedc" * 10,
    )
}

README = """\
# Title

<!-- table: models -->
old
<!-- end table -->

Words stay.

<!-- table: results -->
<!-- end table -->
"""

CARD = """\
# Card

<!-- table: results didfuse -->
<!-- end table -->

<!-- table: rules didfuse -->
<!-- end table -->

The end.
"""


def made_benchmark(root: Path, runs: str = RUNS, shared: str = SHARED) -> Benchmark:
    """A benchmark of ``root/checkpoints``, with documents that hold markers."""
    folder = root / "checkpoints"
    (folder / "didfuse").mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.yaml").write_text(shared, encoding="utf-8")
    (folder / "didfuse" / "benchmark.yaml").write_text(runs, encoding="utf-8")
    (folder / "didfuse" / "README.md").write_text(CARD, encoding="utf-8")
    (root / "README.md").write_text(README, encoding="utf-8")
    return read_benchmark(folder)


def publish(monkeypatch: pytest.MonkeyPatch, table: dict[str, WeightsCfg] = WEIGHTS) -> None:
    """Put another table in place of that of the published weights."""
    for room in (cards, choice, overviews):
        monkeypatch.setattr(room, "weights_table", lambda: table)
