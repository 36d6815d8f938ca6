"""What an exported file says of itself, as text by name: every format has a place for that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from fusionzoo._version import __version__
from fusionzoo.errors import InputError

if TYPE_CHECKING:
    from fusionzoo.module import FusionModule

__all__ = ["ExportInfo", "describe"]


@dataclass(frozen=True)
class ExportInfo:
    """What a program has to know of an exported network to run it.

    Attributes:
        name: of the model, or the key of the published weights.
        task: what it is for, such as ``"infrared-visible"``; empty where that is not known.
        modalities: what the inputs ``ir`` and ``vi`` are.
        color_from: the input that gives a colour result its colour, ``"ir"`` or ``"vi"``.
        value_range: smallest and largest value of inputs and output.
        size_multiple: height and width are multiples of this.
        min_size: least height and width.
        reach: how many pixels around a pixel of the result the network looks at; None where that
            is all of the image, or unknown.
        size: ``(width, height)`` where the file takes no other; None where it takes any.
        weights_sha256: of the published ``model.safetensors``, or of the file that
            ``save_pretrained`` writes for these weights.
        weights_licence: terms for the weights; empty where they are not known.
        fusionzoo_version: that wrote the file.
        bytes_per_pixel: the most memory that running the file took in the check, by the image's
            pixels; None before it, or where the system does not tell.
        max_difference: greatest difference from the network on the pairs of the check, for images
            in [0, 1]; None before it.
    """

    name: str
    task: str
    modalities: tuple[str, str]
    color_from: str
    value_range: tuple[float, float]
    size_multiple: int
    min_size: int
    reach: int | None
    size: tuple[int, int] | None
    weights_sha256: str
    weights_licence: str
    fusionzoo_version: str
    bytes_per_pixel: float | None = None
    max_difference: float | None = None

    def as_text(self) -> dict[str, str]:
        """Every attribute as text: plain where it is text, and else as JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_text(cls, texts: Mapping[str, str], source: object) -> ExportInfo:
        """Read what :meth:`as_text` gave.

        Raises:
            InputError: attributes are missing, as in a file of another program, or are damaged.
        """
        kinds = get_type_hints(cls)
        names = [field.name for field in fields(cls)]
        if not set(names) <= texts.keys():
            raise InputError(
                f"{source} was not exported by fusionzoo: it does not say what images it takes. "
                "Write it with `fusionzoo export`, or run it by its own runtime"
            )
        try:
            values: dict[str, Any] = {
                name: texts[name] if kinds[name] is str else _plain(json.loads(texts[name]))
                for name in names
            }
            info = cls(**values)
            info._check()
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise InputError(
                f"{source}: what it says of itself is damaged; export the model again"
            ) from None
        return info

    def _check(self) -> None:
        low, high = self.value_range
        first, second = self.modalities
        sizes = [self.size_multiple, self.min_size, *(self.size or ())]
        reach, memory = self.reach, self.bytes_per_pixel
        right = (
            (reach is None or type(reach) is int)
            and (memory is None or float(memory) > 0)
            and float(low) < float(high)
            and {type(first), type(second)} == {str}
            and self.color_from in ("ir", "vi")
            and all(type(size) is int and size >= 1 for size in sizes)
            and (self.size is None or len(self.size) == 2)
        )
        if not right:
            raise ValueError


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def describe(model: FusionModule, size: tuple[int, int] | None, least: int) -> ExportInfo:
    """Say of a model what goes into its file.

    Args:
        model: the model.
        size: ``(width, height)`` of the only images that the file takes, or None.
        least: height and width that the file takes at least.
    """
    from fusionzoo import weights
    from fusionzoo.network import declared_by, uncompiled

    declared = declared_by(model.network)
    sha256, key = weights.identified(uncompiled(model.network).state_dict())
    tasks = [model.options.get("task"), *model.card_facts.get("tags", ())]
    return ExportInfo(
        name=key or model.name,
        task=str(next(filter(None, tasks), "")),
        modalities=model.modalities,
        color_from=model.color_from,
        value_range=declared["value_range"],
        size_multiple=declared["size_multiple"] if size is None else 1,
        min_size=least if size is None else 1,
        reach=declared["reach"],
        size=size,
        weights_sha256=sha256,
        weights_licence=model.card_facts.get("licence") or "",
        fusionzoo_version=__version__,
    )
