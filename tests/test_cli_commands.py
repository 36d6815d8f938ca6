"""The command's frame, and the commands that tell of models: list, bench, import-weights."""

import json
import os
import subprocess
import sys

import pytest
import torch
from cli_helpers import environment, run_cli, small_model
from entries import update_entry

import fusionzoo
from fusionzoo import cli, weights
from fusionzoo.cli import COMMANDS, main
from fusionzoo.cli.listing import model_rows
from fusionzoo.errors import InputError, warn

LIGHT = ("align", "list", "import-weights", "fuse", "bench", "masks")


def test_help_names_every_command(capsys):
    assert main([]) == main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fusionzoo {fusionzoo.__version__}\n"


def test_unknown_command_gives_the_closest_one(capsys):
    assert main(["fusee"]) == 2
    assert "did you mean 'fuse'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", LIGHT)
def test_command_help_explains_it_and_needs_no_torch(command):
    script = (
        "import sys; from fusionzoo.cli import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert f"usage: fusionzoo {command}" in run.stdout
    assert run.stdout.splitlines()[-1] == "False"


def test_python_dash_m_is_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "fusionzoo", "list", "--json"],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert {row["name"].partition(".")[0] for row in json.loads(run.stdout)} == set(
        fusionzoo.list_models(pretrained=False)
    )


