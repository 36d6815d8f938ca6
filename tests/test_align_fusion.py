"""What alignment wins back is measured: on a model and an alignment that are known exactly."""

import align_fusion
import numpy as np
import pytest
import torch
from data_helpers import asset

from fusionzoo.alignment import AlignmentError
from fusionzoo.alignment.warping import warped


class Mean:
    """Takes the mean of both images; ``align=True`` undoes the warp that the test applied."""

    def __init__(self, knows=None):
        self.knows = knows

    def fuse(self, ir, vi, align=None):
        if align:
            if self.knows is None:
                raise AlignmentError("refused")
            ir = self.knows(ir)
        return ((ir.astype(float) + vi) / 2).round().astype(np.uint8)


@pytest.fixture
def pair():
    return tuple(asset(f"tno_{side}.png")[:96, :128] for side in ("ir", "vi"))


def test_a_perfect_alignment_wins_nearly_all_back(pair, monkeypatch):
    moves = {}

    def known(strength, height, width, seed):
        moves["last"] = torch.eye(3, dtype=torch.float64)
        moves["last"][0, 2] = 6
        return moves["last"]

    def undone(ir):
        if not moves:  # the pair as it is
            return ir
        back = torch.linalg.inv(moves["last"])
        return warped(torch.from_numpy(ir.copy())[None], back, ir.shape)[0].numpy()

    monkeypatch.setattr(align_fusion, "known_transform", known)
    rows = dict(align_fusion.rows_of(Mean(undone), *pair, "a/{}/0"))
    assert list(rows) == ["easy", "medium", "hard"]
    for metric in align_fusion.METRICS:
        as_it_is, same, off, back = (rows["easy"][case][metric] for case in align_fusion.CASES)
        assert same == as_it_is
        assert off < as_it_is
        assert back == pytest.approx(as_it_is, abs=1e-6)
    text = align_fusion.table({strength: [row] for strength, row in rows.items()})
    assert text.count("| 100% |") == 6


def test_what_is_refused_counts_as_not_aligned(pair):
    rows = dict(align_fusion.rows_of(Mean(), *pair, "a/{}/0"))
    assert rows["hard"]["warped, aligned"] == rows["hard"]["warped"]
    assert rows["hard"]["warped"]["Qabf"] < rows["hard"]["as it is"]["Qabf"]
