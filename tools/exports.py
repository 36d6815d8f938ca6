"""Export published weights, and print how far files differ, how fast they are and what they take.

    python tools/exports.py                # all weights
    python tools/exports.py lapnet chitnet

Rows of ``docs/export.md``: greatest difference from the network; seconds of the processor and peak
memory for one pair of 640 x 480 on one thread, each runtime in a process of its own. Seconds of the
processor, unlike those of a clock, do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import fusionzoo
from fusionzoo.errors import FusionZooError
from fusionzoo.export import export_model

_CHILD = """
import json, sys, time
import numpy as np
name, path = sys.argv[1:]
rng = np.random.default_rng(0)
pair = [rng.random((1, 1, 480, 640), np.float32) for _ in range(2)]
if path:
    from fusionzoo.export.running import open_exported
    run = open_exported(path, threads=1).run
else:
    import torch
    import fusionzoo
    from fusionzoo.network import ready_copy
    torch.set_num_threads(1)
    ready = ready_copy(fusionzoo.load(name).network, torch.device("cpu"), torch.float32)
    @torch.inference_mode()
    def run(*images):
        return ready(*map(torch.from_numpy, images))
run(*pair)
start = time.process_time()
run(*pair)
seconds = time.process_time() - start
status = open("/proc/self/status").read()
peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
print(json.dumps([seconds, peak]))
"""


def measured(name: str, path: str) -> str:
    """``seconds / MB`` of one pair, in a process of its own."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, name, path], capture_output=True, text=True, check=False
    )
    if child.returncode:
        return (child.stderr.strip().splitlines() or ["killed"])[-1][:80]
    seconds, peak = json.loads(child.stdout.splitlines()[-1])
    return f"{seconds:.2f} s, {peak:.0f} MB"


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
