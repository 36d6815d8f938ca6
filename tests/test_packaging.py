"""The conda recipe says what pyproject.toml says."""

import importlib.metadata
import re
from pathlib import Path

import pytest
import yaml

import fusionzoo

ROOT = Path(__file__).resolve().parent.parent
RECIPE = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
#: What conda-forge calls otherwise.
NAMES = {"torch": "pytorch"}
EXTRAS = {"jsonargparse[signatures]": ("docstring_parser", "typeshed-client")}

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def parts(requirement):
    """``name[extras]>=1,<2`` -> name, extras, the set of bounds."""
    name, extras, bounds = re.fullmatch(
        r"([\w.-]+)(?:\[([\w,]+)\])?\s*([^;]*)", requirement.split(";")[0].strip()
    ).groups()
    return name, extras, frozenset(filter(None, re.split(r"[,\s]+", bounds)))


def test_requirements_are_those_of_pyproject():
    wanted = {}
    for name, extra, bounds in map(parts, PROJECT["project"]["dependencies"]):
        wanted[NAMES.get(name, name)] = bounds
        wanted |= dict.fromkeys(EXTRAS[f"{name}[{extra}]"] if extra else (), frozenset())
    python, *listed = map(parts, RECIPE["requirements"]["run"])
    assert python[0] == "python"
    assert {name: bounds for name, _, bounds in listed} == wanted


def test_extras_bring_what_is_listed_for_them():
    for requirement, names in EXTRAS.items():
        name, extra, _ = parts(requirement)
        brought = importlib.metadata.requires(name)
        assert set(names) <= {
            parts(one)[0].replace("docstring-parser", "docstring_parser")
            for one in brought
            if re.search(rf"extra == ['\"]{extra}['\"]", one)
        }


def test_the_rest_is_that_of_pyproject():
    project = PROJECT["project"]
    context = RECIPE["context"]
    assert context["version"] == fusionzoo.__version__
    assert project["requires-python"] == f">={context['python_min']}"
    assert RECIPE["about"]["license"] == project["license"]
    assert (ROOT / RECIPE["about"]["license_file"]).is_file()
    assert RECIPE["about"]["summary"] == project["description"]
    command = project["scripts"]["fusionzoo"]
    assert RECIPE["build"]["python"]["entry_points"] == [f"fusionzoo = {command}"]
    assert RECIPE["package"]["name"] == project["name"]
    built_with = {
        name: bounds for name, _, bounds in map(parts, RECIPE["requirements"]["host"][2:])
    }
    assert built_with == {n: b for n, _, b in map(parts, PROJECT["build-system"]["requires"])}
    source = ROOT / "packaging" / "conda" / RECIPE["source"]["path"]
    assert source.resolve() == ROOT
