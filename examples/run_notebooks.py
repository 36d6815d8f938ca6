"""Run the notebooks from a clean kernel and write their outputs back: for maintainers.

python examples/run_notebooks.py [--check] [NAME.ipynb …]

Each runs in a temporary copy of this folder, in this Python, on the CPU. Pictures are stored as
JPEG, and nothing that changes from run to run is kept. --check writes nothing and fails if a
notebook's outputs differ from those committed in more than digits.
"""

import argparse
import base64
import io
import os
import re
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

HERE = Path(__file__).resolve().parent
CELL_SECONDS = 600


class ThisPython(AsyncKernelManager):
    """Starts kernels of the Python that runs this, whatever is installed as "python3"."""

    @property
    def kernel_spec(self):
        start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        quiet = ["--IPKernelApp.log_level=40"]
        return KernelSpec(argv=[*start, *quiet], display_name="Python 3", language="python")


def copied(to):
    """A copy of what the notebooks need, in a folder of the same name."""
    folder = Path(to) / HERE.name
    folder.mkdir()
    for file in HERE.iterdir():
        if file.suffix in (".ipynb", ".png"):
            shutil.copy(file, folder)
    return folder


def executed(notebook, folder):
    """Run a notebook file with ``folder`` as working directory; gives it with its outputs.

    Raises CellExecutionError where a cell does.
    """
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content,
        timeout=CELL_SECONDS,
        kernel_manager_class=ThisPython,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    with tempfile.TemporaryDirectory() as private:
        paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "IPYTHONDIR": private,  # no profile or history of whoever runs this
            "CUDA_VISIBLE_DEVICES": "",
        }
        client.execute(env=env)
    return tidy(content)


def tidy(content):
    """Drop what changes from run to run, and make pictures small."""
    content.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in content.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/jpeg"] = as_jpeg(data.pop("image/png"))
            if "text/plain" in data and "image/jpeg" in data:
                data["text/plain"] = "<picture>"  # holds an address in memory
            if "metadata" in output:
                output.metadata = {}
    return content


def as_jpeg(png):
    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        colors = image if image.mode in ("L", "RGB") else image.convert("RGB")
        colors.save(stream, format="JPEG", quality=88, subsampling=0, optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def problems(content):
    """What is wrong with a notebook's stored outputs."""
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    found = []
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"cells were run in the order {counts}, not from top to bottom")
    outputs = [output for cell in code for output in cell.outputs]
    if not outputs:
        found.append("there are no outputs")
    for output in outputs:
        if output.output_type == "error":
            found.append(f"a cell raised {output.ename}")
        if output.get("name") == "stderr":
            found.append(f"a cell wrote to stderr: {output.text.strip()[:200]}")
    return found


def shown(content):
    """Outputs for comparison: kinds and texts, with numbers left out."""
    return [
        [
            (sorted(output.get("data", ())), re.sub(r"[-−\d.]+", "#", text_of(output)))
            for output in cell.outputs
        ]
        for cell in content.cells
        if cell.cell_type == "code"
    ]


def text_of(output):
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def write(path, content):
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.write_text(nbformat.writes(content) + "\n", encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NAME.ipynb")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on differences")
    args = parser.parse_args()
    failed = False
    for path in [HERE / file.name for file in args.notebooks] or sorted(HERE.glob("*.ipynb")):
        committed = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as temporary:
            folder = copied(temporary)
            try:
                content = executed(folder / path.name, folder)
            except CellExecutionError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
                failed = True
                continue
        wrong = problems(committed if args.check else content)
        if args.check and shown(content) != shown(committed):
            wrong.append("outputs differ from a new run; run this without --check")
        for problem in wrong:
            print(f"{path.name}: {problem}", file=sys.stderr)
        failed |= bool(wrong)
        if not args.check and not wrong:
            write(path, content)
        print(f"{path.name}: {'not as it should be' if wrong else 'good'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
