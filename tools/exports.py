"""Export published weights, and print how far files differ, how fast they are and what they take.

    python tools/exports.py                # all weights
    python tools/exports.py lapnet chitnet

Rows of ``docs/export.md``: greatest difference from the network; seconds of the processor and peak
memory for one pair of 640 x 480 on one thread, each runtime in a process of its own. Seconds of the
processor, unlike those of a clock, do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fusionzoo
from fusionzoo.errors import FusionZooError, ResultError
from fusionzoo.export import export_model, open_exported
from fusionzoo.processes import ask, resident_memory


def measured(name: str, path: str) -> str:
    """``seconds / MB`` of one pair, in a process of its own."""
    try:
        seconds, peak = ask("exports", "run_here", {"name": name, "path": path}, failure=name)
    except ResultError as error:
        return str(error)[:80]
    return f"{seconds:.2f} s, {peak / 1e6:.0f} MB"


def run_here(name: str, path: str) -> tuple[float, int | None]:
    """Seconds of the processor for a pair, and the peak of memory; no path means the network."""
    rng = np.random.default_rng(0)
    pair = [rng.random((1, 1, 480, 640), np.float32) for _ in range(2)]
    run = open_exported(path, threads=1).run if path else _network(name)
    run(*pair)
    start = time.process_time()
    run(*pair)
    return time.process_time() - start, resident_memory()


def _network(name: str) -> Callable[..., Any]:
    import torch  # files are measured without it

    from fusionzoo.network import ready_copy

    torch.set_num_threads(1)
    ready = ready_copy(fusionzoo.load(name).network, torch.device("cpu"), torch.float32)

    def run(*images: np.ndarray) -> Any:
        with torch.inference_mode():
            return ready(*map(torch.from_numpy, images))

    return run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=fusionzoo.list_models())
    parser.add_argument("--formats", nargs="+", default=["onnx", "xml", "pt2"])
    args = parser.parse_args()
    print("| weights | format | greatest difference | file | 640×480 |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names:
            print(f"| {name} | torch | – | – | {measured(name, '')} |", flush=True)
            for ending in args.formats:
                path = Path(folder, f"{name}.{ending}")
                try:
                    info = export_model(fusionzoo.load(name), path)
                except FusionZooError as error:
                    print(f"| {name} | {ending} | {error} | | |", flush=True)
                    continue
                size = sum(file.stat().st_size for file in Path(folder).glob(f"{name}.*")) / 1e6
                print(
                    f"| {name} | {ending} | {info.max_difference:.0e} | {size:.1f} MB | "
                    f"{measured(name, str(path))} |",
                    flush=True,
                )
                for file in Path(folder).iterdir():
                    file.unlink()


if __name__ == "__main__":
    main()
