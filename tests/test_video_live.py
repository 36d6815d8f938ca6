"""Live streams: sent by PyAV over UDP to this machine."""

import socket
import subprocess
import sys

import pytest
from cli_helpers import environment
from video_helpers import panned, read_video, write_video

from fusionzoo.errors import InputError
from fusionzoo.inference import fuse_images
from fusionzoo.video import fuse_video
from fusionzoo.video import sources as video_sources

pytestmark = pytest.mark.usefixtures("one_thread")

# Sends an encoded file again and again, at its own speed, until it is killed.
SENDER = """
import sys, time, av
path, address = sys.argv[1:]
source = av.open(path)
packets = [packet for packet in source.demux(video=0) if packet.size]
target = av.open(address, "w", format="mpegts", options={"flush_packets": "1"})
stream = target.add_stream_from_template(source.streams.video[0])
length = len(packets)
for number in range(100_000):
    old = packets[number % length]
    packet = av.Packet(bytes(old))
    packet.time_base, packet.stream = old.time_base, stream
    step = int(1 / 25 / old.time_base)
    packet.pts = packet.dts = number * step
    packet.is_keyframe = old.is_keyframe
    target.mux(packet)
    time.sleep(0.04)
"""


def visible_only(ir, vi, **options):
    return fuse_images(lambda one, other: other, ir, vi, **options)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def live(tmp_path, monkeypatch):
    """Two addresses at which frames arrive, and the processes that send them."""
    monkeypatch.setattr(video_sources, "_TO_READ", 1.5)
    addresses, senders = [], []
    for side in ("ir", "vi"):
        options = {"bf": "0", "g": "4", "preset": "ultrafast"}
        path = write_video(tmp_path / f"{side}.mp4", panned(side), options=options)
        address = f"udp://127.0.0.1:{free_port()}"
        command = [sys.executable, "-c", SENDER, str(path), f"{address}?pkt_size=1316"]
        senders.append(subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL))
        addresses.append(address)
    yield addresses, senders
    for sender in senders:
        sender.kill()
        sender.wait()


def test_a_live_stream_is_fused_for_a_while(live, tmp_path):
    out = tmp_path / "out.mp4"
    done = fuse_video(visible_only, *live[0], out, duration=0.5)
    frames, times = read_video(out)
    assert len(frames) == done.frames >= 2
    assert frames[0].shape == (48, 64, 3)
    assert times[0] == 0
    assert times[-1] < 0.5


def test_a_live_stream_that_breaks_off_keeps_what_was_fused(live, tmp_path):
    addresses, senders = live

    def stop(number, total):
        if number == 3:
            for sender in senders:
                sender.kill()

    out = tmp_path / "out.mp4"
    with pytest.raises(InputError, match=r"udp://.* \(nothing came in time\).* frames before that"):
        fuse_video(visible_only, *addresses, out, progress=stop)
    assert len(read_video(out)[0]) >= 3


def test_what_does_not_send_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(video_sources, "_TO_OPEN", 0.5)
    monkeypatch.setattr(video_sources, "_TO_READ", 0.5)
    address = f"udp://127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match=r"cannot be opened within 0.5 s"):
        fuse_video(visible_only, address, address, tmp_path / "out.mp4")


def test_a_live_stream_needs_a_live_partner(live, tmp_path):
    with pytest.raises(InputError, match="one is live and the other is not"):
        fuse_video(visible_only, tmp_path / "ir.mp4", live[0][1], tmp_path / "out.mp4")
