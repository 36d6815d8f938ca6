"""Warnings of pairs that are allowed and whose picture will probably be wrong."""

from __future__ import annotations

from torch import Tensor

from fusionzoo.errors import warn

# Mean distance of the greatest from the least channel, in [0, 1]: JPEG's noise on grey stays below
# the first, hardly any colour image below the second.
_GREY, _COLOUR = 0.002, 0.02
_STRETCH = 0.02
_ORDERS = {
    "vi": "the infrared image first and the visible one second",
    "ir": "the functional image (PET, SPECT) first and the MRI second",
}


#: A name, height and width in pixels, and millimetres between rows and between columns.
View = tuple[str, tuple[int, int], tuple[float, float]]


class Hints:
    """The warnings of one call, each given once, for the first pair that it fits."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._given:
            self._given.add(kind)
            warn(text)

    def swapped(self, one: Tensor, other: Tensor, names: tuple[str, str], color_from: str) -> None:
        """Warn if the image which the result takes its colour from is grey, and the other not.

        Args:
            one: gives the colour, ``(B, 1 or 3, H, W)`` in [0, 1]; :func:`sample` suffices.
            other: its partner, likewise.
            names: of both, in that order.
            color_from: the argument that ``one`` was.
        """
        if other.shape[1] == 3 and _spread(other) > _COLOUR and _spread(one) < _GREY:
            self._warn(
                "swapped",
                f"{names[1]} is in colour and {names[0]} is grey: they look swapped; pass "
                f"{_ORDERS[color_from]}",
            )

    def stretched(
        self, size: tuple[int, int], target: tuple[int, int], name: str, option: str
    ) -> None:
        """Warn if scaling from one ``(height, width)`` to another changes the aspect ratio."""
        across, down = target[1] / size[1], target[0] / size[0]
        if abs(across / down - 1) > _STRETCH:
            self._warn(
                "stretched",
                f"resize={option!r} stretches {name} from {size[1]} x {size[0]} to {target[1]} x "
                f"{target[0]} (width x height), another aspect ratio; crop to what both images "
                "show first",
            )

    def fields_of_view(self, first: View, second: View) -> None:
        """Warn of two images whose pixels lie at other places in the patient."""
        (one, *first_sides), (other, *second_sides) = first, second
        sides = [
            [pixels * step for pixels, step in zip(*view, strict=True)]
            for view in (first_sides, second_sides)
        ]
        if any(abs(a / b - 1) > _STRETCH for a, b in zip(*sides, strict=True)):
            told = [f"{side[1]:.4g} x {side[0]:.4g} mm" for side in sides]
            self._warn(
                "fields of view",
                f"{one} shows {told[0]} and {other} {told[1]} (width x height), by the spacing of "
                "their pixels: the same pixels are not the same places; bring one onto the grid of "
                "the other first, as fusionzoo.fuse_volumes does with series",
            )

    def channels_first(self, shape: tuple[int, ...], name: str) -> None:
        """Warn of an array that may be one colour image with its channels first."""
        self._warn(
            "channels first",
            f"{name} has shape {shape} and is taken for {shape[0]} grey images; if it is one "
            "colour image, move the channels last, else pass (B, H, W, 1)",
        )


def sample(images: Tensor) -> Tensor:
    """Some pixels of ``(B, C, H, W)``, evenly spaced."""
    step = max(1, min(images.shape[-2:]) // 256)
    return images.detach()[..., ::step, ::step]


def _spread(images: Tensor) -> float:
    if images.shape[1] == 1:
        return 0.0
    few = sample(images)
    return float((few.amax(1) - few.amin(1)).mean())
