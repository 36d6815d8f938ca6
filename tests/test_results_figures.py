"""What is run, and the CSV of what was measured."""

import pytest
from figures import Figure, figures_text, read_figures, rounded
from results_helpers import FIGURES, RUNS, SHARED, made_benchmark
from runs import read_benchmark


def test_benchmark(tmp_path):
    benchmark = made_benchmark(tmp_path)
    assert benchmark.results == tmp_path / "checkpoints" / "results.csv"
    assert benchmark.sets["near"].title == "Near"
    assert benchmark.sets["near"].folders == ("near/test",)
    assert benchmark.sets["far"].folders == ("far/one", "far/two")
    assert (benchmark.sets["far"].ir, benchmark.sets["far"].vi) == ("pet", "mri")
    assert benchmark.usual_sets == {"infrared-visible": ("near",)}
    assert benchmark.printed_names == ["paper", "released weights"]
    assert {run.model for run in benchmark.runs} == {"didfuse"}, "by the name of the folder"
    main, far, *rules = benchmark.runs
    assert main.key == ("didfuse", "results", "", "near", "cddfuse", "no")
    assert [printed.name for printed in main.printed] == ["paper", "released weights"]
    assert main.printed_of("EN") == {"paper": 7.25, "released weights": 6.8621}
    assert (far.set, far.stretch, far.printed) == ("far", True, ())
    assert [run.options_text for run in rules] == [
        "channel_attention=none rule=sum",
        "channel_attention=none rule=average",
    ]
    assert {run.table for run in rules} == {"rules"}
    assert rules[0].metrics == ("EN", "SD", "MSE"), "a list of the shared file, by its name"


def test_runs_of_several_models_are_in_the_order_of_their_keys(tmp_path):
    made_benchmark(tmp_path)
    for key in ("ifesnet", "coconet.medical"):
        (tmp_path / "checkpoints" / key).mkdir()
        path = tmp_path / "checkpoints" / key / "benchmark.yaml"
        path.write_text("runs:\n  - {sets: [near], protocol: zoo, metrics: [MI, Qcb]}\n")
    runs = read_benchmark(tmp_path / "checkpoints").runs
    assert [run.model for run in runs] == ["coconet.medical", *["didfuse"] * 4, "ifesnet"]
    assert (runs[0].protocol, runs[0].metrics) == ("zoo", ("MI", "Qcb"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sets: [near]", "sets: [neer]", "did you mean 'near'"),
        ("sets: [near]", "stretch: true", "run 1: sets is missing"),
        ("stretch: true", "strech: true", "run 2: strech is unknown"),
        ("values: {EN: 7.25", "value: {EN: 7.25", "values is missing; value is unknown"),
        ("rule: average", "rule: sum", "this is run twice: didfuse rules"),
        ("sets: [near]", "sets: near", "expected a list, found 'near'"),
        ("metrics: three", "metrics: four", "must be one of 'three'"),
        ("runs:\n", "runs: [", "is not YAML"),
        ("runs:\n", "run:\n", "runs is missing; run is unknown"),
    ],
)
def test_errors_of_runs_say_where(tmp_path, old, new, message):
    assert old in RUNS
    with pytest.raises(ValueError, match=r"didfuse.benchmark\.yaml") as error:
        made_benchmark(tmp_path, RUNS.replace(old, new, 1))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Near, folders", "titel: Near, folders", "set 'near': titel is unknown"),
        ("title: Near", "dim_vi: 0", "dim_vi must be above 0"),
        ("title: Near", "dim_vi: 1.5", "dim_vi must be above 0"),
        ("title: Near", "dim_ir: dark", "not 'dark'"),
        ("sets:\n", "sets: [", "is not YAML"),
    ],
)
def test_errors_of_sets_say_where(tmp_path, old, new, message):
    assert old in SHARED
    with pytest.raises(ValueError, match=r"checkpoints.benchmark\.yaml") as error:
        made_benchmark(tmp_path, shared=SHARED.replace(old, new, 1))
    assert message in str(error.value)


def test_no_benchmark(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"benchmark\.yaml: no such file"):
        read_benchmark(tmp_path)


def test_figures_are_kept(tmp_path):
    text = figures_text(FIGURES, ["paper", "released weights"])
    (tmp_path / "results.csv").write_text(text, encoding="utf-8")
    assert read_figures(tmp_path / "results.csv") == list(FIGURES)
    header, first, *_ = text.splitlines()
    assert header.endswith("metric,ours,std,paper,delta,released weights,delta released weights")
    assert first == (
        "didfuse,results,,near,cddfuse,no,25,0123abcd,EN,7.0000,0.5000,7.2500,-0.2500,6.8621,0.1379"
    )


def test_figures_that_are_no_numbers_stay_empty():
    lost = Figure("m", "results", "", "s", "zoo", "no", 1, "", "CC", rounded(float("nan")), None)
    assert figures_text([lost], ["paper"]).splitlines()[1].endswith(",CC,,,,")
    assert lost.delta("paper") is None


def test_no_file_means_no_figures(tmp_path):
    assert read_figures(tmp_path / "results.csv") == []


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("model,ours\nx,1\n")
    with pytest.raises(ValueError, match="lacks the columns table"):
        read_figures(path)
    text = figures_text(FIGURES, ["paper"]).replace("7.0000", "seven")
    path.write_text(text)
    with pytest.raises(ValueError, match="line 2: could not convert"):
        read_figures(path)
