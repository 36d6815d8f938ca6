"""Running the benchmark: figures of models on test sets, in parts, and what is refused."""

import json

import pytest
from evaluate_helpers import small_model, sources
from results_helpers import CONFIG, config_file

from fusionzoo.benchmark import measure_metrics
from fusionzoo.benchmark.run import pairs_of, run_benchmark, stale_figures
from fusionzoo.cli import bench, main
from fusionzoo.evaluation import darkened, evaluate, fused_by
from fusionzoo.metrics import list_metrics, list_protocols
from fusionzoo.module import FusionModule
from fusionzoo.results import TestSet, read_config, read_figures
from fusionzoo.weights import fingerprint

SHORT = CONFIG.replace("  - model: didfuse\n    sets: [far]\n    stretch: true\n", "")


@pytest.fixture
def config(tmp_path):
    config = read_config(config_file(tmp_path, SHORT))
    small_model().save_pretrained(config.path.parent / "didfuse", card="# Card\n")
    return config


@pytest.fixture
def data(tmp_path):
    sources(tmp_path / "data" / "near" / "test")
    return tmp_path / "data"


def test_figures_are_those_of_the_saved_weights(config, data, tmp_path):
    told = []
    figures = run_benchmark(config, data, progress=lambda *what: told.append(what))
    folder = data / "near" / "test"
    weights = config.path.parent / "didfuse"
    assert figures == read_figures(config.results)
    assert {figure.pairs for figure in figures} == {3}
    for run in config.runs:
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
    assert stale_figures(config) == []


def test_a_part_is_run_and_the_rest_kept(config, data):
    run_benchmark(config, data, only=["didfuse/rules"])
    rules = read_figures(config.results)
    assert {figure.table for figure in rules} == {"rules"}
    assert any("not measured yet" in line for line in stale_figures(config))
    figures = run_benchmark(config, data, only=["did*/results"], sets=["near"])
    assert [figure.table for figure in figures] == ["results"] * 3 + ["rules"] * 6
    assert figures[3:] == rules


def test_equal_runs_give_equal_files(config, data):
    run_benchmark(config, data, only=["didfuse/results"])
    text = config.results.read_bytes()
    config.results.unlink()
    run_benchmark(config, data, only=["didfuse/results"])
    assert config.results.read_bytes() == text


def test_figures_of_other_weights_or_other_runs_are_stale(config, data):
    run_benchmark(config, data)
    small_model(variant="plain").save_pretrained(config.path.parent / "didfuse")
    assert sum("measured with other weights" in line for line in stale_figures(config)) == 3
    small_model().save_pretrained(config.path.parent / "didfuse")
    text = SHORT.replace("EN: 7.25", "EN: 7.5").replace("rule: average", "rule: l1")
    config.path.write_text(text, encoding="utf-8")
    lines = stale_figures(read_config(config.path))
    assert [line.rpartition(": ")[2].partition(";")[0] for line in lines] == [
        "other printed values",
        "not measured yet",
        "no such run",
    ]


def test_figures_of_other_options_are_stale(config, data):
    run_benchmark(config, data)
    path = config.path.parent / "didfuse" / "config.json"
    stored = json.loads(path.read_text())

    def stale(**facts):
        path.write_text(json.dumps({**stored, **facts}), encoding="utf-8")
        return stale_figures(config)

    assert stale(fusionzoo_version="9.9") == []
    (line,) = stale(options={**stored["options"], "rule": "max"})
    assert "didfuse results near" in line, "the comparison of rules sets its own"
    assert "measured with other weights or options" in line
    assert len(stale(options={**stored["options"], "gain": 1.25})) == 3


def test_only_stale_runs_are_run_when_asked(config, data):
    run_benchmark(config, data)
    header, *lines = config.results.read_text().splitlines(keepends=True)
    gone = [line for line in lines if line.startswith("didfuse,results,")]
    marked = [line.replace(",no,3,", ",no,9,") for line in lines if line not in gone]
    config.results.write_text("".join([header, *marked]))
    run_benchmark(config, data, stale=True)
    found = config.results.read_text().splitlines(keepends=True)
    assert gone, "there was something to drop"
    assert sorted(found[1:]) == sorted([*gone, *marked])


