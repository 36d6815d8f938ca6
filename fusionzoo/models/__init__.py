"""The table of models: every paper this package implements, by name.

The table is written out by hand on purpose (no decorators, no scanning of subclasses), so that
reading this file tells what exists, and importing it imports no network.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fusionzoo.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from fusionzoo.module import FusionModule

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "ROLES",
    "Importer",
    "ModelEntry",
    "Roles",
    "build_table",
    "split_key",
]


#: The published weights that ``fusionzoo.fuse`` and the commands use where none are named.
DEFAULT_MODEL = "lapnet"


class Roles(NamedTuple):
    """What the two images of a task are.

    Attributes:
        modalities: the first and the second input of ``fuse``.
        color_from: the image that gives the result its colour and kind: ``"ir"`` is the first,
            ``"vi"`` the second.
    """

    modalities: tuple[str, str]
    color_from: Literal["ir", "vi"]


#: The tasks that models are made for, by the name that ``task`` options and key tags use.
ROLES: Mapping[str, Roles] = MappingProxyType(
    {
        "infrared-visible": Roles(("infrared", "visible"), "vi"),
        "medical": Roles(("functional", "MRI"), "ir"),
    }
)


def split_key(key: str) -> tuple[str, str]:
    """Split a key of weights, ``name`` or ``name.tag``, into name and tag (``""`` without one)."""
    name, _, tag = key.partition(".")
    return name, tag


@dataclass(frozen=True)
class Importer:
    """How weights that a paper's authors released become weights of this package.

    Attributes:
        path: the reader as ``"package.module:function"``; it takes one path for each of ``files``
            and returns the network's state.
        files: what each file is, in the order in which they are given.
        options: model options that the released weights go with.
        source: where the authors publish the files.
        licence: under what terms they do.
    """

    path: str
    files: tuple[str, ...]
    source: str
    licence: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def function(self) -> Callable[..., dict[str, Any]]:
        """Import and return the reader."""
        reader: Callable[..., dict[str, Any]] = _resolve(self.path)
        return reader


@dataclass(frozen=True)
class ModelEntry:
    """One paper: where its class is, and what can be said of it without importing it.

    Attributes:
        name: what users call the model; lower case, no dot (a dot separates name and tag).
        path: the class as ``"package.module:Class"``.
        title: the paper's title.
        paper: the paper's address.
        year: the year of that publication.
        tasks: what the model is meant for, keys of :data:`ROLES`; the first is that of weights
            without a tag. Weights for another one have its name as their tag
            (``coconet.medical``).
        importer: how to read weights that the authors released, if they did.
    """

    name: str
    path: str
    title: str
    paper: str
    year: int
    tasks: tuple[str, ...] = ("infrared-visible",)
    importer: Importer | None = None

    def task_of(self, key: str) -> str:
        """What weights are for, from their key: its tag, where that is a task, or the first."""
        _, tag = split_key(key)
        return tag if tag in self.tasks else self.tasks[0]

    def modalities_of(self, key: str) -> tuple[str, str]:
        """What the two inputs are for a key of published weights, ``name`` or ``name.tag``."""
        return ROLES[self.task_of(key)].modalities

    def model_class(self) -> type[FusionModule]:
        """Import and return the model's class (this is where torch gets loaded)."""
        model_class: type[FusionModule] = _resolve(self.path)
        return model_class

    def network_builder(self) -> Callable[..., nn.Module]:
        """Import and return ``build`` of the paper's ``network.py``.

        It takes those of the model's options that the network depends on, by name, and returns
        the network. What fuses images needs no more; the class brings Lightning and the losses.
        """
        build: Callable[..., nn.Module] = _resolve(f"{self.path.rpartition('.')[0]}.network:build")
        return build

    def option_names(self) -> frozenset[str]:
        """Names of the options of the model's class, read from its source: nothing is imported."""
        constructor = self._constructor()
        _, *options = (*constructor.args.args, *constructor.args.kwonlyargs)  # without self
        return frozenset(option.arg for option in options)

    def option_defaults(self) -> dict[str, Any]:
        """Defaults of the options, read likewise; those that take Python to compute are left out.

        An option that is missing in a stored config came after the version that wrote it. Its
        default is what the weights were made with.
        """
        arguments = self._constructor().args
        placed = arguments.args[len(arguments.args) - len(arguments.defaults) :]
        pairs = [
            *zip(placed, arguments.defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        defaults = {}
        for option, default in pairs:
            if default is not None:
                with suppress(ValueError):
                    defaults[option.arg] = ast.literal_eval(default)
        return defaults

    def _constructor(self) -> ast.FunctionDef:
        module, _, name = self.path.partition(":")
        spec = find_spec(module)
        assert spec, f"{self.name}: there is no {module}"
        source = Path(str(spec.origin)).read_text(encoding="utf-8")
        (model,) = (
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.ClassDef) and node.name == name
        )
        (constructor,) = (
            node
            for node in model.body
            if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        )
        return constructor


def build_table(entries: Iterable[ModelEntry]) -> Mapping[str, ModelEntry]:
    """Index entries by name, read-only.

    Raises:
        InputError: a name is taken twice, or has a form that ``load`` could not tell from a tag.
    """
    table: dict[str, ModelEntry] = {}
    for entry in entries:
        if not entry.name.isidentifier() or entry.name != entry.name.lower():
            raise InputError(
                f"model name {entry.name!r}: use lower-case letters, digits and underscores only"
            )
        if entry.name in table:
            raise InputError(
                f"two models are called {entry.name!r}: {table[entry.name].path} and {entry.path}; "
                "rename one of them"
            )
        table[entry.name] = entry
    return MappingProxyType(table)


def _resolve(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


MODELS: Mapping[str, ModelEntry] = build_table(
    (
        ModelEntry(
            name="chitnet",
            path="fusionzoo.models.chitnet.module:CHITNet",
            title=(
                "CHITNet: A Complementary to Harmonious Information Transfer Network for "
                "Infrared and Visible Image Fusion"
            ),
            paper="https://arxiv.org/abs/2309.06118",
            year=2023,
        ),
        ModelEntry(
            name="coconet",
            path="fusionzoo.models.coconet.module:CoCoNet",
            title=(
                "CoCoNet: Coupled Contrastive Learning Network with Multi-level Feature Ensemble "
                "for Multi-modality Image Fusion"
            ),
            paper="https://arxiv.org/abs/2211.10960",
            year=2023,
            tasks=("infrared-visible", "medical"),
            importer=Importer(
                path="fusionzoo.models.coconet.importer:import_coconet",
                files=("file",),
                source="https://github.com/runjia0124/CoCoNet (logs/latest.pth)",
                licence="MIT; VGG-19 part CC BY 4.0",
                options=MappingProxyType(
                    {
                        "variant": "released",
                        "attention_rule": "released",
                        "vgg_levels": ["low", "middle", "high"],
                        "gain": 1.0,
                    }
                ),
            ),
        ),
        ModelEntry(
            name="didfuse",
            path="fusionzoo.models.didfuse.module:DIDFuse",
            title="DIDFuse: Deep Image Decomposition for Infrared and Visible Image Fusion",
            paper="https://www.ijcai.org/proceedings/2020/135",
            year=2020,
            importer=Importer(
                path="fusionzoo.models.didfuse.importer:import_didfuse",
                files=("encoder", "decoder"),
                source="https://github.com/Zhaozixiang1228/IVIF-DIDFuse",
                licence="none published by the authors",
                options=MappingProxyType({"rule": "sum", "channel_attention": "none", "gain": 1.0}),
            ),
        ),
        ModelEntry(
            name="ifesnet",
            path="fusionzoo.models.ifesnet.module:IFESNet",
            title="Interactive Feature Embedding for Infrared and Visible Image Fusion",
            paper="https://arxiv.org/abs/2211.04877",
            year=2022,
        ),
        ModelEntry(
            name="lapnet",
            path="fusionzoo.models.lapnet.module:LapNet",
            title="LapNet: A Laplacian Pyramid with Learned Selection",
            paper="https://github.com/fusionzoo/fusionzoo/blob/main/docs/lapnet.md",
            year=2026,
            tasks=("infrared-visible", "medical"),
        ),
        ModelEntry(
            name="smfnet",
            path="fusionzoo.models.smfnet.module:SMFNet",
            title="A Semantic-Aware and Multi-Guided Network for Infrared-Visible Image Fusion",
            paper="https://arxiv.org/abs/2407.06159",
            year=2025,
            tasks=("infrared-visible", "medical"),
            importer=Importer(
                path="fusionzoo.models.smfnet.importer:import_smfnet",
                files=("file",),
                source="https://github.com/Abraham-Einstein/SMFNet (models/model_VIF.pth)",
                licence="none published by the authors",
                options=MappingProxyType({"variant": "released"}),
            ),
        ),
    )
)
