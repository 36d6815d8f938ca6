"""``fusionzoo evaluate``."""

import json
import subprocess
import sys

import pytest
from cli_helpers import environment
from evaluate_helpers import fused, small_model, sources

from fusionzoo.cli import main


@pytest.fixture
def folders(tmp_path):
    ir, vi = sources(tmp_path)
    fused(tmp_path / "ours", 0.4)
    fused(tmp_path / "theirs", 0.1)
    return ["evaluate", "--ir", str(ir), "--vi", str(vi), "--device", "cpu"]


def test_folders_side_by_side(folders, tmp_path, capsys):
    out = tmp_path / "out.json"
    command = [*folders, "--fused", str(tmp_path / "ours"), f"other={tmp_path / 'theirs'}"]
    assert main([*command, "--metrics", "SD,MSE", "EN", "-o", str(out), "--per-image"]) == 0
    content = json.loads(out.read_text())
    assert [method["name"] for method in content["methods"]] == ["ours", "other"]
    assert list(content["higher_is_better"]) == ["SD", "MSE", "EN"]
    lines = capsys.readouterr().out.splitlines()
    assert "Protocol cddfuse" in lines[0]
    assert "3 pairs" in lines[0]
    assert lines[1].split() == ["ours", "other"]
    for method in content["methods"]:
        mark = {1: " *", 2: " +"}[method["place"]["SD"]]
        assert f"{method['mean']['SD']:.2f} ± {method['std']['SD']:.2f}{mark}" in lines[2]
    assert sum(line.startswith("night/c ") for line in lines) == 2


def test_several_outputs_and_a_plot(folders, tmp_path):
    pytest.importorskip("matplotlib")
    names = ("out.csv", "out.md", "out.png", "out.svg")
    command = [*folders, "--fused", str(tmp_path / "ours"), "--metrics", "SD", "--stretch"]
    for name in names:
        command += ["--plot" if name[-3:] in ("png", "svg") else "-o", str(tmp_path / name)]
    assert main(command) == 0
    assert all((tmp_path / name).stat().st_size for name in names)
    assert ",yes," in (tmp_path / "out.csv").read_text()


def test_models_fuse_on_the_fly(folders, tmp_path):
    saved = small_model().save_pretrained(tmp_path / "mine")
    out = tmp_path / "out.json"
    command = [*folders, "--model", f"sum={saved}", str(saved), "--set", "rule=sum"]
    command += ["--fused", str(tmp_path / "ours"), "--metrics", "SD", "-o", str(out)]
    assert main(command) == 0
    ours, first, second = json.loads(out.read_text())["methods"]
    assert (ours["name"], first["name"], second["name"]) == ("ours", "sum", "mine")
    assert first["mean"] == second["mean"] != ours["mean"]
    assert first["source"] == f"{saved} rule=sum"
    assert main([*command[:-1], str(tmp_path / "average.json"), "--set", "rule=average"]) == 0
    other = json.loads((tmp_path / "average.json").read_text())["methods"][1]
    assert other["mean"] != first["mean"]


def test_what_is_missing_is_listed_and_fails(folders, tmp_path, capsys):
    (tmp_path / "ours" / "b.png").unlink()
    out = tmp_path / "out.csv"
    command = [*folders, "--fused", str(tmp_path / "ours"), "--metrics", "SD", "-o", str(out)]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert f"{tmp_path / 'ours' / 'b'}: there is no fused image" in captured.err
    assert "2 pairs" in captured.out
    assert out.is_file()


def test_nothing_in_common_writes_nothing(folders, tmp_path, capsys):
    for name in ("a", "night/c"):
        (tmp_path / "ours" / f"{name}.png").unlink()
    (tmp_path / "theirs" / "b.png").unlink()
    out = tmp_path / "out.csv"
    command = [*folders, "--fused", str(tmp_path / "ours"), str(tmp_path / "theirs")]
    assert main([*command, "--metrics", "SD", "-o", str(out)]) == 1
    assert "no pair was measured for every method" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "give --fused DIR or --model NAME"),
        (["--fused", "{}/ours", "--set", "rule=sum"], "give --model"),
        (["--fused", "{}/ours", "{}/./ours"], "two methods are called ours"),
        (["--fused", "{}/nowhere"], "no such folder of fused images"),
        (["--fused", "{}/ours", "--protocol", "cdfuse"], "did you mean 'cddfuse'?"),
        (["--fused", "{}/ours", "--metrics", "SDD"], "did you mean 'SD'"),
        (["--fused", "{}/ours", "-o", "{}/out.xlsx"], "name a file that ends in"),
        (["--fused", "{}/ours", "--plot", "{}/out.gif"], "name a file that ends in"),
        (["--fused", "{}/ours", "--vi", "{}/nowhere"], "no such folder"),
    ],
)
def test_usage(folders, tmp_path, capsys, extra, message):
    assert main([*folders, *(part.format(tmp_path) for part in extra)]) == 2
    assert message in capsys.readouterr().err


def test_a_plot_without_matplotlib_is_refused_before_the_work(
    folders, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plot = ["--plot", str(tmp_path / "out.png")]
    assert main([*folders, "--fused", str(tmp_path / "ours"), *plot]) == 2
    captured = capsys.readouterr()
    assert "pip install 'fusionzoo[plot]'" in captured.err
    assert captured.out == ""


def test_help_needs_no_torch():
    script = (
        "import sys; from fusionzoo.cli import main\n"
        "try: main(['evaluate', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert "usage: fusionzoo evaluate" in run.stdout
    assert run.stdout.splitlines()[-1] == "False"
