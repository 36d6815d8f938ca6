"""Measuring published weights: figures of models on test sets, in parts, and what is refused."""

import json

import pytest
from evaluate_helpers import small_model, sources
from figures import read_figures
from measure import measure, pairs_of, stale_runs, tidied
from results_helpers import RUNS, SHARED, made_benchmark
from runs import TestSet

from fusionzoo.errors import ResultError
from fusionzoo.evaluation import darkened, evaluate, fused_by
from fusionzoo.module import FusionModule
from fusionzoo.weights import fingerprint

SHORT = RUNS.replace("  - sets: [far]\n    stretch: true\n", "")


@pytest.fixture
def benchmark(tmp_path):
    benchmark = made_benchmark(tmp_path, SHORT)
    small_model().save_pretrained(benchmark.folder / "didfuse", card="# Card\n")
    return benchmark


@pytest.fixture
def data(tmp_path):
    sources(tmp_path / "data" / "near" / "test")
    return tmp_path / "data"


def stale(benchmark):
    return [(run.table, problem) for run, problem in stale_runs(benchmark)]


def test_figures_are_those_of_the_saved_weights(benchmark, data):
    told = []
    measure(benchmark, benchmark.runs, data, progress=lambda *what: told.append(what))
    figures = read_figures(benchmark.results)
    folder = data / "near" / "test"
    weights = benchmark.folder / "didfuse"
    assert {figure.pairs for figure in figures} == {3}
    for run in benchmark.runs:
        method = fused_by("x", small_model(**run.options))
        found = evaluate(folder / "ir", folder / "vi", [method], metrics=run.metrics)
        own = {figure.metric: figure for figure in figures if figure.key == run.key}
        assert list(own) == ["EN", "SD", "MSE"]
        assert {f.weights for f in own.values()} == {fingerprint(weights, **run.options)}
        for metric, figure in own.items():
            assert figure.ours == pytest.approx(found.mean("x", metric), abs=1e-4)
            assert figure.std == pytest.approx(found.std("x", metric), abs=1e-4)
    assert figures[0].printed == {"paper": 7.25, "released weights": 6.8621}
    assert len({figure.ours for figure in figures if figure.metric == "SD"}) == 3, "a rule each"
    assert told[0] == ("didfuse on near", 1, 3)
    assert told[-1][0] == "didfuse channel_attention=none rule=average on near"
    assert stale(benchmark) == []


def test_a_part_is_run_and_the_rest_kept(benchmark, data):
    main, *rules = benchmark.runs
    measure(benchmark, rules, data)
    first = read_figures(benchmark.results)
    assert {figure.table for figure in first} == {"rules"}
    assert stale(benchmark) == [("results", "not measured yet")]
    measure(benchmark, [main], data)
    figures = read_figures(benchmark.results)
    assert [figure.table for figure in figures] == ["results"] * 3 + ["rules"] * 6
    assert figures[3:] == first
    text = benchmark.results.read_bytes()
    measure(benchmark, [main], data)
    assert benchmark.results.read_bytes() == text, "equal runs give equal files"


def test_what_does_not_fit_any_more_is_stale(benchmark, data, tmp_path):
    measure(benchmark, benchmark.runs, data)
    small_model(variant="plain").save_pretrained(benchmark.folder / "didfuse")
    assert len(stale(benchmark)) == 3
    assert {problem for _, problem in stale(benchmark)} == {
        "measured with other weights or options"
    }
    small_model().save_pretrained(benchmark.folder / "didfuse")
    changed = SHORT.replace("rule: average", "rule: l1").replace("[EN, SD, MSE]", "[EN, SD]", 1)
    benchmark = made_benchmark(tmp_path, changed)
    assert stale(benchmark) == [("results", "other metrics"), ("rules", "not measured yet")]


def test_printed_values_and_order_follow_without_measuring(benchmark, data, tmp_path):
    measure(benchmark, benchmark.runs, data)
    figures = read_figures(benchmark.results)
    text = benchmark.results.read_text(encoding="utf-8")
    assert tidied(benchmark, [*figures[3:], *figures[:3]]) == text
    changed = SHORT.replace("EN: 7.25", "EN: 7.5").replace("      - {rule: average}\n", "")
    benchmark = made_benchmark(tmp_path, changed)
    assert stale(benchmark) == []
    text = tidied(benchmark, figures)
    assert ",7.5000," in text
    assert ",7.2500," not in text
    assert "rule=average" not in text
    assert text.count("\n") == 7, "a header and two runs"


