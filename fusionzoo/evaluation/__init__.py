"""Measuring fused images: folders of them, or models that fuse on the fly, side by side.

    from fusionzoo.evaluation import evaluate, fused_folder, fused_by

    model = fusionzoo.load("didfuse")
    methods = [fused_folder("theirs", "theirs/"), fused_by("ours", model)]
    evaluation = evaluate("ir/", "vi/", methods, protocol="cddfuse")
    evaluation.mean("ours", "VIF"), evaluation.std("ours", "VIF"), evaluation.best("VIF")

``fusionzoo evaluate`` is this on the command line.
"""

from fusionzoo.evaluation.measuring import Evaluation, Scores, darkened, evaluate, evaluate_pairs
from fusionzoo.evaluation.methods import Method, fused_by, fused_folder
from fusionzoo.evaluation.plots import draw
from fusionzoo.evaluation.reports import write_report

__all__ = [
    "Evaluation",
    "Method",
    "Scores",
    "darkened",
    "draw",
    "evaluate",
    "evaluate_pairs",
    "fused_by",
    "fused_folder",
    "write_report",
]