def test_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("fusionzoo.cli.listing.model_rows", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "fusionzoo: interrupted\n"


def test_errors_of_libraries_keep_their_traceback(monkeypatch):
    def broken(*args, **kwargs):
        return torch.zeros(2) + torch.zeros(3)

    monkeypatch.setattr("fusionzoo.cli.listing.model_rows", broken)
    with pytest.raises(RuntimeError, match="size of tensor"):
        main(["list"])


def test_what_a_user_can_help_is_one_line(monkeypatch, capsys):
    for error, words in (
        (MemoryError(), "list: the memory does not suffice"),
        (
            PermissionError(13, "Permission denied", "x.png"),
            "list: x.png: Permission denied; check",
        ),
        (RecursionError("maximum recursion depth"), "nested too deeply"),
        (InputError("a: is wrong; do b"), "list: a: is wrong; do b"),
    ):

        def fails(*args, error=error):
            raise error

        monkeypatch.setattr("fusionzoo.cli.listing.model_rows", fails)
        assert main(["list"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("fusionzoo: ")
        assert words in line
        with pytest.raises(type(error)):
            main(["list", "--debug"])


def test_warnings_of_this_package_are_one_line(monkeypatch, capsys):
    def warns(*args):
        warn("x.png: is odd")
        return []

    monkeypatch.setattr("fusionzoo.cli.listing.model_rows", warns)
    assert main(["list"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == "fusionzoo: warning: x.png: is odd"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--jsn"], "--json"),
        (["list", "a", "b"], "'b' is one argument too many"),
        (["fuse", "--overwrit=3", "a", "b", "-o", "c"], "overwrit"),
        (["fuse", "a"], "required: -o/--output"),
        (["import-weights"], "see fusionzoo import-weights --help"),
        (["bench", "--thread5", "1"], "--threads"),
        (["fuse", "", "b", "-o", "c"], "IR: the path is empty"),
        (["fuse", "a", "b", "-o", ""], "-o/--output: the path is empty"),
        (["lst"], "did you mean 'list' or 'test'?"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("arguments", [["--help"], ["fuse", "--help"], ["list"]], ids=str)
def test_a_terminal_of_few_characters(arguments):
    run = run_cli(*arguments, env={"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"})
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"]], ids=str)
def test_output_that_cannot_be_written(arguments):
    with open("/dev/full", "w") as full:
        run = run_cli(*arguments, stdout=full)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "No space left on device" in line


def test_a_pipe_that_closes_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    run = run_cli("list", stdout=writer)
    os.close(writer)
    assert (run.returncode, run.stderr) == (1, "")


def test_a_locked_home_of_weights_is_one_line(tmp_path):
    home = tmp_path / "home"
    small_model(home / "didfuse")
    home.chmod(0)
    try:
        run = run_cli("list", env={"FUSIONZOO_HOME": str(home)}, locked_out=True)
    finally:
        home.chmod(0o700)
    assert run.returncode in (0, 1)
    assert len(run.stderr.splitlines()) == run.returncode
    assert "Traceback" not in run.stderr


def test_debug_shows_the_traceback_of_our_errors():
    with pytest.raises(cli.UsageError):
        main(["fuse", "nowhere", "nowhere", "-o", "x.png", "--debug"])
    assert main(["fuse", "nowhere", "nowhere", "-o", "x.png"]) == 2


# list -----------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A table of weights: those of one model are here, those of a tag are not."""
    home = tmp_path / "home"
    small_model(home / "didfuse")
    table = tmp_path / "weights.json"
    facts = {"origin": "a test", "training_data": "none", "weights_licence": "CC0-1.0"}
    facts["hub_repo"] = None
    cfg = update_entry("didfuse", home / "didfuse", table=table, **facts)
    update_entry("didfuse.far", home / "didfuse", table=table, **facts)
    monkeypatch.setenv("FUSIONZOO_HOME", str(home))
    real = weights.weights_table
    monkeypatch.setattr(weights, "weights_table", lambda path=None: real(path or table))
    return cfg


def test_list_tells_of_weights(published, capsys):
    assert main(["list", "--json", "did*"]) == 0
    near, far = json.loads(capsys.readouterr().out)
    model = fusionzoo.create_model("didfuse", channels=4)
    assert (near["name"], far["name"]) == ("didfuse", "didfuse.far")
    assert (near["weights"], far["weights"]) == ("local", "missing")
    assert near["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert near["bytes"] == published.size
    assert near["weights_licence"] == "CC0-1.0"

    assert main(["list"]) == 0
    table = capsys.readouterr().out
    for cell in ("didfuse.far", "local", "missing", "CC0-1.0", "1.2 k"):
        assert cell in table


@pytest.mark.parametrize(
    ("name", "hint"),
    [("coconett", "did you mean 'coconet'"), ("q*", "there are chitnet, coconet")],
)
def test_list_says_that_nothing_fits(name, hint, capsys):
    assert main(["list", name]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no model fits '{name}'; {hint}" in line
    assert main(["list", name, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_list_without_weights(monkeypatch):
    monkeypatch.setattr(weights, "weights_table", dict)
    rows = model_rows()
    assert [row["name"] for row in rows] == fusionzoo.list_models(pretrained=False)
    assert {row["weights"] for row in rows} == {"none"}
    assert model_rows(pretrained=True) == []
    assert model_rows("no*such") == []


# bench ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "nowhere/speed.json", os.devnull])
def test_bench_looks_where_to_write_first(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fusionzoo.cli.bench.measure_fusing", None)
    assert main(["bench", "--device", "cpu", "--json", place]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert place in line


# import-weights ---------------------------------------------------------------------------------


def test_import_weights_hands_everything_on(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(
        "fusionzoo.zoo.import_weights", lambda name, *paths: seen.append((name, paths)) or paths[-1]
    )
    folder = tmp_path / "out"
    assert main(["import-weights", "didfuse", "e.pkl", "d.pkl", "-o", str(folder)]) == 0
    ((name, paths),) = seen
    assert (name, [str(path) for path in paths]) == ("didfuse", ["e.pkl", "d.pkl", str(folder)])
    assert str(folder) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["e.pkl", "d.pkl"], "e.pkl does not exist"),
        (["e.pkl"], "takes encoder, decoder and the folder"),
    ],
)
def test_import_weights_refuses(files, message, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["import-weights", "didfuse", *files, "-o", str(folder)]) == 1
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_import_weights_help_says_which_files(capsys):
    with pytest.raises(SystemExit):
        main(["import-weights", "--help"])
    assert "didfuse ENCODER DECODER" in capsys.readouterr().out
