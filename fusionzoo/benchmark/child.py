"""A fresh Python process to measure in, so that nothing else of this one counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def ask_child(code: str, question: Mapping[str, Any], threads: int | None, does: str) -> Any:
    """Run ``code`` in a new process and return the JSON of the last line it prints.

    Args:
        code: reads the question as JSON from standard input; ``path`` in it is ``sys.path`` here.
        question: plain values.
        threads: of the CPU; None leaves the choice to torch.
        does: what the process is for, in the error's words.

    Raises:
        RuntimeError: the process failed; the last line of its error is part of the message.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
    child = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({**question, "path": sys.path}),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        why = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        raise RuntimeError(f"the process that {does} failed: {why[0]}")
    return json.loads(child.stdout.splitlines()[-1])
