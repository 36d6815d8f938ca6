"""What is run, and the CSV of what was measured."""

import pytest
from results_helpers import CONFIG, FIGURES, config_file

from fusionzoo.results import Figure, figures_text, read_config, read_figures
from fusionzoo.results.figures import rounded


def test_config(tmp_path):
    config = read_config(config_file(tmp_path))
    assert config.results == tmp_path / "checkpoints" / "results.csv"
    assert config.sets["near"].title == "Near"
    assert config.sets["near"].folders == ("near/test",)
    assert config.sets["far"].folders == ("far/one", "far/two")
    assert (config.sets["far"].ir, config.sets["far"].vi) == ("pet", "mri")
    assert config.printed_names == ["paper", "released weights"]
    main, far, *rules = config.runs
    assert (main.set, main.protocol, main.stretch, main.table) == (
        "near",
        "cddfuse",
        False,
        "results",
    )
    assert [printed.name for printed in main.printed] == ["paper", "released weights"]
    assert main.printed[0].values == {"EN": 7.25, "SD": 40.5}
    assert (far.set, far.stretch, far.printed) == ("far", True, ())
    assert [run.options_text for run in rules] == [
        "channel_attention=none rule=sum",
        "channel_attention=none rule=average",
    ]
    assert {run.table for run in rules} == {"rules"}
    assert rules[0].metrics == ("EN", "SD", "MSE")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sets: [near]", "sets: [neer]", "there is no set 'neer'; sets are near, far"),
        ("model: didfuse\n    sets: [near]", "sets: [near]", "run 1: model is missing"),
        ("stretch: true", "strech: true", "run 2: strech is unknown"),
        ("values: {EN: 7.25", "value: {EN: 7.25", "values is missing; value is unknown"),
        ("rule: average", "rule: sum", "this is run twice: didfuse rules"),
        ("sets: [near]", "sets: near", "expected a list, found 'near'"),
        ("sets:\n", "sets: [", "is not YAML"),
    ],
)
def test_config_errors_say_where(tmp_path, old, new, message):
    assert old in CONFIG
    path = config_file(tmp_path, CONFIG.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"benchmark\.yaml") as error:
        read_config(path)
    assert message in str(error.value)


def test_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_config(tmp_path / "benchmark.yaml")


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
