"""Draw the leaderboard: bars of VIF and Qabf, and quality against the time for a pair.

    python tools/leaderboard_plot.py leaderboard.svg

The site draws it anew each time it is built. Blue is measured here, orange is quoted.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib
from choice import current_speeds
from figures import read_figures
from leaderboard import Entry, entries
from matplotlib.figure import Figure as Picture
from overviews import title
from runs import read_benchmark

from fusionzoo.files import write_whole

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
COLOURS = {False: "#1f77b4", True: "#ff7f0e"}
SET = "tno"


def leaderboard_svg() -> str:
    """The picture as SVG; the right part is empty until speeds are measured."""
    benchmark = read_benchmark(CHECKPOINTS)
    lines = entries(benchmark, read_figures(benchmark.results))[SET]
    lines = [line for line in lines if {"VIF", "Qabf"} <= line.values.keys()]
    times = {key: speed.milliseconds for key, speed in current_speeds(benchmark).items()}
    timed = [line for line in lines if not line.quoted and not line.note and line.method in times]
    with matplotlib.rc_context({"svg.hashsalt": "fusionzoo", "svg.fonttype": "none"}):
        picture = Picture(figsize=(11, 0.35 * len(lines) + 1.2), layout="constrained")
        panels = picture.subplots(1, 3 if timed else 2)
        for panel, metric in zip(panels, ("VIF", "Qabf"), strict=False):
            ordered = sorted(lines, key=lambda line: line.values[metric])
            values = [line.values[metric] for line in ordered]
            panel.barh(range(len(values)), values, color=[COLOURS[o.quoted] for o in ordered])
            panel.set_yticks(range(len(values)), [_label(line) for line in ordered], fontsize=8)
            panel.set_title(f"{metric}, {title(benchmark, SET)}", fontsize=10)
        if timed:
            panel = panels[2]
            for line in timed:
                place = (times[line.method], line.values["VIF"] + line.values["Qabf"])
                panel.plot(*place, "o", color=COLOURS[False])
                panel.annotate(line.method, place, fontsize=8, xytext=(4, 4),
                               textcoords="offset points")  # fmt: skip
            panel.set_xscale("log")
            panel.set_xlabel("milliseconds for a pair of 640×480", fontsize=8)
            panel.set_title("VIF + Qabf against time", fontsize=10)
        text = io.StringIO()
        picture.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _label(line: Entry) -> str:
    return line.method + (", stretched" if line.note == "stretched" else "")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/leaderboard_plot.py OUT.svg")
    write_whole(Path(sys.argv[1]), leaderboard_svg().encode())
