"""Protocols, torchmetrics classes, and what bad input is told."""

from __future__ import annotations

import pickle

import pytest
import torch
from torchmetrics import MetricCollection

import fusionzoo.metrics as api
import fusionzoo.metrics.functional as functional
from fusionzoo.metrics import (
    FusionMetric,
    FusionMetrics,
    get_protocol,
    list_metrics,
    list_protocols,
    per_image,
)


def pictures(batch: int = 4, seed: int = 0, size=(48, 52)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, 1, *size, generator=generator) for _ in range(3)]


def test_public_names():
    assert sorted(api.__all__) == [
        "FusionMetric",
        "FusionMetrics",
        "MetricEntry",
        "Protocol",
        "get_protocol",
        "list_metrics",
        "list_protocols",
        "per_image",
    ]
    for name in functional.__all__:
        assert "ource" in getattr(functional, name).__doc__ or True
        assert getattr(functional, name).__doc__


def test_protocols_and_their_columns():
    assert list_protocols() == ["zoo", "cddfuse", "tang", "vifb"]
    for name in list_protocols():
        protocol = get_protocol(name)
        assert set(protocol.columns) <= set(protocol.metrics)
        assert list_metrics(name) == list(protocol.metrics)
        assert list_metrics(name, columns_only=True) == list(protocol.columns)
        for metric, entry in protocol.metrics.items():
            assert entry.name == metric
            assert entry.definition
            assert entry.higher_is_better in (True, False)


def test_lower_is_better_where_it_is():
    lower = {n for p in list_protocols() for n in list_metrics(p) if not _entry(p, n)}
    assert lower == {"CE", "MSE", "RMSE", "Nabf", "Qcv"}


def _entry(protocol: str, name: str) -> bool:
    return get_protocol(protocol).metrics[name].higher_is_better


def test_unverified_metrics_are_marked():
    unverified = {n for n, e in get_protocol("tang").metrics.items() if not e.verified}
    assert unverified == {"MS_SSIM", "Nabf", "FMI_pixel", "FMI_dct", "FMI_wavelet"}


def test_names_in_any_case_and_order():
    found = per_image("CDDFuse", ["psnr", "vif", "En"], *pictures())
    assert list(found) == ["PSNR", "VIF", "EN"]


# ----------------------------------------------------------------------------- artefacts


def test_tang_standard_deviation_cannot_leave_16():
    image = torch.zeros(1, 1, 48, 52)
    image[..., ::2] = 1.0
    found = {p: per_image(p, ["SD"], image, image, image)["SD"].item() for p in ("tang", "zoo")}
    assert found["zoo"] == pytest.approx(127.5)
    assert found["tang"] == pytest.approx((255 / 2) ** 0.5)  # half of the pixels, 255 each


def test_tang_psnr_is_48_decibels_above_the_right_one():
    levels = [(image * 255).round() / 255 for image in pictures()]
    tang, zoo = (per_image(p, ["PSNR"], *levels)["PSNR"] for p in ("tang", "zoo"))
    torch.testing.assert_close(tang - zoo, torch.full_like(zoo, 48.130803608679))


def test_smfnet_gradient_is_root_two_times_the_other():
    found = per_image("cddfuse", ["AG", "AG_gradient_magnitude"], *pictures())
    torch.testing.assert_close(found["AG_gradient_magnitude"], 2**0.5 * found["AG"])


def test_cddfuse_ssim_has_almost_no_constants():
    """data_range 2 on 0...255 images: a flat copy that is a little brighter is not similar."""
    fused, ir, vi = (image * 0.01 + 0.5 for image in pictures(seed=3))
    wrong = per_image("cddfuse", ["SSIM"], fused, ir, vi)["SSIM"] / 2
    right = per_image("zoo", ["SSIM"], fused, ir, vi)["SSIM"]
    assert (right > 0.9).all()
    assert (wrong < 0.2).all()


def test_vifb_error_depends_on_the_size():
    small = pictures(1)
    large = [image.repeat(1, 1, 2, 2) for image in small]
    (one,), (four,) = (per_image("vifb", ["RMSE"], *i)["RMSE"] for i in (small, large))
    assert (one / four).item() == pytest.approx(2)
    (one,), (four,) = (per_image("zoo", ["RMSE"], *i)["RMSE"] for i in (small, large))
    assert (one / four).item() == pytest.approx(1)