def test_runs_that_differ_in_measuring_only_fuse_once(tmp_path, data, monkeypatch):
    config = read_config(config_file(tmp_path, CONFIG.replace("[far]", "[near]")))
    small_model().save_pretrained(config.path.parent / "didfuse", card="# Card\n")
    fused = []
    fuse = FusionModule.fuse
    monkeypatch.setattr(FusionModule, "fuse", lambda *a, **k: fused.append(1) or fuse(*a, **k))
    run_benchmark(config, data, only=["didfuse/results"])
    assert [run.stretch for run in config.runs if run.table == "results"] == [False, True]
    assert len(fused) == 3, "three pairs, plain and stretched"


def test_the_command_runs_and_writes_tables(config, data, capsys):
    command = ["benchmark", "--config", str(config.path), "--data", str(data)]
    assert main([*command, "--only", "didfuse/results"]) == 0
    assert f"wrote {config.results}" in capsys.readouterr().out
    assert "| **didfuse** |" in (config.path.parents[1] / "README.md").read_text(encoding="utf-8")
    assert main([*command, "--sets", "neer"]) == 2
    assert "there are near, far" in capsys.readouterr().err
    assert main([*command, "--device", "gpu"]) == 2
    assert "no such device" in capsys.readouterr().err
    assert main([*command, "--only", "coconet"]) == 1
    assert "there are didfuse/results, didfuse/rules" in capsys.readouterr().err


def test_the_command_needs_a_config_and_data(config, capsys, monkeypatch):
    monkeypatch.delenv("FUSIONZOO_TEST_DATA", raising=False)
    assert main(["benchmark", "--config", str(config.path)]) == 2
    assert "give --data DIR" in capsys.readouterr().err
    assert main(["benchmark", "--config", str(config.path.parent / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_missing_folders_and_broken_images_stop_it(config, data):
    with pytest.raises(FileNotFoundError, match="test set 'near'"):
        run_benchmark(config, data / "elsewhere")
    (data / "near" / "test" / "vi" / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"didfuse on near: not measured:\n  b: .*b\.png"):
        run_benchmark(config, data)
    assert not config.results.exists()


def test_missing_weights_stop_it(config, data):
    (config.path.parent / "didfuse" / "model.safetensors").unlink()
    text = SHORT.replace("didfuse", "didfuse.unheard_of")
    config.path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"no published weights called 'didfuse\.unheard_of'"):
        run_benchmark(read_config(config.path), data)


def test_a_darkened_set_is_measured_with_darkened_sources(config, data):
    text = config.path.read_text(encoding="utf-8")
    plain = {f.metric: f.ours for f in run_benchmark(config, data) if f.table == "results"}
    folders = "folders: near/test"
    assert folders in text
    text = text.replace(folders, f"{folders}, darken_ir: 0.5, darken_vi: 0.25")
    config.path.write_text(text, encoding="utf-8")
    found = run_benchmark(read_config(config.path), data)
    dark = {figure.metric: figure.ours for figure in found if figure.table == "results"}
    method = fused_by("x", small_model())
    folder = data / "near" / "test"
    wanted = evaluate(
        *(folder / "ir", folder / "vi", [method]),
        metrics=["EN", "SD", "MSE"],
        prepare=lambda pair: darkened(pair, 0.5, 0.25),
    )
    assert dark == {name: pytest.approx(wanted.mean("x", name), abs=1e-4) for name in dark}
    assert dark["SD"] < plain["SD"]


@pytest.mark.parametrize("factor", ["0", "1.5", "dark"])
def test_darkening_by_what_is_no_share_is_refused(config, factor):
    text = config.path.read_text(encoding="utf-8")
    text = text.replace("folders: near/test", f"folders: near/test, darken_vi: {factor}")
    config.path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"darken_vi must be above 0 .* not .*{factor}"):
        read_config(config.path)


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


def test_bench_of_metrics(tmp_path, capsys):
    out = tmp_path / "speed.json"
    command = ["bench", "--metrics", "cddfuse", "--size", "64x48", "--runs", "2", "--threads", "1"]
    assert main([*command, "--device", "cpu", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["protocol"], result["width"], result["height"]) == ("cddfuse", 64, 48)
    assert list(result["values"]) == list_metrics("cddfuse", columns_only=True)
    assert 0 < result["seconds_min"] <= result["seconds_median"] <= result["seconds_max"]
    assert "cddfuse" in capsys.readouterr().out


def test_bench_of_metrics_knows_every_protocol():
    assert sorted(bench.PROTOCOLS) == sorted(list_protocols())


def test_bench_of_metrics_refuses():
    with pytest.raises(ValueError, match="at least 1"):
        measure_metrics(runs=0)
    with pytest.raises(RuntimeError, match="did you mean tang"):
        measure_metrics("tank", size=(32, 32), runs=1)
