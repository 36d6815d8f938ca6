"""Fuse a pair that the memory does not hold whole, and print what that takes.

    python tools/large_images.py                                # 8000x6000 in 4 GB, all weights
    python tools/large_images.py didfuse lapnet --size 4000x3000 --memory 2GB

Rows of ``docs/large_images.md``, as ``fusionzoo bench`` measures them: seconds of the processor on
one thread, which what else the machine does changes little, and the memory taken beyond the model
and the two images. A model is fused in a process of its own.
"""

from __future__ import annotations

import argparse

import fusionzoo
from fusionzoo.cli.options import add_tile_options, image_size
from fusionzoo.errors import ResultError
from fusionzoo.speed import measure_fusing


def row(name: str, size: tuple[int, int], tile: int | str, memory: float | None) -> str:
    """The row of a model."""
    try:
        found = measure_fusing(name, size=size, tile=tile, memory=memory, runs=0, threads=1)
    except ResultError as error:
        return f"| {name} | {error} | |"
    extra = found["memory_extra_mb"]
    taken = "–" if extra is None else f"{extra / 1e3:.2f} GB"
    return f"| {name} | {size[0]}×{size[1]} | {found['seconds_processor']:.0f} s | {taken} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=fusionzoo.list_models())
    parser.add_argument("--size", type=image_size, default=(8000, 6000), metavar="WxH")
    add_tile_options(parser)
    parser.set_defaults(memory=4e9)
    args = parser.parse_args()
    print("| weights | image | time of the processor | memory taken |")
    print("| --- | --- | --- | --- |", flush=True)
    for name in args.names:
        print(row(name, args.size, args.tile, args.memory), flush=True)


if __name__ == "__main__":
    main()
