"""The table of models: every paper this package implements, by name.

The table is written out by hand on purpose (no decorators, no scanning of subclasses), so that
reading this file tells what exists, and importing it imports no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusionzoo.module import FusionModule

__all__ = ["MODELS", "ModelEntry", "build_table"]


@dataclass(frozen=True)
class ModelEntry:
    """One paper: where its class is, and what can be said of it without importing it.

    Attributes:
        name: what users call the model; lower case, no dot (a dot separates name and tag).
        path: the class as ``"package.module:Class"``.
        title: the paper's title.
        paper: the paper's address or identifier.
        year: the year the implemented version of the paper appeared.
        modalities: what the two inputs of ``fuse`` are, in order.
        tasks: what the model is meant for.
        importer: ``"package.module:function"`` that reads weights released by the authors, if any.
    """

    name: str
    path: str
    title: str
    paper: str
    year: int
    modalities: tuple[str, str] = ("infrared", "visible")
    tasks: tuple[str, ...] = ("infrared-visible",)
    importer: str | None = None

    def model_class(self) -> type[FusionModule]:
        """Import and return the model's class (this is where torch gets loaded)."""
        return _resolve(self.path)


def build_table(entries: Iterable[ModelEntry]) -> dict[str, ModelEntry]:
    """Index entries by name.

    Raises:
        ValueError: a name is taken twice, or has a form that ``load`` could not tell from a tag.
    """
    table: dict[str, ModelEntry] = {}
    for entry in entries:
        if not entry.name.isidentifier() or entry.name != entry.name.lower():
            raise ValueError(
                f"model name {entry.name!r}: use lower-case letters, digits and underscores only"
            )
        if entry.name in table:
            raise ValueError(
                f"two models are called {entry.name!r}: {table[entry.name].path} and {entry.path}; "
                "rename one of them"
            )
        table[entry.name] = entry
    return table


def _resolve(path: str):
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


MODELS: dict[str, ModelEntry] = build_table(
    (
        ModelEntry(
            name="didfuse",
            path="fusionzoo.models.didfuse.module:DIDFuse",
            title="DIDFuse: Deep Image Decomposition for Infrared and Visible Image Fusion",
            paper="https://www.ijcai.org/proceedings/2020/135",
            year=2020,
            importer="fusionzoo.models.didfuse.importer:import_didfuse",
        ),
    )
)
