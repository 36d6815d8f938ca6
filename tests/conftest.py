"""Fixtures that several test files ask for."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """For small images: more threads gain nothing, and lose much where other processes run.

    Sums come in the same order in every run, too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
