"""Fresh Python processes: what is measured or proved there has nothing of this one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusionzoo.errors import ResultError

__all__ = ["ask", "resident_memory"]

# The child gets its import path along with the question: it runs the same package as this one.
_CHILD = (
    "import importlib, json, sys; question = json.load(sys.stdin); "
    "sys.path[:] = question['path']; module = importlib.import_module(question['module']); "
    "print(json.dumps(getattr(module, question['function'])(**question['arguments'])))"
)


def ask(
    module: str,
    function: str,
    arguments: Mapping[str, Any],
    *,
    failure: str,
    threads: int | None = None,
) -> Any:
    """Call a function in a new process; arguments and result are what JSON holds.

    Args:
        module: where the function is.
        function: its name.
        arguments: by name.
        failure: how the error begins, such as ``"the process that is measured failed"``.
        threads: of the CPU, for libraries that read it from the environment.

    Raises:
        ResultError: the process failed; the error that ended it is part of the message.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
    question = {"module": module, "function": function, "path": sys.path}
    child = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps({**question, "arguments": dict(arguments)}),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise ResultError(f"{failure}: {_why(child)}")
    return json.loads(child.stdout.splitlines()[-1])


def resident_memory(peak: bool = True) -> int | None:
    """Bytes of memory that this process has had at most, or has now; None where nobody tells.

    What it has now is known on Linux only.
    """
    # Linux's getrusage starts at the size of the process that started this one; this does not.
    status, name = Path("/proc/self/status"), "VmHWM:" if peak else "VmRSS:"
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    if not peak:
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most * (1 if sys.platform == "darwin" else 1024)


def _why(child: subprocess.CompletedProcess[str]) -> str:
    """The message of the error that ended the process, without the error's class."""
    if child.returncode < 0:
        return f"signal {-child.returncode} ended it; does the memory suffice?"
    last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
    return re.sub(r"^(\w+\.)*\w*Error: ", "", last)
