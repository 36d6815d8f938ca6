"""Streams of pairs: order, overlap, memory, errors, early ends, and ranges that do not pump."""

import gc
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from cli_helpers import asset, pairs_folder
from PIL import Image

import fusionzoo
from fusionzoo.errors import InputError, InputTypeError, MissingFileError
from fusionzoo.inference import fuse_images
from fusionzoo.overlap import ahead
from fusionzoo.video import fuse_stream
from fusionzoo.video.ranges import StreamRange

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [str(number) for number in range(5)]


@pytest.fixture(scope="module")
def model():
    return fusionzoo.load("lapnet")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = pairs_folder(tmp_path_factory.mktemp("pairs"), NAMES)
    return [(root / "ir" / f"{name}.png", root / "vi" / f"{name}.png") for name in NAMES]


def threads():
    return sum(thread.name == "fusionzoo" for thread in threading.enumerate())


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("kind", ["path", "pil", "array", "tensor"])
def test_a_stream_fuses_as_fuse_does_and_in_order(model, files, kind):
    def made(path):
        if kind == "path":
            return path
        array = pixels(path)
        if kind == "tensor":
            return torch.from_numpy(array.copy()).reshape(*array.shape[:2], -1).permute(2, 0, 1)
        return array if kind == "array" else Image.fromarray(array)

    pairs = [(made(ir), made(vi)) for ir, vi in files]
    found = list(model.stream(iter(pairs)))
    assert len(found) == len(pairs)
    for fused, (ir, vi) in zip(found, pairs, strict=True):
        expected = model.fuse(ir, vi)
        assert type(fused) is type(expected)
        assert np.array_equal(np.asarray(fused), np.asarray(expected))


def test_options_reach_the_network(model, files):
    pairs = [(pixels(ir), pixels(vi)) for ir, vi in files[:2]]
    found = list(model.stream(pairs, color=False, ir_range=(10, 200), dtype=torch.float64))
    expected = [
        model.fuse(ir, vi, color=False, ir_range=(10, 200), dtype=torch.float64) for ir, vi in pairs
    ]
    assert all(map(np.array_equal, found, expected))


def test_an_error_comes_after_the_results_before_it(model, files):
    pairs = [files[0], files[1], ("nowhere.png", files[2][1]), files[3]]
    stream = model.stream(pairs)
    assert [next(stream).size for _ in range(2)] == [(44, 40)] * 2
    with pytest.raises(MissingFileError, match=r"ir\[2\]: nowhere.png"):
        next(stream)
    small = pixels(files[1][0])[:20]
    stream = model.stream([files[0], (small, files[1][1])])
    next(stream)
    with pytest.raises(InputError, match="20 x 44"):
        next(stream)
    assert threads() == 0


def test_an_error_of_the_iterable_comes_through(model, files):
    def pairs():
        yield files[0]
        raise ZeroDivisionError("mine")

    stream = model.stream(pairs())
    next(stream)
    with pytest.raises(ZeroDivisionError, match="mine"):
        next(stream)
    assert next(stream, "over") == "over"


@pytest.mark.parametrize(
    ("pairs", "options", "error", "message"),
    [
        ([3], {}, InputTypeError, r"pairs\[0\] is no pair"),
        ([([1], [2])], {}, InputError, "one pair at a time"),
        ([], {"ranges": "folow"}, InputError, "did you mean 'follow'"),
        ([], {"lookahead": 0}, InputError, "lookahead=0"),
        ([], {"ir_range": (2, 1)}, InputError, "ir_range"),
    ],
)
def test_wrong_pairs_and_options_are_told(model, pairs, options, error, message):
    with pytest.raises(error, match=message):
        list(model.stream(pairs, **options))


def test_wrong_options_are_told_before_the_first_result(model):
    with pytest.raises(InputError, match="ranges"):
        model.stream([], ranges="no")


@pytest.mark.parametrize("how", ["close", "drop"])
def test_closing_early_stops_the_threads_and_the_source(model, files, how):
    closed = []

    def pairs():
        try:
            while True:
                yield files[0]
        finally:
            closed.append(True)

    stream = model.stream(pairs())
    next(stream)
    assert threads() == 2
    if how == "close":
        stream.close()
    del stream
    gc.collect()
    assert threads() == 0
    assert closed == [True]


def test_what_waits_is_bounded():
    made = []

    def numbers():
        for number in range(100):
            made.append(number)
            yield number

    stream = ahead(numbers(), 3)
    assert next(stream) == 0
    for _ in range(100):
        if len(made) == 5:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 5  # the one given, three that wait, one that finds no place
    assert list(stream) == list(range(1, 100))


def test_the_stages_run_at_the_same_time():
    # Each stage waits for the other one: without overlap this would never end.
    first, second = threading.Event(), threading.Event()

    def numbers():
        yield 0
        first.set()
        assert second.wait(20)
        yield 1

    stream = ahead(numbers())
    assert next(stream) == 0
    assert first.wait(20)
    second.set()
    assert list(stream) == [1]


def thermal(extra=0):
    """A 16-bit thermal frame; ``extra`` hot pixels enter."""
    frame = asset("ir")[:48, :64].astype(np.uint16)
    frame = (frame if frame.ndim == 2 else frame[..., 0]) * 10 + 20000
    frame[:extra] = 30000
    return frame


@pytest.mark.parametrize(("ranges", "most"), [("follow", 0.05), ("fixed", 1e-6), ("each", 9)])
def test_a_hot_object_does_not_darken_the_rest_at_once(ranges, most):
    fuse = partial(fuse_images, lambda ir, vi: (ir + vi) / 2)
    visible = asset("vi")[:48, :64, :3]
    frames = [thermal(), thermal(6), thermal(), thermal(6)]
    black_white = StreamRange(ranges)
    limits = [black_white.at(frame, "ir", 1 / 25) for frame in frames]
    results = list(fuse_stream(fuse, [(frame, visible) for frame in frames], ranges=ranges))
    change = np.abs(results[1][20:].astype(int) - results[0][20:]).mean() / 255
    each = [fuse(frame, visible) for frame in frames[:2]]
    pumping = np.abs(each[1][20:].astype(int) - each[0][20:]).mean() / 255
    assert pumping > 0.02  # else this test shows nothing
    if ranges == "each":
        assert limits == [None] * 4
        assert change == pytest.approx(pumping)
    else:
        spans = [high - low for low, high in limits]
        assert max(spans) / min(spans) - 1 <= most
        assert change < pumping / 8


def test_a_following_range_arrives():
    black_white = StreamRange("follow")
    first = black_white.at(thermal(), "ir", 0)
    for _ in range(1000):  # 40 seconds
        last = black_white.at(thermal() + 5000, "ir", 1 / 25)
    assert last == pytest.approx((first[0] + 5000, first[1] + 5000), rel=1e-4)


def test_eight_bits_and_unit_floats_keep_their_range():
    frame = asset("vi")[:48, :64, :3]
    for ranges in ("follow", "fixed"):
        assert StreamRange(ranges).at(frame, "vi", 1) == (0, 255)
        assert StreamRange(ranges).at(frame / np.float32(255), "vi", 1) == (0, 1)
