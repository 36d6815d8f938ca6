"""Videos from file to file: matching, colour, values, sound, sizes, and files that are broken."""

import shutil

import av
import numpy as np
import pytest
from cli_helpers import files_of
from PIL import Image
from video_helpers import panned, read_video, write_video

import fusionzoo
from fusionzoo.errors import FileError, FusionZooWarning, InputError, MissingFileError
from fusionzoo.inference import fuse_images
from fusionzoo.video import fuse_video
from fusionzoo.video.matching import nearest_in_time
from fusionzoo.video.names import is_video
from fusionzoo.video.sources import Picture, open_source

pytestmark = pytest.mark.usefixtures("one_thread")

BT601, BT709 = 5, 1
LIMITED, FULL = 1, 2


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "ir.mp4", panned("ir"))
    write_video(folder / "vi.mp4", panned("vi"), audio=True)
    return folder


def visible_only(ir, vi, **options):
    """A network that gives the visible image."""
    return fuse_images(lambda one, other: other, ir, vi, **options)


def infrared_only(ir, vi, **options):
    return fuse_images(lambda one, other: one, ir, vi, **options)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".mov"])
def test_every_ending_in_and_out(tmp_path, ending):
    frames = panned("vi")
    ir = write_video(tmp_path / f"ir{ending}", panned("ir"))
    vi = write_video(tmp_path / f"vi{ending}", frames)
    out = tmp_path / f"out{ending}"
    done = fuse_video(visible_only, ir, vi, out)
    assert (done.path, done.frames) == (out, 12)
    found, times = read_video(out)
    assert len(found) == 12
    assert np.diff(times) == pytest.approx(0.04, abs=2e-3)
    before = read_video(vi)[0]
    error = np.abs(np.stack(found).astype(int) - np.stack(before)).mean()
    assert error < (0.2 if ending == ".mkv" else 4)  # .mkv is without loss
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == ("ffv1" if ending == ".mkv" else "h264")
        assert stream.codec_context.pix_fmt == "yuv420p"


def test_a_model_fuses_frames_as_it_fuses_pictures(videos, tmp_path):
    model = fusionzoo.load("lapnet")
    fuse_video(model, videos / "ir.mp4", videos / "vi.mp4", tmp_path / "out.mkv", pix_fmt="yuv444p")
    found, _ = read_video(tmp_path / "out.mkv")
    infrared, _ = read_video(videos / "ir.mp4", "gray")
    visible, _ = read_video(videos / "vi.mp4")
    for fused, ir, vi in list(zip(found, infrared, visible, strict=True))[::5]:
        expected = model.fuse(ir, vi)
        # Luma rounds to 220 levels, chroma is at half size, and its overflow is cut off.
        assert np.abs(fused.astype(int) - expected).mean() < 2


def test_sound_is_copied(videos, tmp_path):
    packets = {}
    for path in (videos / "vi.mp4", tmp_path / "out.mp4"):
        if path.parent == tmp_path:
            fuse_video(visible_only, videos / "ir.mp4", videos / "vi.mp4", path)
        with av.open(str(path)) as container:
            audio = container.streams.audio[0]
            packets[path.name] = [
                (float(packet.pts * packet.time_base), bytes(packet))
                for packet in container.demux(audio)
                if packet.size
            ]
            assert audio.codec_context.name == "aac"
    expected = [one for one in packets["vi.mp4"] if one[0] <= 0.48]
    assert len(expected) > 4
    assert packets["out.mp4"] == expected


