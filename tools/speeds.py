"""How long published weights take: ``speed.csv``, one line for each, beside the figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from fusionzoo.errors import InputError

SPEED_NAME = "speed.csv"


@dataclass(frozen=True)
class Speed:
    """What one set of weights takes to fuse one pair.

    Attributes:
        model: key of the weights.
        weights: :func:`fusionzoo.weights.fingerprint` of the weights and options that were timed.
        size: width and height of the pair, as ``640x480``.
        milliseconds: median of ``runs`` calls of ``model.fuse``.
        memory_mb: largest resident memory of the process, 10^6 bytes.
        runs: timed calls.
        threads: of the CPU.
        device: what the processor calls itself.
        torch: its version.
    """

    model: str
    weights: str
    size: str
    milliseconds: float
    memory_mb: float
    runs: int
    threads: int
    device: str
    torch: str

    @property
    def machine(self) -> str:
        """What it was timed on: only speeds of one machine can be compared."""
        cores = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.device}, {cores}"


def read_speeds(folder: Path) -> dict[str, Speed]:
    """The speeds by the key of their weights; no file means that none was measured.

    Raises:
        InputError: the file is not what :func:`speeds_text` writes.
    """
    path = folder / SPEED_NAME
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            speeds = [_speed(line) for line in csv.DictReader(stream)]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: {error!r}; write it anew with tools/time_models.py"
            ) from None
    return {speed.model: speed for speed in speeds}


def speeds_text(speeds: Iterable[Speed]) -> str:
    """The speeds as CSV, in the order of their keys."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Speed))
    writer.writerows(astuple(speed) for speed in sorted(speeds, key=lambda speed: speed.model))
    return text.getvalue()


def _speed(line: dict[str, str]) -> Speed:
    return Speed(
        model=line["model"],
        weights=line["weights"],
        size=line["size"],
        milliseconds=float(line["milliseconds"]),
        memory_mb=float(line["memory_mb"]),
        runs=int(line["runs"]),
        threads=int(line["threads"]),
        device=line["device"],
        torch=line["torch"],
    )
