"""Options that several commands share: which model, with what options, where."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fusionzoo.cli import UsageError
from fusionzoo.models import DEFAULT_MODEL

if TYPE_CHECKING:
    import torch


MODEL_HELP = (
    "name, folder written by save_pretrained, .ckpt, or hf://owner/repo[@revision] "
    "(default: %(default)s)"
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``, ``--set``, ``--device``, ``--dtype``."""
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    add_set_option(parser)
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, mps; by default the GPU if there is one",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="type of numbers that the network computes with (default: %(default)s)",
    )


def add_tile_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--tile`` and ``--memory``: how images are cut that the memory does not hold."""
    parser.add_argument(
        "--tile",
        type=_tile,
        default="auto",
        metavar="auto|off|PIXELS",
        help="which images to cut into tiles: those that are too large for the memory (auto), none "
        "(off), or those that are larger than PIXELS x PIXELS",
    )
    parser.add_argument(
        "--memory",
        type=_bytes,
        metavar="SIZE",
        help="memory that fusing may take, such as 2GB or 500MB; by default half of what is free",
    )


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--set``; :func:`model_options` reads what it takes."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="set an option of the model, e.g. rule=average, in place of its stored value; may be "
        "given several times",
    )


def model_options(settings: Iterable[str]) -> dict[str, Any]:
    """The options that ``--set name=value`` gives; values are JSON, or else plain text.

    Raises:
        UsageError: a setting without ``=``.
    """
    options = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise UsageError(f"--set {setting}: write OPTION=VALUE, e.g. rule=average")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
        except RecursionError:
            raise UsageError(f"--set {name}: the value is nested too deeply") from None
    return options


def chosen_device(name: str) -> torch.device:
    """The device of ``--device``; ``auto`` is CUDA, MPS or the CPU, whichever is there first.

    Raises:
        UsageError: no such device, here or at all.
    """
    import torch

    present = ["cpu"]
    if torch.cuda.is_available():
        present = [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), *present]
    if torch.backends.mps.is_available():
        present = ["mps", *present]
    if name == "auto":
        return torch.device(present[0])
    device: torch.device | None = None
    with suppress(RuntimeError):
        device = torch.device(name)
    kinds = {kind.partition(":")[0] for kind in present}
    wanted = None if device is None else name if device.index is not None else device.type
    if device is None or wanted not in {*present, *kinds, "cpu:0", "mps:0"}:
        raise UsageError(f"--device {name}: no such device here; use {' or '.join(present)}")
    return device


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def image_size(text: str) -> tuple[int, int]:
    """Width and height from ``WxH``, for argparse."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write WxH, e.g. 640x480")
    return int(width), int(height)


def _tile(text: str) -> int | str:
    if text in ("auto", "off"):
        return text
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: write auto, off or a number of pixels")
    return int(text)


def _bytes(text: str) -> float:
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([kmgt]?)(i?)b?", text.strip().lower())
    size = 0.0
    if found:
        number, unit, binary = found.groups()
        size = float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " ")
    if not size > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write a number and GB or MB: 2GB")
    return size
