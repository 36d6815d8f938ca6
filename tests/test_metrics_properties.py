"""What must hold for every metric, whatever its formula."""

from __future__ import annotations

import math

import kornia
import pytest
import torch

import fusionzoo.metrics.functional as metrics
from fusionzoo.metrics import get_protocol, list_metrics, list_protocols, per_image

ALL = [(p, m) for p in list_protocols() for m in list_metrics(p)]
ALONE = {
    "average_gradient",
    "edge_intensity",
    "entropy",
    "grey_level_difference",
    "spatial_frequency",
    "standard_deviation",
}


def call(name: str, fused, ir, vi, **options):
    sources = () if name in ALONE else (ir, vi)
    return getattr(metrics, name)(fused, *sources, **options)


def pictures(height=33, width=47, batch=2, dtype=torch.float64, seed=0):
    """Random but smooth sources and their noisy mean."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, batch, 1, 6, 7, generator=generator, dtype=torch.float64)
    ir, vi = (torch.nn.functional.interpolate(c, (height, width), mode="bicubic") for c in coarse)
    noise = torch.rand(ir.shape, generator=generator, dtype=torch.float64) - 0.5
    ir, vi = (ir * 0.8 + 0.1).clamp(0, 1), (vi * 0.6 + 0.2 + 0.1 * noise).clamp(0, 1)
    fused = (0.4 * ir + 0.6 * vi + 0.02 * noise).clamp(0, 1)
    return [image.to(dtype) for image in (fused, ir, vi)]


@pytest.mark.parametrize("protocol", list_protocols())
def test_33x47(protocol):
    values = per_image(protocol, list_metrics(protocol), *pictures())
    for name, value in values.items():
        assert value.shape == (2,), name
        assert value.isfinite().all(), name


def test_batch_equals_singles():
    for protocol in list_protocols():
        images = pictures(batch=3)
        names = list_metrics(protocol)
        together = per_image(protocol, names, *images)
        for i in range(3):
            alone = per_image(protocol, names, *(image[i : i + 1] for image in images))
            for name in names:
                torch.testing.assert_close(together[name][i], alone[name][0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", metrics.__all__)
def test_function_batch_dtype_and_reduction(name):
    images = pictures()
    wide = call(name, *images, reduction="none")
    assert wide.shape == (2,)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(call(name, *images), wide.mean())
    narrow = call(name, *(i.float() for i in images), reduction="none")
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-5)
    half = call(name, *(i.half() for i in images), reduction="none")
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    # (H,W) and (B,H,W)
    torch.testing.assert_close(call(name, *(i[:, 0] for i in images), reduction="none"), wide)
    torch.testing.assert_close(call(name, *(i[0, 0] for i in images)), wide[0])


@pytest.mark.parametrize("name", metrics.__all__)
def test_function_eight_bit_equals_fractions(name):
    levels = [(image * 255).round().to(torch.uint8) for image in pictures()]
    fractions = [level.double() / 255 for level in levels]
    torch.testing.assert_close(
        call(name, *levels).double(), call(name, *fractions), rtol=1e-4, atol=1e-5
    )


def test_functions_average_channels():
    stacks = [torch.cat(pair, 1) for pair in zip(pictures(), pictures(seed=1), strict=True)]
    for name in metrics.__all__:
        wanted = (call(name, *pictures()) + call(name, *pictures(seed=1))) / 2
        torch.testing.assert_close(call(name, *stacks), wanted)


def test_functions_agree_with_the_zoo_protocol():
    images = pictures()
    table = {
        "EN": "entropy",
        "SD": "standard_deviation",
        "SF": "spatial_frequency",
        "AG": "average_gradient",
        "EI": "edge_intensity",
        "GLD": "grey_level_difference",
        "MI": "mutual_information",
        "NMI": "normalised_mutual_information",
        "CE": "cross_entropy",
        "CC": "correlation_coefficient",
        "FMI_pixel": "fmi",
    }
    found = per_image("zoo", list_metrics("zoo"), *images)
    for name, values in found.items():
        if "_" in name and name not in ("MS_SSIM", "FMI_pixel"):
            continue
        function = table.get(name, name.lower())
        torch.testing.assert_close(values, call(function, *images, reduction="none"), msg=name)
    for option in ("ir", "vi"):
        alone = metrics.vif(*images, combine=option, reduction="none")
        torch.testing.assert_close(alone, found[f"VIF_{option}"])
    for feature in ("dct", "wavelet"):
        alone = metrics.fmi(*images, features=feature, reduction="none")
        torch.testing.assert_close(alone, found[f"FMI_{feature}"])


def test_combine():
    images = pictures()
    ir, vi = (metrics.ssim(*images, combine=c) for c in ("ir", "vi"))
    torch.testing.assert_close(metrics.ssim(*images, combine="sum"), ir + vi)
    torch.testing.assert_close(metrics.ssim(*images, combine="mean"), (ir + vi) / 2)
    with pytest.raises(ValueError, match="mean"):
        metrics.ssim(*images, combine="means")


def test_data_range():
    images = pictures()
    for name in ALONE - {"entropy"} | {"rmse"}:
        in_levels, in_units = (call(name, *images, data_range=r) for r in (255.0, 1.0))
        torch.testing.assert_close(in_levels, in_units * 255)
    torch.testing.assert_close(metrics.mse(*images), metrics.mse(*images, data_range=1.0) * 255**2)


# ------------------------------------------------------------------------------ identity

# Of an image with itself twice. Qabf stays below 1 because its sigmoids do.
QABF_TOP = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-22 * 0.2))
IDENTITY = {
    "NMI": 2.0,
    "CE": 0.0,
    "CC": 1.0,
    "SCD": 0.0,
    "MSE": 0.0,
    "RMSE": 0.0,
    "PSNR": math.inf,
    "SSIM": 1.0,
    "MS_SSIM": 1.0,
    "VIF": 2.0,
    "VIF_ir": 1.0,
    "VIF_vi": 1.0,
    "VIFF": 1.0,
    "Qabf": QABF_TOP,
    "Nabf": 0.0,
    "Qcv": 0.0,
    "Qcb": 1.0,
    "FMI_pixel": 1.0,
    "FMI_dct": 1.0,
    "FMI_wavelet": 1.0,
}
# Sums over both sources in the public codes, and rounded images in Qabf's equal gradients.
IDENTITY_OF = {
    "zoo": IDENTITY,
    "cddfuse": {k: IDENTITY[k] for k in ("CC", "SCD", "MSE", "PSNR", "VIF")} | {"SSIM": 2.0},
    "tang": {
        k: IDENTITY[k]
        for k in ("CC", "SCD", "MSE", "PSNR", "VIF", "Nabf", "MS_SSIM", "FMI_pixel", "FMI_dct")
    },
    "vifb": {k: IDENTITY[k] for k in ("CE", "PSNR", "RMSE", "Qcb", "Qcv")} | {"SSIM": 2.0},
}


@pytest.mark.parametrize("protocol", list_protocols())
def test_identity(protocol):
    image = pictures()[2]
    wanted = IDENTITY_OF[protocol]
    for name, values in per_image(protocol, list(wanted), image, image, image).items():
        assert values.tolist() == pytest.approx([wanted[name]] * 2, abs=1e-6), name


@pytest.mark.parametrize("protocol", list_protocols())
def test_identity_information(protocol):
    """What an image tells about itself, twice, is twice its entropy."""
    image = pictures()[2]
    base = math.log(2) if protocol in ("cddfuse", "vifb") else 1.0
    found = per_image(protocol, ["EN", "MI"], image, image, image)
    # vifb stretches before MI; the levels stay apart, so the entropy is the same.
    torch.testing.assert_close(found["MI"], 2 * base * found["EN"])


@pytest.mark.parametrize("protocol", list_protocols())
def test_worse_picture_is_worse(protocol):
    """A fused image with a wrong patch loses on every metric that compares with the sources."""
    fused, ir, vi = pictures(48, 64)
    spoiled = fused.clone()
    spoiled[..., 10:40, 10:50] = 1 - spoiled[..., 10:40, 10:50]
    entries = get_protocol(protocol).metrics
    compared = [n for n in entries if n not in ("EN", "SD", "SF", "AG", "EI", "GLD")]
    compared = [n for n in compared if not n.startswith(("AG_", "FMI_d", "FMI_w"))]
    good = per_image(protocol, compared, fused, ir, vi)
    bad = per_image(protocol, compared, spoiled, ir, vi)
    for name in compared:
        if name == "CE":  # histograms only; the patch is inverted
            continue
        sign = 1 if entries[name].higher_is_better else -1
        assert (sign * good[name] > sign * bad[name]).all(), name


# ------------------------------------------------------------------------------ symmetry

# VIFF takes the visible source where both gains are 0.
ONE_SIDED = {"VIF_ir", "VIF_vi", "VIFF"}


@pytest.mark.parametrize("protocol", list_protocols())
def test_symmetry_in_the_sources(protocol):
    fused, ir, vi = pictures()
    names = [n for n in list_metrics(protocol) if n not in ONE_SIDED]
    one, other = (per_image(protocol, names, fused, *s) for s in ((ir, vi), (vi, ir)))
    for name in names:
        torch.testing.assert_close(one[name], other[name], msg=name)
    if protocol == "zoo":
        swapped = per_image("zoo", ["VIF_vi"], fused, vi, ir)["VIF_vi"]
        torch.testing.assert_close(per_image("zoo", ["VIF_ir"], fused, ir, vi)["VIF_ir"], swapped)


# ------------------------------------------------------------------------------ constants


@pytest.mark.parametrize("protocol", list_protocols())
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_constant_images_have_finite_values(protocol, dtype):
    levels = (0.37, 0.2, 0.9)
    images = [torch.full((1, 1, 48, 50), level, dtype=dtype) for level in levels]
    found = per_image(protocol, list_metrics(protocol), *images)
    for name, value in found.items():
        assert value.isfinite().all(), name
    for name in {"EN", "SD", "SF", "AG", "EI", "GLD", "MI", "NMI", "CC", "SCD"} & found.keys():
        assert found[name].item() == pytest.approx(0, abs=1e-9), name


@pytest.mark.parametrize("protocol", list_protocols())
@pytest.mark.parametrize("level", [0.0, 0.37])
def test_equal_constant_images(protocol, level):
    """Everything is finite but the PSNR of a perfect copy."""
    image = torch.full((1, 1, 48, 50), level, dtype=torch.float64)
    for name, value in per_image(protocol, list_metrics(protocol), image, image, image).items():
        if name == "PSNR":
            assert value.item() == math.inf or protocol == "cddfuse"
        else:
            assert value.isfinite().all(), name


@pytest.mark.parametrize("protocol", list_protocols())
def test_flat_background(protocol):
    """Black surroundings, as medical images have: float32 input gives what float64 gives."""
    images = [torch.nn.functional.pad(image, (20, 20, 20, 20)) for image in pictures()]
    names = list_metrics(protocol)
    wide = per_image(protocol, names, *images)
    narrow = per_image(protocol, names, *(image.float() for image in images))
    for name in names:
        # Qcb divides nearly nothing by nearly nothing in the background.
        tolerance = 2e-3 if name == "Qcb" else 1e-4
        torch.testing.assert_close(narrow[name], wide[name], rtol=tolerance, atol=1e-6, msg=name)


# ------------------------------------------------------------------------------ gradients

DIFFERENTIABLE = [
    ("average_gradient", {}, (6, 7)),
    ("spatial_frequency", {}, (6, 7)),
    ("edge_intensity", {}, (6, 7)),
    ("grey_level_difference", {}, (6, 7)),
    ("standard_deviation", {}, (6, 7)),
    ("mse", {}, (6, 7)),
    ("rmse", {}, (6, 7)),
    ("psnr", {}, (6, 7)),
    ("correlation_coefficient", {}, (6, 7)),
    ("scd", {}, (6, 7)),
    ("ssim", {}, (12, 13)),
    ("ssim", {"window": "uniform", "combine": "sum"}, (8, 9)),
    ("ms_ssim", {}, (22, 23)),
    ("vif", {}, (18, 17)),
]


@pytest.mark.parametrize(("name", "options", "size"), DIFFERENTIABLE)
def test_gradcheck(name, options, size):
    fused, ir, vi = pictures(*size, batch=1)
    fused = (fused * 0.8 + 0.1).requires_grad_()

    def value(image):
        # In 0...1 units: the finite differences of the check are absolute.
        return call(name, image, ir, vi, reduction="none", **options) / 255

    assert torch.autograd.gradcheck(value, (fused,), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", sorted({name for name, _, _ in DIFFERENTIABLE} - {"psnr"}))
def test_gradient_at_a_constant_image_is_finite(name):
    fused = torch.full((1, 1, 24, 24), 0.5, dtype=torch.float64, requires_grad=True)
    call(name, fused, fused.detach() + 0.1, fused.detach()).backward()
    assert fused.grad.isfinite().all()


# -------------------------------------------------------------------------------- others


def test_ssim_is_kornias_without_padding():
    fused, ir, _ = pictures()
    wanted = kornia.metrics.ssim(fused, ir, 11, max_val=1.0, padding="valid").mean((1, 2, 3))
    found = metrics.ssim(fused, ir, ir, combine="ir", reduction="none")
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_vif_is_one_for_a_copy_and_more_for_added_contrast():
    image = pictures(batch=1)[2]
    stronger = (image - 0.5) * 1.2 + 0.5
    assert metrics.vif(image, image, image, combine="ir").item() == pytest.approx(1)
    assert metrics.vif(stronger.clamp(0, 1), image, image, combine="ir").item() > 1


def test_nothing_but_the_check_reads_values_back(monkeypatch):
    """One transfer to the host per call, for the range check of all images together."""
    images = [image.float() for image in pictures()]
    reads = []
    for method in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, method)

        def counted(self, *args, _original=original, _method=method, **kwargs):
            reads.append(_method)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, method, counted)
    for name in list_metrics("cddfuse"):
        reads.clear()
        per_image("cddfuse", [name], *images)
        assert reads == ["tolist"], name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("protocol", list_protocols())
def test_cuda_equals_cpu(protocol):
    images = pictures()
    names = list_metrics(protocol)
    here = per_image(protocol, names, *images)
    there = per_image(protocol, names, *(image.cuda() for image in images))
    for name in names:
        assert there[name].is_cuda
        torch.testing.assert_close(there[name].cpu(), here[name], rtol=1e-6, atol=1e-8, msg=name)
