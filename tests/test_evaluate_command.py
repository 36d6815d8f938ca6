"""``fusionzoo evaluate``."""

import errno
import json
import os
import subprocess
import sys

import pytest
from cli_helpers import environment
from evaluate_helpers import blend, crop, fused, save, small_model, sources

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
    names = ("out.csv", "out.md", "out.tex", "out.png", "out.svg", "out.pdf")
    command = [*folders, "--fused", str(tmp_path / "ours"), "--metrics", "SD", "--stretch"]
    for name in names:
        command += ["--plot" if name[-3:] in ("png", "svg", "pdf") else "-o", str(tmp_path / name)]
    assert main(command) == 0
    assert all((tmp_path / name).stat().st_size for name in names)
    assert ",yes," in (tmp_path / "out.csv").read_text()


def test_files_side_by_side_are_paired_by_pattern(tmp_path, capsys):
    for number, name in enumerate(("a", "b")):
        for side in ("ir", "rgb"):
            pixels = crop("ir" if side == "ir" else "vi", number)
            save(tmp_path / "all" / f"{name}.{side}.png", pixels)
        save(tmp_path / "ours" / f"{name}_fused.png", blend(0.4, number))
    command = ["evaluate", "--ir", f"{tmp_path}/all/*.ir.png", "--vi", f"{tmp_path}/all/*.rgb.png"]
    command += ["--fused", f"{tmp_path}/ours/*_fused.png", "--metrics", "SD", "--device", "cpu"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 pairs" in lines[0]
    assert lines[1].split() == ["ours"]
    (tmp_path / "ours" / "b_fused.png").unlink()
    assert main(command) == 1
    assert f"{tmp_path}/ours/b_fused.png: there is no fused image" in capsys.readouterr().err


def test_unquoted_patterns_are_explained(folders, capsys):
    assert main([*folders, "a_ir.png", "b_ir.png"]) == 2
    assert "quote a pattern" in capsys.readouterr().err


def test_unreadable_subfolders_are_reported(folders, tmp_path, capsys, monkeypatch):
    locked = {str(tmp_path / side / "night") for side in ("ir", "vi", "ours")}
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path) in locked:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert main([*folders, "--fused", str(tmp_path / "ours"), "--metrics", "SD"]) == 1
    lines = list(filter(None, capsys.readouterr().err.splitlines()))
    assert {line.partition(":")[0] for line in lines} == locked
    assert all("cannot be looked into (Permission denied)" in line for line in lines)


def test_a_full_disk_is_one_line_and_the_other_files_are_written(
    folders, tmp_path, capsys, monkeypatch
):
    def full(stream):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    command = [*folders, "--fused", str(tmp_path / "ours"), "--metrics", "SD"]
    for name in ("out.csv", "out.tex"):
        command += ["-o", str(tmp_path / name)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(command) == 1
    captured = capsys.readouterr()
    assert "Protocol cddfuse" in captured.out
    first, second = filter(None, captured.err.splitlines())
    assert f"{tmp_path / 'out.csv'} cannot be written (No space left on device)" in first
    assert "out.tex cannot be written" in second
    assert not {"out.csv", "out.tex"} & set(os.listdir(tmp_path))
    (tmp_path / "out.csv").mkdir()
    assert main(command) == 2
    assert "is a folder; name a file" in capsys.readouterr().err


def test_locked_folders_are_refused_before_the_work(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    command = [*folders, "--fused", str(tmp_path / "ours")]
    assert main([*command, "-o", str(tmp_path / "out.csv")]) == 2
    captured = capsys.readouterr()
    assert f"the folder {tmp_path} is locked" in captured.err
    assert captured.out == ""


def test_a_plot_never_replaces_an_image(folders, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    before = (tmp_path / "vi" / "a.png").read_bytes()
    command = [*folders, "--fused", str(tmp_path / "ours"), "--metrics", "SD"]
    assert main([*command, "--plot", str(tmp_path / "ours" / ".." / "vi" / "a.png")]) == 2
    assert "is one of the images to measure" in capsys.readouterr().err
    assert (tmp_path / "vi" / "a.png").read_bytes() == before


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
        (["--fused", "{}/ours", "--metrics", ""], "--metrics names no metric"),
        (["--fused", "{}/ours", "-o", "{}/out.xlsx"], "name a file that ends in"),
        (["--fused", "{}/ours", "--plot", "{}/out.gif"], "name a file that ends in"),
        (["--fused", "{}/ours", "-o", "{}/fifo.csv"], "fifo.csv is no regular file"),
        (["--fused", "{}/ours", "--vi", "{}/nowhere"], "no such folder"),
    ],
)
def test_usage(folders, tmp_path, capsys, extra, message):
    os.mkfifo(tmp_path / "fifo.csv")
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
