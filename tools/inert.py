"""Show what parts of published weights do: set tensors to 0, and compare what is fused.

    python tools/inert.py KEY --zero NAME [NAME ...] [--set SET] --data DIR
    python tools/inert.py KEY --apart MODULE [MODULE ...] [--set SET] --data DIR

SET is a test set of checkpoints/benchmark.yaml, usually pairs held back from the training of KEY;
crops from the middle of its first pairs are fused. ``--zero`` takes names of the network's tensors,
with shell wildcards and, in brackets, an index of their first two axes
(``decoder.mix.weight[:,128:512]``), and prints the change in grey levels and the metrics before and
after. ``--apart`` takes names of modules that see both sources, and prints the mean square of the
difference between their outputs for infrared and for visible. Cards quote these tables.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from measure import pairs_of
from overviews import row, text_of
from runs import read_benchmark
from ship import DATA_VARIABLE
from torch import Tensor, nn

from fusionzoo import zoo
from fusionzoo.data.decoding import as_tensor, load_pair
from fusionzoo.data.pairs import Pair
from fusionzoo.errors import InputError, check_choice
from fusionzoo.metrics import per_image
from fusionzoo.module import FusionModule

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = "cddfuse"
METRICS = ("EN", "SD", "AG", "VIF", "Qabf", "SSIM", "SCD")
_NAME = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<first>[\d:]*),(?P<second>[\d:]*)\])?")

Pairs = Sequence[tuple[Tensor, Tensor]]


def main(arguments: Sequence[str] | None = None, checkpoints: Path = ROOT / "checkpoints") -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("key", help="of published weights")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--zero", nargs="+", metavar="NAME", help="tensors to set to 0")
    what.add_argument("--apart", nargs="+", metavar="MODULE", help="modules to compare")
    parser.add_argument("--set", default="heldback", help="test set (default: heldback)")
    parser.add_argument("--pairs", type=int, default=20, help="its first so many (default: 20)")
    parser.add_argument("--crop", type=int, default=160, help="side in pixels (default: 160)")
    parser.add_argument(
        "--data", default=os.environ.get(DATA_VARIABLE), help=f"default: {DATA_VARIABLE}"
    )
    args = parser.parse_args(arguments)
    if not args.data:
        parser.error("--data names the folder that the test sets are in")
    benchmark = read_benchmark(checkpoints)
    check_choice("--set", args.set, benchmark.sets)
    pairs = [
        crop(pair, args.crop)
        for pair in pairs_of(benchmark.sets[args.set], args.data)[: args.pairs]
    ]
    model = zoo.load(checkpoints / args.key)
    table = zeroed_table(model, args.zero, pairs) if args.zero else gaps(model, args.apart, pairs)
    print(f"{len(pairs)} pairs of {args.set}, {args.crop}×{args.crop} pixels in their middle:\n")
    print(table, end="")


def crop(pair: Pair, side: int) -> tuple[Tensor, Tensor]:
    """The middle of both images in grey, ``(1, 1, side, side)`` in [0, 1]; all of smaller ones."""
    loaded = load_pair(pair)
    parts = []
    for image in (as_tensor(loaded.ir), as_tensor(loaded.vi)):
        top, left = (max(length - side, 0) // 2 for length in image.shape[-2:])
        part = image[..., top : top + side, left : left + side]
        if len(part) == 3:
            part = (part * part.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(0, True)
        parts.append(part[None])
    return parts[0], parts[1]


def zeroed_table(model: FusionModule, names: Sequence[str], pairs: Pairs) -> str:
    """What setting tensors to 0 changes, as Markdown."""
    changed = copy.deepcopy(model)
    count, total, size = set_to_zero(changed.network, names)
    before, after = ([fused_by(each, *pair) for pair in pairs] for each in (model, changed))
    changes = torch.cat([(b - a).flatten() * 255 for a, b in zip(before, after, strict=True)])
    means = {
        label: _means(images, pairs) for label, images in (("as shipped", before), ("0", after))
    }
    lines = row("", *METRICS) + row("---", *["---:"] * len(METRICS))
    for label, values in means.items():
        lines += row(label, *(f"{value:.4g}" for value in values))
    listed = ", ".join(f"`{name}`" for name in names)
    beside = f", beside {size:.3g} of the rest of the same tensors" if size else ""
    told = (
        f"{listed}: {count:,} values of mean size {total / max(count, 1):.3g}{beside}. "
        f"Change of the fused images in grey levels of 255: mean size {changes.abs().mean():.2g}, "
        f"greatest {changes.abs().max():.2g}, standard deviation {changes.std():.2g}."
    )
    return text_of([told, "", *lines])


def set_to_zero(network: nn.Module, names: Sequence[str]) -> tuple[int, float, float]:
    """Set tensors to 0; return how many values, the sum of their sizes, and the others' mean size.

    Raises:
        InputError: a name is none of the network's, or not of the form that this takes.
    """
    tensors = dict(network.named_parameters())
    count, total, rest, others = 0, 0.0, 0.0, 0
    for text in names:
        match = _NAME.fullmatch(text)
        known = [key for key in tensors if match and fnmatchcase(key, match["name"])]
        if match is None or not known:
            raise InputError(f"{text}: no such tensor; there are {', '.join(list(tensors)[:8])} …")
        for key in known:
            with torch.no_grad():
                tensor = tensors[key]
                chosen = tensor
                if match["first"] is not None:
                    chosen = tensor[_slice(match["first"]), _slice(match["second"])]
                count, total = count + chosen.numel(), total + chosen.abs().sum().item()
                whole, part = tensor.abs().sum().item(), chosen.abs().sum().item()
                rest, others = rest + whole - part, others + tensor.numel() - chosen.numel()
                chosen.zero_()
    return count, total, rest / others if others else 0.0


def gaps(model: FusionModule, names: Sequence[str], pairs: Pairs) -> str:
    """Mean squares of the differences between modules' outputs for both sources, as Markdown."""
    modules = dict(model.network.named_modules())
    for name in names:
        check_choice("--apart", name, [known for known in modules if known])
    seen: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str, output: Tensor) -> None:
        first, second = output.chunk(2)  # one batch for both sources
        seen[name].append((first - second).square().mean())

    handles = [
        modules[name].register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name in names
    ]
    with torch.no_grad():
        low, high = model.network.value_range
        for ir, vi in pairs:
            model.network(*(image * (high - low) + low for image in (ir, vi)))
    for handle in handles:
        handle.remove()
    lines = row("module", "least", "mean", "greatest") + row("---", *["---:"] * 3)
    for name, values in seen.items():
        found = torch.stack(values)
        lines += row(f"`{name}`", *(f"{x:.3g}" for x in (found.min(), found.mean(), found.max())))
    return text_of(lines)


def fused_by(model: FusionModule, ir: Tensor, vi: Tensor) -> Tensor:
    """The fused image ``(1, 1, H, W)`` in [0, 1], not rounded."""
    fused: Tensor = model.fuse(ir, vi)
    return fused


def _means(images: Sequence[Tensor], pairs: Pairs) -> list[float]:
    """Each metric's mean over pairs, of images rounded to 8 bits."""
    values = [
        per_image(PROTOCOL, METRICS, *((x * 255).round() / 255 for x in (fused, ir, vi)))
        for fused, (ir, vi) in zip(images, pairs, strict=True)
    ]
    return [torch.cat([each[name] for each in values]).mean().item() for name in METRICS]


def _slice(text: str) -> slice:
    first, _, last = text.partition(":")
    return slice(int(first) if first else None, int(last) if last else None)


if __name__ == "__main__":
    main()
