"""The contrast that ``gain`` sets."""

import pytest
import torch

from fusionzoo.errors import InputError
from fusionzoo.models.spread import check_gain, spread


def maps():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 8, 9, generator=generator, dtype=torch.float64) + 0.7


@pytest.mark.parametrize("gain", [0.4, 1.6])
def test_deviations_from_each_map_s_mean_are_multiplied(gain):
    x = maps()
    mean = x.mean((2, 3), keepdim=True)
    assert torch.allclose(spread(x, gain), mean + gain * (x - mean))
    assert mean.std() > 0.01


def test_far_from_the_mean_nothing_is_multiplied():
    x = maps()
    x[..., 0, 0] += 1000
    away = x - x.mean((2, 3), keepdim=True)
    added = spread(x, 1.5, reach=0.1) - x
    assert torch.allclose(added, 0.05 * torch.tanh(away / 0.1))
    near = spread(x, 1.5, reach=1e6)
    assert torch.allclose(near, spread(x, 1.5)), "with a long reach all is near"


def test_a_gain_of_1_changes_nothing():
    x = maps()
    assert spread(x, 1.0) is x
    assert spread(x, 1.0, reach=0.1) is x


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan")])
def test_a_gain_that_is_not_above_0_is_refused(gain):
    with pytest.raises(InputError, match="gain must be above 0"):
        check_gain(gain)
