"""The notebooks run from a clean kernel, and are committed with outputs of such a run."""

import importlib.util
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
BYTES = 700_000


@pytest.fixture(scope="module")
def runner():
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    spec = importlib.util.spec_from_file_location("run_notebooks", EXAMPLES / "run_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stem(path):
    return path.stem


def test_there_are_notebooks():
    names = {"quickstart", "train_your_own", "medical", "alignment", "video", "temperatures"}
    assert {path.stem for path in NOTEBOOKS} >= names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_colab_opens_this_notebook_and_installs_what_it_needs(path):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    cells = nbformat.read(path, as_version=4).cells
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    address = repository["project"]["urls"]["Changelog"].removesuffix("CHANGELOG.md")
    place = address.removeprefix("https://github.com/") + f"examples/{path.name}"
    assert f"](https://colab.research.google.com/github/{place})" in cells[0].source
    setup = cells[1].source
    assert 'if "google.colab" in sys.modules:' in setup
    assert f"git clone -q --depth 1 {address.removesuffix('/blob/main/')}\n" in setup
    extras = set(re.search(r"pip install -q '\.\[(.*)\]'", setup)[1].split(","))
    assert extras <= repository["project"]["optional-dependencies"].keys()
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    needed = {
        "plot": r"import plot\b|import matplotlib",
        "video": r"import av\b|fusionzoo\.video",
        "flir": r"open_image\(photo",
        "nifti": r"import nibabel",
    }
    assert extras == {extra for extra, used in needed.items() if re.search(used, code)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_committed_outputs_are_those_of_one_clean_run(path, runner):
    text = path.read_text(encoding="utf-8")
    content = nbformat.reads(text, as_version=4)
    nbformat.validate(content)
    assert runner.problems(content) == []
    assert len(text) < BYTES
    # Of whoever ran it nothing is left: run again, nothing would change in what is not a result.
    assert runner.tidy(nbformat.reads(text, as_version=4)) == content
    # Base64 may hold anything by chance, so texts only.
    outputs = [output for cell in content.cells for output in cell.get("outputs", ())]
    said = "\n".join(map(runner.text_of, outputs))
    personal = [str(Path.home()), tempfile.gettempdir(), str(EXAMPLES.parent), "/home/", "/Users/"]
    assert [place for place in personal if len(place) > 1 and place in said] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_runs_from_a_clean_kernel(path, runner, tmp_path, monkeypatch):
    # Threads that wait for cores which other processes have take many times as long.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = runner.copied(tmp_path)
    before = {file.name for file in folder.iterdir()}
    # One of them as from the repository root: where they are run must not matter.
    start = tmp_path if path.stem == "quickstart" else folder
    fresh = runner.executed(folder / path.name, start)
    assert runner.problems(fresh) == []
    committed = nbformat.read(path, as_version=4)
    for now, then in zip(fresh.cells, committed.cells, strict=True):
        if now.cell_type == "code":
            assert bool(then.outputs) == bool(now.outputs), f"not committed: {now.source}"
    assert {file.name for file in folder.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def test_kernel_is_this_python_and_an_error_in_a_cell_is_one_here(runner, tmp_path):
    from nbclient.exceptions import CellExecutionError

    good = tmp_path / "good.ipynb"
    cells = [new_code_cell("import sys"), new_code_cell("print(sys.executable)")]
    nbformat.write(new_notebook(cells=cells), good)
    content = runner.executed(good, tmp_path)
    assert content.cells[1].outputs[0].text.strip() == sys.executable
    assert runner.problems(content) == []

    bad = tmp_path / "bad.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), bad)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        runner.executed(bad, tmp_path)


def test_bad_outputs_are_noticed(runner):
    def notebook(counts, **changes):
        outputs = [new_output("stream", **{"name": "stdout", "text": "1\n", **changes})]
        cells = [new_code_cell("x", execution_count=n, outputs=outputs) for n in counts]
        return new_notebook(cells=cells)

    def first_problem(content):
        return runner.problems(content)[0]

    assert runner.problems(notebook([1, 2])) == []
    assert "order [2, 1]" in first_problem(notebook([2, 1]))
    assert "order [1, 3]" in first_problem(notebook([1, 3]))
    assert "order [None]" in first_problem(notebook([None]))
    assert "stderr" in first_problem(notebook([1], name="stderr"))
    assert "no outputs" in first_problem(new_notebook(cells=[]))
    error = new_output("error", ename="KeyError", evalue="", traceback=[])
    raised = new_notebook(cells=[new_code_cell("x", execution_count=1, outputs=[error])])
    assert "KeyError" in first_problem(raised)


def test_comparison_leaves_numbers_out_and_nothing_else(runner):
    def shown(text):
        output = new_output("stream", name="stdout", text=text)
        return runner.shown(new_notebook(cells=[new_code_cell("x", outputs=[output])]))

    assert shown("loss 0.512") == shown("loss -0.498")
    assert shown("didfuse 1") != shown("coconet 1")
    assert shown("didfuse 1\n") != shown("didfuse 1\nifesnet 2\n")


def test_check_reports_and_writes_nothing(runner, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runner, "HERE", tmp_path / "examples")
    path = tmp_path / "examples" / "small.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell("print('one')")]), path)
    before = path.read_bytes()

    monkeypatch.setattr(sys, "argv", ["run_notebooks.py", "--check"])
    assert runner.main() == 1
    assert re.search("differ from a new run", capsys.readouterr().err)
    assert path.read_bytes() == before
    monkeypatch.setattr(sys, "argv", ["run_notebooks.py"])
    assert runner.main() == 0
    written = path.read_bytes()
    assert written != before
    monkeypatch.setattr(sys, "argv", ["run_notebooks.py", "--check"])
    assert runner.main() == 0
    assert path.read_bytes() == written
    assert [file.name for file in path.parent.iterdir()] == ["small.ipynb"]