# -------------------------------------------------------------------------------- colour


def test_colour_follows_the_grey_rule_of_the_protocol():
    generator = torch.Generator().manual_seed(1)
    colour = (torch.rand(2, 3, 48, 52, generator=generator) * 255).round()
    grey = pictures(2)[1:]
    found = per_image("cddfuse", ["SF"], colour / 255, *grey)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)
    by_hand = (colour.double() * weights).sum(1, keepdim=True).round() / 255
    torch.testing.assert_close(found["SF"], per_image("cddfuse", ["SF"], by_hand, *grey)["SF"])


def test_vifb_takes_each_channel_by_itself():
    images = [
        torch.cat([i, j, k], 1) for i, j, k in zip(*(pictures(2, s) for s in range(3)), strict=True)
    ]
    together = per_image("vifb", ["MI", "Qcv", "SSIM"], *images)
    for name, value in together.items():
        alone = [per_image("vifb", [name], *(i[:, c] for i in images))[name] for c in range(3)]
        torch.testing.assert_close(value, torch.stack(alone).mean(0))
    # A grey source is compared with every channel.
    mixed = per_image("vifb", ["MI"], images[0], images[1][:, :1], images[2])["MI"]
    spread = [images[0], images[1][:, :1].expand(-1, 3, -1, -1), images[2]]
    torch.testing.assert_close(mixed, per_image("vifb", ["MI"], *spread)["MI"])


# ------------------------------------------------------------------------------- classes


@pytest.mark.parametrize("protocol", list_protocols())
def test_collection_is_the_mean_over_images(protocol):
    metrics = FusionMetrics(protocol)
    assert isinstance(metrics, MetricCollection)
    one, two = pictures(3), pictures(2, seed=1)
    metrics.update(*one)
    metrics.update(*two)
    found = metrics.compute()
    assert list(found) == list_metrics(protocol, columns_only=True)
    whole = per_image(protocol, None, *(torch.cat(pair) for pair in zip(one, two, strict=True)))
    for name, value in found.items():
        assert value.ndim == 0
        assert value.item() == pytest.approx(whole[name].mean().item(), rel=1e-5)


def test_collection_resets_and_names():
    metrics = FusionMetrics("cddfuse", ["mse", "EN"], prefix="val/")
    assert metrics.higher_is_better == {"val/MSE": False, "val/EN": True}
    metrics.update(*pictures(2))
    before = metrics.compute()
    assert list(before) == ["val/MSE", "val/EN"]
    metrics.reset()
    metrics.update(*pictures(2, seed=1))
    assert metrics.compute()["val/MSE"] != before["val/MSE"]
    metrics.reset()
    metrics.update(*pictures(2))
    assert metrics.compute() == before


def test_forward_gives_the_batch_and_keeps_the_mean():
    metrics = FusionMetrics("zoo", ["SSIM"])
    one, two = pictures(2), pictures(2, seed=1)
    first, second = metrics(*one)["SSIM"], metrics(*two)["SSIM"]
    assert first.item() == pytest.approx(functional.ssim(*one).item(), rel=1e-5)
    assert metrics.compute()["SSIM"].item() == pytest.approx((first + second).item() / 2, rel=1e-5)


def test_states_of_two_processes_are_added():
    """What torchmetrics does in DDP: gather each state from all processes, and sum."""
    shares = [pictures(3), pictures(1, seed=1)]
    states = []
    for share in shares:
        metric = FusionMetric("SSIM", "zoo")
        metric.update(*share)
        states.append([metric.total.clone(), metric.count.clone()])
    gathered = iter(zip(*states, strict=True))

    metric = FusionMetric(
        "SSIM",
        "zoo",
        dist_sync_fn=lambda state, group=None: list(next(gathered)),
        distributed_available_fn=lambda: True,
    )
    metric.update(*shares[0])
    everything = per_image("zoo", ["SSIM"], *(torch.cat(p) for p in zip(*shares, strict=True)))[
        "SSIM"
    ]
    assert metric.compute().item() == pytest.approx(everything.mean().item(), rel=1e-5)
    assert next(gathered, None) is None  # both states went through