def test_sound_that_the_container_does_not_hold_is_left_out(videos, tmp_path):
    with pytest.warns(FusionZooWarning, match="does not hold the sound"):
        fuse_video(visible_only, videos / "ir.mp4", videos / "vi.mp4", tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        assert not container.streams.audio
        assert container.streams.video[0].codec_context.name == "vp9"


# Matching -----------------------------------------------------------------------------------------


def pictures(times):
    return [Picture(time, number) for number, time in enumerate(times)]


@pytest.mark.parametrize(
    ("lead", "follow", "frame", "offset", "expected"),
    [
        ([0, 1, 2], [0, 1, 2], 1, 0, [(0, 0), (1, 1), (2, 2)]),
        ([0, 1, 2, 3], [0, 2], 2, 0, [(0, 0), (1, 0), (2, 1), (3, 1)]),  # half the rate
        ([0, 2], [0, 1, 2, 3], 1, 0, [(0, 0), (1, 2)]),  # twice the rate
        ([0, 1, 2], [0, 0.4, 1.7, 2.2], 1, 0, [(0, 0), (1, 1), (2, 3)]),  # any rate
        ([0, 1, 2, 3, 4], [0, 1], 1, 2, [(2, 0), (3, 1)]),  # began later
        ([0, 1, 2], [0, 1, 2, 3, 4], 1, -2, [(0, 2), (1, 3), (2, 4)]),  # began earlier
        ([0, 1, 2, 3, 4], [0, 1], 1, 0, [(0, 0), (1, 1)]),  # ends earlier
        ([0, 1], [0, 1], 1, 9, []),
    ],
)
def test_the_nearest_frame_in_time(lead, follow, frame, offset, expected):
    found = nearest_in_time(pictures(lead), pictures(follow), offset, frame)
    assert [(one.image, other.image) for one, other in found] == expected


def test_differing_rates_and_an_offset(tmp_path):
    # The infrared frame n is of value 10 n, at 50 frames a second; it begins 0.12 s late.
    ir = write_video(
        tmp_path / "ir.mkv",
        [np.full((48, 64), 10 * n, np.uint8) for n in range(24)],
        codec="ffv1", pix_fmt="gray", rate=50,
    )  # fmt: skip
    vi = write_video(tmp_path / "vi.mp4", panned("vi"))
    fuse_video(infrared_only, ir, vi, tmp_path / "out.mkv", offset=0.12, color=False)
    found, times = read_video(tmp_path / "out.mkv", "gray")
    assert times[0] == pytest.approx(0.12, abs=2e-3)
    means = [frame.mean() for frame in found]
    expected = [10 * max(0, round((time - 0.12) * 50)) for time in times]
    assert means == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_variable_frame_rate_keeps_its_times(tmp_path, ending):
    stamps = [0, 0.04, 0.08, 0.2, 0.24, 0.5, 0.51, 0.6]
    vi = write_video(tmp_path / "vi.mp4", panned("vi", 8), times=stamps)
    ir = write_video(tmp_path / "ir.mp4", panned("ir", 8), times=stamps)
    fuse_video(visible_only, ir, vi, tmp_path / f"out{ending}", codec="h264")
    assert read_video(tmp_path / f"out{ending}")[1] == pytest.approx(stamps, abs=2e-3)


# Colour and values --------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [BT601, BT709])
@pytest.mark.parametrize("levels", [LIMITED, FULL])
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_constant_colour_keeps_its_colour(tmp_path, matrix, levels, ending):
    colour = np.array([200, 90, 40], np.uint8)
    frames = [np.broadcast_to(colour, (48, 64, 3)).copy()] * 3
    tags = {"colorspace": matrix, "color_range": levels}
    vi = write_video(tmp_path / "vi.mp4", frames, tags=tags)
    ir = write_video(tmp_path / "ir.mp4", panned("ir", 3))
    out = tmp_path / f"out{ending}"
    fuse_video(visible_only, ir, vi, out)
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (matrix, levels)
    shown = frame.reformat(
        format="rgb24", src_colorspace=matrix, src_color_range=levels, dst_color_range=FULL
    ).to_ndarray()
    assert np.abs(shown.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_image_files_keep_their_colour(tmp_path, ending):
    colour = np.array([30, 160, 220], np.uint8)
    for number in range(3):
        Image.new("RGB", (64, 48), tuple(colour.tolist())).save(tmp_path / f"vi_{number:03d}.png")
        Image.fromarray(panned("ir")[number]).save(tmp_path / f"ir_{number:03d}.png")
    out = tmp_path / f"out{ending}"
    patterns = (tmp_path / "ir_%03d.png", tmp_path / "vi_%03d.png")
    assert fuse_video(visible_only, *patterns, out, fps=10).frames == 3
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
        assert float(container.streams.video[0].average_rate) == pytest.approx(10, rel=0.01)
    assert (frame.colorspace, frame.color_range) == (BT709, LIMITED)
    shown = frame.reformat(
        format="rgb24", src_colorspace=BT709, src_color_range=LIMITED, dst_color_range=FULL
    ).to_ndarray()
    assert np.abs(shown.astype(int) - colour).max() <= 4


def test_without_colour(videos, tmp_path):
    fuse_video(
        visible_only, videos / "ir.mp4", videos / "vi.mp4", tmp_path / "out.mkv", color=False
    )
    for frame in read_video(tmp_path / "out.mkv")[0]:
        assert np.ptp(frame.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("levels", [LIMITED, FULL])
def test_black_and_white_of_the_infrared_become_black_and_white(tmp_path, levels):
    half = np.zeros((48, 64), np.uint8)
    half[:, 32:] = 255
    ir = write_video(tmp_path / "ir.mkv", [half] * 3, codec="ffv1", tags={"color_range": levels})
    vi = write_video(tmp_path / "vi.mp4", panned("vi", 3))
    fuse_video(infrared_only, ir, vi, tmp_path / "out.mkv", color=False)
    frame = read_video(tmp_path / "out.mkv")[0][0]
    assert frame[:, :30].max() <= 1
    assert frame[:, 34:].min() >= 254


def test_given_ranges(tmp_path):
    ir = write_video(
        tmp_path / "ir.mkv", [np.full((48, 64), 100, np.uint8)] * 2, codec="ffv1", pix_fmt="gray"
    )
    vi = write_video(tmp_path / "vi.mp4", panned("vi", 2))
    fuse_video(infrared_only, ir, vi, tmp_path / "out.mkv", color=False, ir_range=(50, 150))
    assert read_video(tmp_path / "out.mkv")[0][0].mean() == pytest.approx(127.5, abs=1.5)
    # The result is mapped back by the visible range, as that of pictures is.
    fuse_video(
        infrared_only, ir, vi, tmp_path / "two.mkv", color=False, ir_range=(50, 150),
        vi_range=(0, 128),
    )  # fmt: skip
    assert read_video(tmp_path / "two.mkv")[0][0].mean() == pytest.approx(64, abs=1.5)


def deep_frames(count=8):
    """16-bit thermal frames; every other one has hot pixels."""
    frames = []
    for number in range(count):
        frame = panned("ir", 1)[0].astype(np.uint16) * 10 + 20000
        frame[: 6 * (number % 2)] = 40000
        frames.append(frame)
    return frames


@pytest.mark.parametrize("kind", ["video", "png", "tif"])
def test_sixteen_bit_thermal_streams_do_not_pump(tmp_path, kind):
    frames = deep_frames()
    if kind == "video":
        ir = write_video(tmp_path / "ir.mkv", frames, codec="ffv1", pix_fmt="gray16le")
        assert (read_video(ir, "gray16le")[0][1] == frames[1]).all()
    else:
        ir = tmp_path / f"ir_%d.{kind}"
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / f"ir_{number}.{kind}")
    vi = write_video(tmp_path / "vi.mp4", panned("vi", 8))
    changes = {}
    for ranges in ("each", "follow", "fixed"):
        out = tmp_path / f"{ranges}.mkv"
        fuse_video(infrared_only, ir, vi, out, ranges=ranges, color=False)
        found = np.stack(read_video(out, "gray")[0])[:, 10:].astype(int)
        changes[ranges] = np.abs(np.diff(found, axis=0)).mean()
        assert found.std() > 3
    assert changes["each"] > 20
    assert changes["follow"] < 4
    assert changes["fixed"] == 0


def test_a_deep_visible_stream_becomes_an_eight_bit_video(tmp_path):
    frames = [panned("ir", 1)[0].astype(np.uint16) * 100 + 3000] * 3
    vi = write_video(tmp_path / "vi.mkv", frames, codec="ffv1", pix_fmt="gray16le")
    fuse_video(visible_only, vi, vi, tmp_path / "out.mp4")
    low, high = np.percentile(frames[0], (0.5, 99.5))
    expected = ((frames[0] - low) / (high - low)).clip(0, 1) * 255
    assert np.abs(read_video(tmp_path / "out.mp4", "gray")[0][0] - expected).mean() < 4


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p", "gray", "gray10le"])
@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_pixel_formats(videos, tmp_path, pix_fmt, codec):
    out = tmp_path / "out.mkv"
    fuse_video(
        visible_only, videos / "ir.mp4", videos / "vi.mp4", out, pix_fmt=pix_fmt, codec=codec
    )
    with av.open(str(out)) as container:
        found = container.streams.video[0].codec_context.pix_fmt
        # FFmpeg's own decoder of H.264 gives grey video grey chroma.
        assert found == (pix_fmt if codec == "ffv1" else pix_fmt.replace("gray", "yuv420p"))
    grey = read_video(videos / "vi.mp4")[0]
    found = read_video(out)[0]
    grey, found = (np.stack(frames).astype(int).mean(-1) for frames in (grey, found))
    assert np.abs(found - grey).mean() < (12 if "gray" in pix_fmt else 4)


# Sizes --------------------------------------------------------------------------------------------


def test_sizes_that_differ_need_resize(videos, tmp_path):
    small = write_video(tmp_path / "ir.mp4", panned("ir", 12, 32, 24))
    with pytest.raises(InputError, match=r"64 x 48 and .* is 32 x 24 .*resize='ir'"):
        fuse_video(visible_only, small, videos / "vi.mp4", tmp_path / "out.mp4")
    assert files_of(tmp_path) == {"ir.mp4"}
    for resize, size in (("ir", (48, 64)), ("vi", (24, 32))):
        out = tmp_path / f"by_{resize}.mp4"
        fuse_video(visible_only, small, videos / "vi.mp4", out, resize=resize)
        assert read_video(out)[0][0].shape[:2] == size
        assert read_video(out)[0][0].std() > 10


@pytest.mark.parametrize(("ending", "size"), [(".mp4", (46, 62)), (".mkv", (47, 63))])
def test_odd_sizes(tmp_path, ending, size):
    for side in ("ir", "vi"):
        write_video(tmp_path / f"{side}.mkv", panned(side, 3, 63, 47), codec="ffv1")
    arguments = (visible_only, tmp_path / "ir.mkv", tmp_path / "vi.mkv", tmp_path / f"out{ending}")
    if ending == ".mp4":
        with pytest.warns(FusionZooWarning, match=r"63 x 47 .* is odd"):
            fuse_video(*arguments)
    else:
        fuse_video(*arguments)
    found = read_video(tmp_path / f"out{ending}")[0][0]
    assert found.shape[:2] == size
    expected = read_video(tmp_path / "vi.mkv")[0][0][: size[0], : size[1]]
    assert np.abs(found.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_turned_upright(tmp_path, rotation):
    upright = panned("vi", 3)
    turns = rotation // 90
    stored = [np.ascontiguousarray(np.rot90(frame, -turns)) for frame in upright]
    vi = write_video(tmp_path / "vi.mp4", stored, rotation=rotation)
    ir = write_video(tmp_path / "ir.mp4", panned("ir", 3))
    fuse_video(visible_only, ir, vi, tmp_path / "out.mp4")
    found = read_video(tmp_path / "out.mp4")[0]
    assert found[0].shape == (48, 64, 3)
    assert np.abs(found[0].astype(int) - upright[0]).mean() < 12


# What is broken -----------------------------------------------------------------------------------


def test_a_file_cut_short_keeps_what_was_fused(videos, tmp_path):
    frames = panned("ir", 60)
    whole = write_video(tmp_path / "whole.mp4", frames, options={"movflags": "faststart", "g": "5"})
    with av.open(str(whole)) as source:
        last = [packet.pos for packet in source.demux(video=0) if packet.size][-20]
    cut = tmp_path / "cut.mp4"
    # The index is at the end of a file; moved to the front, it is whole in a file cut short.
    remuxed = tmp_path / "front.mp4"
    with (
        av.open(str(whole)) as source,
        av.open(str(remuxed), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = remuxed.read_bytes()
    cut.write_bytes(content[: last + 1000])
    vi = write_video(tmp_path / "vi.mp4", panned("vi", 60))
    out = tmp_path / "out.mp4"
    with pytest.raises(InputError, match=r"cut.mp4.* (cut short|damaged).*frames before that are"):
        fuse_video(visible_only, cut, vi, out)
    assert 20 <= len(read_video(out)[0]) < 60
    assert not [name for name in files_of(tmp_path) if name.endswith(".tmp")]


@pytest.mark.parametrize("what", ["audio", "garbage", "text", "empty", "folder", "nowhere", "half"])
@pytest.mark.parametrize("side", ["ir", "vi"])
def test_what_is_no_video_is_one_line(videos, tmp_path, what, side):
    bad = tmp_path / "bad.mp4"
    if what == "audio":
        with av.open(str(videos / "vi.mp4")) as source, av.open(str(bad), "w") as target:
            stream = target.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
    elif what == "half":  # the index is at the end
        content = (videos / "vi.mp4").read_bytes()
        bad.write_bytes(content[: len(content) // 2])
    elif what == "folder":
        bad.mkdir()
    elif what != "nowhere":
        content = {"garbage": np.random.default_rng(0).bytes(5000), "text": b"no video\n" * 99}
        bad.write_bytes(content.get(what, b""))
    good = videos / "vi.mp4"
    pair = (bad, good) if side == "ir" else (good, bad)
    with pytest.raises((InputError, MissingFileError)) as caught:
        fuse_video(visible_only, *pair, tmp_path / "out.mp4")
    assert "bad.mp4" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_of(tmp_path) <= {"bad.mp4"}


def test_nothing_in_common_writes_nothing(videos, tmp_path):
    with pytest.raises(InputError, match="no time in common at offset 99 s"):
        fuse_video(
            visible_only, videos / "ir.mp4", videos / "vi.mp4", tmp_path / "out.mp4", offset=99
        )
    assert files_of(tmp_path) == set()


def test_an_error_of_the_network_keeps_what_was_fused(videos, tmp_path):
    count = iter(range(99))

    def failing(ir, vi, **options):
        if next(count) == 5:
            raise InputError("the network is tired")
        return visible_only(ir, vi, **options)

    out = tmp_path / "out.mp4"
    with pytest.raises(InputError, match="tired; the 5 frames before that are in"):
        fuse_video(failing, videos / "ir.mp4", videos / "vi.mp4", out)
    assert len(read_video(out)[0]) == 5


@pytest.mark.parametrize(
    ("out", "options", "error", "message"),
    [
        ("out.mp4", {"codec": "h265"}, InputError, "codec must be one of"),
        ("out.webm", {"codec": "h264"}, InputError, "does not hold h264; use vp9"),
        ("out.mp4", {"crf": 99}, InputError, r"0 \(best\) to 51"),
        ("out.mkv", {"crf": 9}, InputError, "without loss"),
        ("out.mp4", {"pix_fmt": "rgb24"}, InputError, "'rgb24' cannot be written"),
        ("out.mp4", {"pix_fmt": "nonsense"}, InputError, "'nonsense' cannot be written"),
        ("out.mp4", {"pix_fmt": "gray16le"}, InputError, "h264 does not take gray16le"),
        ("out.txt", {}, InputError, "'.txt' is not written; use .mp4"),
        ("no/out.mp4", {}, MissingFileError, "the folder .* does not exist"),
        ("there.mp4", {}, InputError, "exists"),
        ("vi.mp4", {"overwrite": True}, InputError, "one of the videos to fuse"),
        ("ir.mp4", {"overwrite": True}, InputError, "one of the videos to fuse"),
        ("out.mp4", {"ranges": "fix"}, InputError, "did you mean 'fixed'"),
        ("out.mp4", {"fps": 0}, InputError, "fps=0"),
        ("out.mp4", {"resize": "both"}, InputError, "resize"),
        ("out.mp4", {"offset": float("nan")}, InputError, "offset"),
    ],
)
def test_wrong_options_are_told_before_anything_is_read(
    videos, tmp_path, out, options, error, message
):
    for name in ("ir.mp4", "vi.mp4"):
        shutil.copy(videos / name, tmp_path)
    (tmp_path / "there.mp4").write_bytes(b"mine")
    before = {name: (tmp_path / name).read_bytes() for name in files_of(tmp_path)}
    with pytest.raises(error, match=message):
        fuse_video(
            visible_only, tmp_path / "ir.mp4", tmp_path / "vi.mp4", tmp_path / out, **options
        )
    assert {name: (tmp_path / name).read_bytes() for name in files_of(tmp_path)} == before


def test_a_full_disk_is_one_line_and_leaves_nothing(videos, tmp_path, monkeypatch):
    class Full:
        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            return getattr(self._container, name)

        def mux(self, packets):
            raise OSError(28, "No space left on device")

    opened = av.open

    def opening(file, mode="r", **options):
        container = opened(file, mode, **options)
        return Full(container) if mode == "w" and str(tmp_path) in str(file) else container

    monkeypatch.setattr(av, "open", opening)
    with pytest.raises(FileError, match=r"out.mp4 cannot be written \(No space left"):
        fuse_video(visible_only, videos / "ir.mp4", videos / "vi.mp4", tmp_path / "out.mp4")
    assert files_of(tmp_path) == set()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("a.mp4", True), ("a.MKV", True), ("f/%05d.png", True), ("f/ir_%d.tif", True),
        ("rtsp://host/x", True), ("udp://127.0.0.1:5000", True), ("/dev/video0", True), ("0", True),
        ("a.png", False), ("folder", False), ("all/*_ir.png", False), ("a.gif", False),
    ],
)  # fmt: skip
def test_what_counts_as_video(where, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_video(where) is expected


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("f_%d_%d.png", InputError, "one %d"),
        ("f_%d.png", MissingFileError, "no such files"),
        ("no/f_%d.png", MissingFileError, "check the folder"),
        ("http://host/a.mp4", InputError, "download"),
        ("/dev/video97", MissingFileError, "no such camera"),
    ],
)
def test_sources_that_are_not_there(where, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        open_source(where)


def test_a_missing_number_is_a_missing_frame(tmp_path):
    for number in (3, 4, 7):
        Image.new("L", (64, 48), number).save(tmp_path / f"{number:02d}.png")
    found = list(open_source(tmp_path / "%02d.png", fps=10))
    assert [(round(one.time, 3), int(one.image[0, 0])) for one in found] == [
        (0, 3), (0.1, 4), (0.4, 7),
    ]  # fmt: skip