def test_figures_of_other_options_are_stale(benchmark, data):
    measure(benchmark, benchmark.runs, data)
    path = benchmark.folder / "didfuse" / "config.json"
    stored = json.loads(path.read_text())

    def after(**facts):
        path.write_text(json.dumps({**stored, **facts}), encoding="utf-8")
        return [table for table, _ in stale(benchmark)]

    assert after(fusionzoo_version="9.9") == []
    assert after(options={**stored["options"], "rule": "max"}) == ["results"], "rules set their own"
    assert len(after(options={**stored["options"], "gain": 1.25})) == 3


def test_runs_that_differ_in_measuring_only_fuse_once(tmp_path, data, monkeypatch):
    zoo = "  - {sets: [near], protocol: zoo, metrics: [MI]}\n"
    benchmark = made_benchmark(tmp_path, RUNS.replace("[far]", "[near]") + zoo)
    small_model().save_pretrained(benchmark.folder / "didfuse", card="# Card\n")
    fused = []
    fuse = FusionModule.fuse
    monkeypatch.setattr(FusionModule, "fuse", lambda *a, **k: fused.append(1) or fuse(*a, **k))
    runs = [run for run in benchmark.runs if run.table == "results"]
    measure(benchmark, runs, data)
    assert [(run.stretch, run.protocol) for run in runs] == [
        (False, "cddfuse"),
        (True, "cddfuse"),
        (False, "zoo"),
    ]
    assert len(fused) == 3, "each of three pairs once"


def test_missing_folders_and_broken_images_stop_it(benchmark, data):
    with pytest.raises(FileNotFoundError, match="test set 'near'"):
        measure(benchmark, benchmark.runs, data / "elsewhere")
    (data / "near" / "test" / "vi" / "b.png").write_bytes(b"no image")
    with pytest.raises(ResultError, match=r"didfuse on near: not measured:\n  b: .*b\.png"):
        measure(benchmark, benchmark.runs, data)
    assert not benchmark.results.exists()


def test_missing_weights_stop_it(benchmark, data):
    (benchmark.folder / "didfuse" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist"):
        measure(benchmark, benchmark.runs, data)


def test_a_dimmed_set_is_measured_with_dimmed_sources(benchmark, data, tmp_path):
    folders = "folders: near/test"
    assert folders in SHARED
    dim = SHARED.replace(folders, f"{folders}, dim_ir: 0.5, dim_vi: 0.25")
    benchmark = made_benchmark(tmp_path, SHORT, dim)
    small_model().save_pretrained(benchmark.folder / "didfuse")
    measure(benchmark, benchmark.runs[:1], data)
    dark = {figure.metric: figure.ours for figure in read_figures(benchmark.results)}
    folder = data / "near" / "test"
    arguments = (folder / "ir", folder / "vi", [fused_by("x", small_model())])
    wanted = evaluate(
        *arguments, metrics=["EN", "SD", "MSE"], prepare=lambda pair: darkened(pair, 0.5, 0.25)
    )
    assert dark == {name: pytest.approx(wanted.mean("x", name), abs=1e-4) for name in dark}
    assert dark["SD"] < evaluate(*arguments, metrics=["SD"]).mean("x", "SD")


def test_held_back_pairs_are_those_of_training(tmp_path):
    from fusionzoo.data import FusionDataModule

    for name in ("one", "two"):
        sources(tmp_path / name, tuple("abcde"))
    roots = [str(tmp_path / name) for name in ("one", "two")]
    held = pairs_of(TestSet("held", "Held", ("one", "two"), holdout=4, seed=7), tmp_path)
    training = FusionDataModule(roots, holdout=4, seed=7)
    training.setup("fit")
    assert len(held) == 4
    assert {pair.name for pair in held} == {p.name for p in training.datasets["val"].pairs}
    assert not {p.name for p in training.datasets["train"].pairs} & {pair.name for pair in held}
