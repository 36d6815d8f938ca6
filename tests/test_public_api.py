"""The public names, and that importing the package stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fusionzoo

PACKAGE = Path(fusionzoo.__file__).parent

PUBLIC = [
    "Alignment",
    "FusedVolume",
    "Reading",
    "__version__",
    "align",
    "align_rig",
    "create_model",
    "from_pretrained",
    "fuse",
    "fuse_volumes",
    "list_models",
    "load",
    "open_image",
    "push_to_hub",
]

HEAVY = [
    "torch",
    "torchvision",
    "lightning",
    "pytorch_lightning",
    "torchmetrics",
    "kornia",
    "timm",
    "numpy",
    "scipy",
    "PIL",
    "matplotlib",
    "safetensors",
    "jsonargparse",
    "huggingface_hub",
    "tensorboard",
]


def test_public_names_are_pinned():
    assert fusionzoo.__all__ == PUBLIC


def test_public_names_resolve_and_are_listed():
    for name in PUBLIC:
        assert getattr(fusionzoo, name) is not None
        assert name in dir(fusionzoo)


def test_star_import_gives_the_public_names():
    names = {}
    exec("from fusionzoo import *", names)
    assert set(PUBLIC) <= names.keys()


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        fusionzoo.lod  # noqa: B018


def test_type_checkers_see_every_lazy_name():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    guarded = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.name: statement.module
        for block in guarded
        for statement in block.body
        for alias in statement.names
    }
    assert seen == fusionzoo._HOMES
    assert set(seen) | {"__version__"} == set(PUBLIC)
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize(
    "statement",
    [
        "import fusionzoo",
        "import fusionzoo; assert 'didfuse' in fusionzoo.list_models()",
        "import fusionzoo; fusionzoo.list_models(pretrained=True)",
        "import fusionzoo.zoo, fusionzoo.weights, fusionzoo.models",
    ],
)
def test_listing_models_imports_nothing_heavy(statement):
    # A fresh interpreter: this one has had everything imported by other tests.
    script = f"import sys; {statement}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
