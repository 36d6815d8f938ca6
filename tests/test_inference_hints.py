"""What `fuse_images` warns of, and how it deals with little memory."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from fusionzoo.errors import FusionZooError, FusionZooWarning, InputError, OutOfMemoryError
from fusionzoo.inference import fuse_images, memory, save_image

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 60), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY_RGB = np.repeat(GREY[..., None], 3, 2)


def mean(ir, vi):
    return (ir + vi) / 2


# -- pairs that look wrong --------------------------------------------------------------------


@pytest.mark.parametrize("grey", [GREY, GREY_RGB, Image.fromarray(GREY)], ids=["1", "3", "pil"])
def test_swapped_images_are_noticed(grey):
    with pytest.warns(FusionZooWarning, match=r"^ir is in colour and vi is grey.*infrared") as seen:
        fuse_images(mean, COLOUR, grey)
    assert len(seen) == 1
    with pytest.warns(FusionZooWarning, match=r"^vi is in colour and ir is grey.*MRI second$"):
        fuse_images(mean, grey, COLOUR, color_from="ir")


def test_a_list_warns_once():
    with pytest.warns(FusionZooWarning, match=r"^ir\[1\] is in colour") as seen:
        fuse_images(mean, [GREY, COLOUR, COLOUR], [GREY, GREY, GREY])
    assert len(seen) == 1


@pytest.mark.filterwarnings("error")
def test_what_looks_right_does_not_warn(tmp_path):
    save_image(tmp_path / "ir.jpg", GREY_RGB)
    for ir, vi in [
        (GREY, COLOUR),
        (GREY, GREY),
        (COLOUR, COLOUR),
        (GREY_RGB, GREY),
        (tmp_path / "ir.jpg", GREY),
    ]:
        fuse_images(mean, ir, vi)
        fuse_images(mean, vi, ir, color_from="ir")


@pytest.mark.parametrize(
    ("size", "warns"),
    [((40, 60), False), ((80, 120), False), ((80, 121), False), ((41, 60), True), ((60, 60), True)],
)
@pytest.mark.parametrize("color_from", ["ir", "vi"])
@pytest.mark.parametrize("resize", ["ir", "vi"])
def test_stretching_is_noticed(size, warns, resize, color_from):
    other = RANDOM.integers(0, 256, size, dtype=np.uint8)
    images = {"ir": other, "vi": GREY} if resize == "ir" else {"ir": GREY, "vi": other}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fuse_images(mean, **images, resize=resize, color_from=color_from)
    expected = f"resize='{resize}' stretches {resize} from {size[1]} x {size[0]} to 60 x 40"
    assert [str(one.message).startswith(expected) for one in seen] == [True] * warns


def test_channels_first_array_is_a_batch_and_that_is_said():
    batch = RANDOM.integers(0, 256, (3, 40, 60), dtype=np.uint8)
    with pytest.warns(FusionZooWarning, match=r"\(3, 40, 60\) and is taken for 3 grey images"):
        fused = fuse_images(mean, batch, batch)
    np.testing.assert_array_equal(fused, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fuse_images(mean, batch[..., None], batch[..., None])
        fuse_images(mean, batch[:2], batch[:2])


# -- memory -----------------------------------------------------------------------------------


def never(ir, vi):
    raise AssertionError("the network ran")


@pytest.mark.parametrize(
    ("options", "need"),
    [
        ({"bytes_per_pixel": 1e6}, "an image of 60 x 40 .* about 2.4 GB"),
        ({"bytes_per_pixel": 5e5, "dtype": torch.float64}, "an image of 60 x 40 .* about 2.4 GB"),
        ({"bytes_per_pixel": 1e6, "size_multiple": 64}, "an image of 60 x 40 .* about 4.1 GB"),
    ],
    ids=str,
)
def test_too_little_memory_is_noticed_before_the_network_runs(monkeypatch, options, need):
    monkeypatch.setattr(memory, "available_memory", lambda: 2e9)
    message = rf"fusing {need} of memory, and 2\.0 GB are free; leave out tile='off', pass smaller"
    with pytest.raises(OutOfMemoryError, match=message) as caught:
        fuse_images(never, GREY, GREY, **options, tile="off")
    # So small an image is not cut.
    with pytest.raises(OutOfMemoryError, match=r"60 x 40 .* however it is cut .* and 2 GB"):
        fuse_images(never, GREY, GREY, **options | {"size_multiple": 1})
    assert isinstance(caught.value, MemoryError)
    assert "lapnet" in str(caught.value)


def test_batch_size_counts_and_unknown_memory_does_not(monkeypatch):
    images = [GREY] * 4
    how = {"bytes_per_pixel": 1e6, "tile": "off"}
    for free, fits in ((3e9, False), (10e9, True), (None, True)):
        monkeypatch.setattr(memory, "available_memory", lambda free=free: free)
        if fits:
            fuse_images(mean, images, images, batch_size=4, **how)
        else:
            with pytest.raises(OutOfMemoryError, match="4 images of 60 x 40"):
                fuse_images(mean, images, images, batch_size=4, **how)
            fuse_images(mean, images, images, batch_size=1, **how)


def test_a_batch_that_is_too_large_goes_through_the_network_one_by_one(monkeypatch):
    batches = []

    def watched(ir, vi):
        batches.append(tuple(vi.shape))
        return mean(ir, vi)

    images = [GREY] * 4
    expected = fuse_images(mean, images, images)
    for free, found in ((30e9, [(4, 1, 40, 60)]), (6e9, [(1, 1, 40, 60)] * 4)):
        monkeypatch.setattr(memory, "available_memory", lambda free=free: free)
        batches.clear()
        fused = fuse_images(watched, images, images, batch_size=4, bytes_per_pixel=1e6)
        assert batches == found
        assert all(np.array_equal(one, other) for one, other in zip(fused, expected, strict=True))


def test_memory_may_be_limited_by_the_environment(monkeypatch):
    monkeypatch.setenv("FUSIONZOO_MEMORY_GB", "1.5")
    assert memory.available_memory() == 1.5e9
    for text in ("much", "0", "-1", "nan"):
        monkeypatch.setenv("FUSIONZOO_MEMORY_GB", text)
        with pytest.raises(InputError, match="FUSIONZOO_MEMORY_GB="):
            memory.available_memory()


def fake_machine(monkeypatch, folder, own, groups, available=16_000_000):
    """A Linux of 16 GB with control groups, in a folder."""
    meminfo = f"MemTotal: 32000000 kB\nMemAvailable: {available} kB\nSwapFree: 1000000 kB\n"
    (folder / "meminfo").write_text(meminfo)
    (folder / "cgroup").write_text(own)
    for path, files in groups.items():
        (folder / "groups" / path).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / "groups" / path / name).write_text(text)
    monkeypatch.setattr(memory, "_MEMINFO", folder / "meminfo")
    monkeypatch.setattr(memory, "_OWN_GROUPS", folder / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS", folder / "groups")


def version_2(limit, used=1_000_000_000, reclaimable=200_000_000):
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{used}\n",
        "memory.stat": f"anon 5\ninactive_file {reclaimable}\n",
    }


def version_1(limit):
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": "1000000000\n",
        "memory.stat": "inactive_file 7\ntotal_inactive_file 200000000\n",
    }


V1 = "3:cpu:/a\n2:memory:/a/b\n1:name=systemd:/a\n"


@pytest.mark.parametrize(
    ("own", "groups", "expected"),
    [
        ("", {}, 17e9),
        ("0::/a/b\n", {"a/b": version_2("max")}, 17e9),
        ("0::/a/b\n", {"a/b": version_2(4_000_000_000)}, 3.2e9),
        ("0::/a/b\n", {"a/b": version_2("max"), "a": version_2(4_000_000_000)}, 3.2e9),
        ("0::/a/b\n", {"a/b": version_2(50_000_000_000)}, 17e9),
        ("0::/not/seen/in/here\n", {".": version_2(4_000_000_000)}, 3.2e9),
        (V1, {"memory/a/b": version_1(4_000_000_000)}, 3.2e9),
        (V1, {"memory/a/b": version_1(2**63 - 4096), "memory": version_1(5_000_000_000)}, 4.2e9),
    ],
)
def test_available_memory_of_linux(monkeypatch, tmp_path, own, groups, expected):
    monkeypatch.delenv("FUSIONZOO_MEMORY_GB", raising=False)
    fake_machine(monkeypatch, tmp_path, own, groups)
    assert memory.available_memory() == pytest.approx(expected, rel=0.03)


def test_available_memory_elsewhere_is_unknown(monkeypatch, tmp_path):
    monkeypatch.delenv("FUSIONZOO_MEMORY_GB", raising=False)
    for name in ("_MEMINFO", "_OWN_GROUPS", "_GROUPS"):
        monkeypatch.setattr(memory, name, tmp_path / name)
    assert memory.available_memory() is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
    ],
    ids=["python", "cpu", "cuda"],
)
def test_missing_memory_is_explained(error):
    def network(ir, vi):
        raise error

    with pytest.raises(FusionZooError, match=r"memory of .* does not suffice; pass smaller images"):
        fuse_images(network, GREY, GREY)
    # Whoever catches the kind that was raised catches this as well.
    kind = MemoryError if isinstance(error, MemoryError) else type(error)
    if "DefaultCPUAllocator" in str(error):
        kind = MemoryError
    with pytest.raises(kind):
        fuse_images(network, GREY, GREY)


def test_an_allocation_that_fails_is_explained():
    def network(ir, vi):
        return torch.empty(2**55)

    with pytest.raises(OutOfMemoryError, match="does not suffice"):
        fuse_images(network, GREY, GREY)


def test_other_errors_of_the_network_stay():
    def network(ir, vi):
        raise RuntimeError("the network's own")

    with pytest.raises(RuntimeError, match=r"^the network's own$"):
        fuse_images(network, GREY, GREY)
