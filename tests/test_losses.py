"""Metrics as losses: the metrics' values, gradients that hold, and a descent that raises them."""

import pytest
import torch
from data_helpers import asset

from fusionzoo.errors import FusionZooError
from fusionzoo.losses import MetricLoss, qabf, scd, ssim, vif
from fusionzoo.metrics import functional, per_image

METRICS = {"vif": vif, "qabf": qabf, "ssim": ssim, "scd": scd}


@pytest.fixture(scope="module")
def pair():
    ir, vi = (torch.tensor(asset(name)).float() / 255 for name in ("tno_ir.png", "tno_vi.png"))
    return ir[None, None], vi[None, None]


@pytest.fixture(scope="module")
def fused(pair):
    ir, vi = pair
    return ((ir + vi) / 2 * 255).round() / 255


def test_values_are_those_of_the_metrics(pair, fused):
    ir, vi = pair
    wanted = {
        "vif": functional.vif(fused, ir, vi, combine="sum"),
        "qabf": functional.qabf(fused, ir, vi),
        "scd": functional.scd(fused, ir, vi),
        "ssim": per_image("cddfuse", ("SSIM",), fused, ir, vi)["SSIM"][0],
    }
    for name, metric in METRICS.items():
        torch.testing.assert_close(
            metric(fused, ir, vi)[0].double(), wanted[name].double(), atol=5e-4, rtol=0
        )
    gaussian = ssim(fused, ir, vi, window="gaussian", data_range=255)
    torch.testing.assert_close(gaussian[0] / 2, functional.ssim(fused, ir, vi), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", METRICS)
def test_gradients_are_those_of_finite_differences(name, pair):
    ir, vi = (image[..., 20:44, 30:54].double() for image in pair)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(ir.shape, generator=generator, dtype=torch.float64)
    fused = (0.4 * ir + 0.5 * vi + 0.1 * noise).requires_grad_()
    # VIF's and SSIM's windows make each pixel matter to many: a few directions do.
    assert torch.autograd.gradcheck(
        lambda image: METRICS[name](image, ir, vi),
        fused,
        eps=1e-7,
        atol=1e-3,
        rtol=1e-2,
        fast_mode=True,
    )


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.3])
def test_flat_images_and_values_beyond_the_range_give_finite_gradients(name, value, pair):
    for ir, vi in (pair, (torch.full_like(pair[0], 0.5),) * 2):
        fused = torch.full_like(ir, value).requires_grad_()
        METRICS[name](fused, ir, vi).sum().backward()
        assert fused.grad.isfinite().all()


def test_descent_raises_what_is_weighted(pair):
    ir, vi = pair
    criterion = MetricLoss(vif=0.3, qabf=2.0, ssim=1.0, scd=0.3)
    fused = ((ir + vi) / 2).requires_grad_()
    before = {name: score.item() for name, score in criterion.scores(fused, ir, vi).items()}
    optimizer = torch.optim.Adam([fused], 5e-3)
    for _ in range(20):
        optimizer.zero_grad()
        criterion(fused, ir, vi).backward()
        optimizer.step()
    after = {name: score.item() for name, score in criterion.scores(fused, ir, vi).items()}
    assert sum(after.values()) > sum(before.values()) + 0.1
    assert after["qabf"] > before["qabf"]
    assert criterion(fused, ir, vi).ndim == 0


def test_a_metric_without_weight_is_not_computed(pair, monkeypatch):
    from fusionzoo.losses import metric_losses

    monkeypatch.setitem(metric_losses._METRICS, "vif", None)
    assert MetricLoss(scd=1.0).scores(*[pair[0]] * 2, pair[1]).keys() == {"scd"}


@pytest.mark.parametrize("weights", [{}, {"vif": -1.0, "ssim": 2.0}])
def test_weights_that_make_no_loss_are_refused(weights):
    with pytest.raises(FusionZooError, match="at least 0"):
        MetricLoss(**weights)


def test_images_of_other_shapes_are_refused(pair):
    ir, vi = pair
    with pytest.raises(ValueError, match="vi differ in shape"):
        scd(ir, ir, vi[..., 1:])
    with pytest.raises(ValueError, match=r"pass floats \(B, 1, H, W\)"):
        qabf((ir * 255).byte(), ir, vi)
    with pytest.raises(ValueError, match="window must be"):
        ssim(ir, ir, vi, window="round")
