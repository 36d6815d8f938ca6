"""docs/add_a_paper.md: what it says, done with its own code in a copy of this repository."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_helpers import pairs_folder

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "add_a_paper.md").read_text(encoding="utf-8")
FILES = re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
(ENTRY,) = re.findall(r"^```python\n( +ModelEntry\(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
TEST, FIT, SHIP = re.findall(r"^```sh\n(.*)\n```$", GUIDE, re.MULTILINE)
COPIED = (
    "fusionzoo",
    "checkpoints",
    "tools",
    "tests/assets",
    "tests/golden",
    "README.md",
    "docs/results.md",
    "pyproject.toml",
    *(
        f"tests/{name}"
        for name in re.findall(r"tests/(test_\w+\.py)", TEST)
        if (ROOT / "tests" / name).is_file()
    ),
)

# The commands of the guide and what follows, in one process: torch and Lightning load for seconds.
# It runs in the copy, and imports fusionzoo from there.
SCRIPT = """
import json
import sys

sys.path.insert(0, "tools")
import golden
import pytest
import ship

import fusionzoo
from fusionzoo.cli import main

fit, shipping, tests = json.loads(sys.argv[1])
assert main(fit) == 0
print("SHIP")
assert ship.main(shipping) == 0
print("AGAIN")
assert ship.main(["toynet"]) == 0
print("CHECK")
assert ship.main(["toynet", "--check"]) == 0
assert ship.stale(ship.all_keys(), with_golden=False) == []
assert golden.problem("toynet") is None
assert {"toynet"} <= {*fusionzoo.list_models()} & {*fusionzoo.list_models(pretrained=True)}
assert fusionzoo.load("toynet").fuse("tests/assets/cli_ir.png", "tests/assets/cli_vi.png").size
print("TESTS")
sys.exit(pytest.main(tests))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """What is needed of this repository, with the files and the entry of the guide added."""
    copy = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for name, text in FILES:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
    table = copy / "fusionzoo" / "models" / "__init__.py"
    head, end = table.read_text(encoding="utf-8").rsplit("    )\n)", 1)
    table.write_text(f"{head}{ENTRY}    )\n){end}", encoding="utf-8")
    for part in ("train", "test"):
        pairs_folder(copy / "data" / "tno" / part, ["1", "2"], size=48)
    yield copy
    shutil.rmtree(copy)  # all published weights are in it


def words(line):
    """The arguments of a command of the guide."""
    return [word.replace("DIR", "data") for word in shlex.split(line)]


def told_by_the_commands(copy):
    """What each of them prints."""
    _, *fit = words(FIT)
    fit += ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.num_workers=0"]
    _, script, *shipping = words(SHIP)
    assert (copy / script).is_file()
    _, *tests = words(TEST)
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    for variable in ("FUSIONZOO_TEST_DATA", "FUSIONZOO_HOME"):
        environment.pop(variable, None)
    question = json.dumps([fit, shipping, [*tests, "-q", "-p", "no:cacheprovider"]])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, question],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return re.split("^(?:SHIP|AGAIN|CHECK|TESTS)$", run.stdout, flags=re.MULTILINE)


@pytest.mark.slow
def test_the_guide_as_it_is_written(copy):
    figures = (copy / "checkpoints" / "results.csv").read_text(encoding="utf-8").splitlines()
    _, shipped, again, check, tests = told_by_the_commands(copy)
    for step in ("folder", "entry", "golden", "measured", "figures", "cards", "tables"):
        assert re.search(rf"^  {step} +\S", shipped, re.MULTILINE), shipped
    assert "write checkpoints/toynet/README.md where it says TO WRITE" in shipped
    assert "draw the picture of the card" in shipped
    assert "wrote" not in again
    assert "measured" not in again
    assert check.strip() == "nothing is stale"
    assert re.search(r"\d+ passed", tests)

    rows = (copy / "checkpoints" / "results.csv").read_text(encoding="utf-8").splitlines()
    own = [row.split(",") for row in rows if row.startswith("toynet,")]
    assert [row for row in rows if not row.startswith("toynet,")] == figures
    assert {(row[3], row[4]) for row in own} == {("tno", "cddfuse"), ("tno", "zoo")}
    shared = yaml.safe_load((copy / "checkpoints" / "benchmark.yaml").read_text(encoding="utf-8"))
    assert [row[8] for row in own if row[4] == "zoo"] == shared["metrics"]["further"]

    readme, results, card = (
        (copy / name).read_text(encoding="utf-8")
        for name in ("README.md", "docs/results.md", "checkpoints/toynet/README.md")
    )
    assert "| [`toynet`](checkpoints/toynet/README.md) | infrared-visible |" in readme
    link = "[`toynet`](../checkpoints/toynet/README.md)"
    assert f"| {link} | [A Toy Paper for Image Fusion]" in results
    for text in (results, card):
        assert re.search(r"^\| \*\*toynet\*\* \| \d", text, re.MULTILINE)
    assert "| paper ¹ | 6.900 | 40.00 |" in card
    assert "| training data | TNO (30 pairs) |" in card