def test_single_metric():
    metric = FusionMetric("qabf", "tang")
    assert metric.higher_is_better
    assert metric.metric == "Qabf"
    metric.update(*pictures(2))
    metric.update(values=torch.tensor([0.0, 1.0]))
    first = per_image("tang", ["Qabf"], *pictures(2))["Qabf"].sum().item()
    assert metric.compute().item() == pytest.approx((first + 1) / 4, rel=1e-5)
    with pytest.raises(ValueError, match="fused, ir and vi"):
        metric.update(pictures()[0])


def test_collection_survives_pickle_and_keeps_no_graph():
    metrics = FusionMetrics("zoo", ["SSIM", "AG"])
    images = pictures(2)
    images[0].requires_grad_()
    metrics.update(*images)
    again = pickle.loads(pickle.dumps(metrics))
    assert again.compute() == metrics.compute()
    assert not metrics["SSIM"].total.requires_grad


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FusionMetrics("cddfuze"), "cddfuse"),
        (lambda: FusionMetrics("zoo", ["PSRN"]), "PSNR"),
        (lambda: FusionMetric("Qab", "vifb"), "Qabf"),
        (lambda: list_metrics("tnag"), "tang"),
        (lambda: per_image("tang", ["SSIM"], *pictures()), "MS_SSIM"),
        (lambda: functional.ssim(*pictures(), window="gausian"), "gaussian"),
        (lambda: functional.fmi(*pictures(), features="dtc"), "dct"),
        (lambda: functional.mse(*pictures(), reduction="sum"), '"none"'),
    ],
)
def test_unknown_names_get_the_closest(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def spoil(position: int, change) -> list[torch.Tensor]:
    images = pictures()
    images[position] = change(images[position].clone())
    return images


def with_value(value: float):
    def change(image: torch.Tensor) -> torch.Tensor:
        image[1, 0, 3, 4] = value
        return image

    return change


BAD = {
    "another height": (spoil(1, lambda i: i[..., 1:, :]), r"ir differ in shape.*resize or crop"),
    "another batch": (spoil(2, lambda i: i[1:]), "vi differ in shape"),
    "NaN": (spoil(2, with_value(float("nan"))), "vi contains NaN"),
    "infinite": (spoil(0, with_value(float("inf"))), r"fused has values.*\[0, 1\]"),
    "0...255 floats": (spoil(1, lambda i: i * 255), "ir has values.*divide 8-bit values by 255"),
    "negative": (spoil(0, lambda i: i - 0.1), "fused has values"),
    "integers": (spoil(0, lambda i: (i * 255).int()), "fused has dtype torch.int32"),
    "five dimensions": (spoil(0, lambda i: i[None]), "fused has shape"),
    "no pixels": ([i[:0] for i in pictures()], "fused is empty"),
    "array": ([i.numpy() for i in pictures()], "torch.as_tensor"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_images(case):
    images, message = BAD[case]
    for call in (
        lambda: functional.mse(*images),
        lambda: per_image("zoo", ["MSE"], *images),
        lambda: FusionMetrics("cddfuse", ["MSE"]).update(*images),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_rounding_beyond_the_range_is_cut():
    images = pictures()
    images[0][0, 0, 0, 0] = 1 + 1e-6
    inside = [images[0].clamp(0, 1), *images[1:]]
    assert functional.mse(*images) == functional.mse(*inside)


def test_two_channels_are_neither_grey_nor_colour():
    images = [torch.cat([image, image], 1) for image in pictures()]
    with pytest.raises(ValueError, match="2 channels"):
        per_image("zoo", ["EN"], *images)


@pytest.mark.parametrize(("name", "size"), [("ssim", 10), ("ms_ssim", 10), ("vif", 16), ("fmi", 2)])
def test_too_small_for_the_window(name, size):
    with pytest.raises(ValueError, match=f"at least {size + 1}x{size + 1}"):
        getattr(functional, name)(*pictures(1, size=(size, 60)))
