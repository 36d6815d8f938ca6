"""Imports point down, networks stand alone, and no paper leans on another.

Every import statement counts, those inside functions and under TYPE_CHECKING too.
"""

import ast
import sys
from pathlib import Path

import pytest

import fusionzoo

PACKAGE = Path(fusionzoo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import rooms of a lower rank, and itself.
RANK = {
    "_version": 0,
    "errors": -1,
    "files": -1,
    "remote": 0,
    "lazy": 0,
    "processes": 1,
    "overlap": 0,
    "volume_names": 0,
    "strips": 0,
    "network": 2,
    "pairing": 1,
    "readers": 1,
    "inference": 2,
    "saliency": 2,
    "alignment": 3,
    "weights": 1,
    "metrics": 3,
    "data": 3,
    "losses": 4,
    "video": 4,
    "volumes": 4,
    "evaluation": 4,
    "module": 5,
    "export": 6,
    "models": 6,
    "zoo": 7,
    "": 8,  # fusionzoo/__init__.py: the public names
    "demo": 9,
    "plot": 9,
    "speed": 9,
    "cli": 10,
    "__main__": 11,
}
NETWORK_NEEDS = {"torch", "timm", "kornia"}
# What a network may take from this package: no room of it, only what has no needs of its own.
SHARED_BY_NETWORKS = {"fusionzoo.errors", "fusionzoo.models.spread", "fusionzoo.strips"}


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, module: str, is_package: bool) -> set[str]:
    """Return the absolute names of what a module's source imports.

    ``from x import y`` gives ``x.y``: whether ``y`` is a module or a name in ``x``, the first
    components tell what this test needs.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = node.level - 1 if is_package else node.level
                base = ".".join([*parts[: len(parts) - above], *([base] if base else [])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def imports_of(file: Path) -> set[str]:
    source = file.read_text(encoding="utf-8")
    return imported_modules(source, module_name(file), file.name == "__init__.py")


def room_of(module: str) -> str:
    """Return the room that a name under ``fusionzoo`` belongs to."""
    parts = module.split(".")
    if len(parts) == 1:
        return ""
    first = parts[1]
    is_room = (PACKAGE / f"{first}.py").is_file() or (PACKAGE / first).is_dir()
    return first if is_room else ""


def papers_of(modules: set[str]) -> set[str]:
    """Return the papers whose folders the modules lie in."""
    prefix = "fusionzoo.models."
    names = {module[len(prefix) :].split(".")[0] for module in modules if module.startswith(prefix)}
    return {name for name in names if (PACKAGE / "models" / name).is_dir()}


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def test_import_parsing():
    source = "import a.b\nfrom . import c\nfrom .d import e\nfrom ..f import g\nfrom h import i"
    assert imported_modules(source, "p.q.r", False) == {"a.b", "p.q.c", "p.q.d.e", "p.f.g", "h.i"}
    assert imported_modules("from .d import e", "p.q", True) == {"p.q.d.e"}


def test_every_room_has_a_rank():
    rooms = {room_of(module_name(file)) for file in FILES}
    assert rooms <= RANK.keys(), "give the new file at top level its place in RANK"


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_imports_point_down(file):
    here = room_of(module_name(file))
    upward = {
        module
        for module in imports_of(file)
        if module.split(".")[0] == "fusionzoo"
        and room_of(module) != here
        and RANK[room_of(module)] >= RANK[here]
    }
    assert not upward


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_the_package_does_not_import_the_maintainers_tools(file):
    tools = {"tools", *(path.stem for path in (PACKAGE.parent / "tools").glob("*.py"))}
    assert not {module.split(".")[0] for module in imports_of(file)} & tools


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_data_and_models_meet_only_in_the_batch(file):
    here = room_of(module_name(file))
    rooms = {room_of(module) for module in imports_of(file) if module.startswith("fusionzoo")}
    assert {here, *rooms} & {"data", "models"} != {"data", "models"} or here == "cli"


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("models/*/**/*.py")), ids=relative)
def test_no_paper_imports_another(file):
    own = file.relative_to(PACKAGE / "models").parts[0]
    assert papers_of(imports_of(file)) <= {own}


@pytest.mark.parametrize("network", sorted(PACKAGE.glob("models/*/network.py")), ids=relative)
def test_networks_need_torch_timm_and_kornia_only(network):
    # A network may be spread over files of its own folder, which then obey the same rule.
    paper = module_name(network).rpartition(".")[0]
    seen, queue = set(), [network]
    while queue:
        file = queue.pop()
        seen.add(file)
        for module in imports_of(file):
            if module.startswith(f"{paper}."):
                sibling = PACKAGE.parent.joinpath(*paper.split("."), module.split(".")[3] + ".py")
                assert sibling.is_file(), f"{relative(file)} imports {module}"
                if sibling not in seen:
                    queue.append(sibling)
            elif module.rpartition(".")[0] not in SHARED_BY_NETWORKS:
                root = module.split(".")[0]
                assert root in NETWORK_NEEDS or root in sys.stdlib_module_names, (
                    f"{relative(file)} imports {module}"
                )


def test_every_paper_has_a_network():
    folders = [path for path in (PACKAGE / "models").iterdir() if (path / "__init__.py").is_file()]
    assert folders
    assert [path.name for path in folders if not (path / "network.py").is_file()] == []
