"""The hub as processes meet it: by environment variables, at once, killed, without rights."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub_helpers import KEY, client_environment, damage, publish
from hub_server import Faults, HubServer

from fusionzoo import weights
from fusionzoo.weights import WEIGHTS_NAME

# What load does up to the point where torch comes in, which would take seconds in each process.
FETCH = """
import sys
from contextlib import contextmanager
from pathlib import Path
from fusionzoo import weights, zoo
weights.table._TABLE = Path(sys.argv[1])
key = sys.argv[2]
cfg = weights.weights_table()[key]
try:
    folder = zoo._published_folder(key, cfg)
    weights.verify(folder / "model.safetensors", cfg)
    print(folder)
except (OSError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def server():
    with HubServer() as server:
        yield server


@pytest.fixture
def table(server, tmp_path):
    publish(server, tmp_path / "made", tmp_path / "weights.json")
    return tmp_path / "weights.json"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "hf"


def start(server, table, home, code=FETCH, **env):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(table), KEY],
        env=client_environment(server, home, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fetch(*args, **env):
    """The folder that a process got, or what it said."""
    process = start(*args, **env)
    out, err = process.communicate(timeout=100)
    return Path(out.strip()) if process.returncode == 0 else err.strip().splitlines()[-1]


def test_endpoint_home_and_offline_mode_are_heeded(server, table, home, tmp_path):
    cfg = weights.weights_table(table)[KEY]
    said = fetch(server, table, home, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE=1" in said
    assert server.requests == []

    folder = fetch(server, table, home)
    assert home in folder.parents
    weights.verify(folder / WEIGHTS_NAME, cfg)

    asked = len(server.requests)
    assert fetch(server, table, home, HF_HUB_OFFLINE="1") == folder
    elsewhere = fetch(server, table, home, HF_HUB_CACHE=str(tmp_path / "elsewhere"))
    assert tmp_path / "elsewhere" in elsewhere.parents
    assert len(server.requests) > asked


def test_two_processes_at_once(server, table, home):
    both = [start(server, table, home) for _ in range(2)]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]


def test_a_process_killed_during_the_download_leaves_nothing_that_loads(server, table, home):
    server.faults = Faults(stall_after=200)
    process = start(server, table, home)
    assert server.stalled.wait(60)
    process.kill()
    process.communicate()
    assert list(home.rglob(WEIGHTS_NAME)) == []
    server.faults = Faults()
    folder = fetch(server, table, home)
    weights.verify(folder / WEIGHTS_NAME, weights.weights_table(table)[KEY])


# Root may write where permissions forbid it, until it gives that right away (Linux' capset).
WITHOUT_RIGHTS = """
import ctypes, os
if os.geteuid() == 0:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, and once more
    assert libc.capget(header, rights) == 0
    rights[0] &= ~0b10  # CAP_DAC_OVERRIDE
    assert libc.capset(header, rights) == 0
"""


@pytest.mark.skipif(
    os.name != "posix" or (os.geteuid() == 0 and sys.platform != "linux"),
    reason="needs a user without rights",
)
def test_a_read_only_cache_is_used_and_a_lack_of_rights_explained(server, table, home):
    code, cache = WITHOUT_RIGHTS + FETCH, home / "hub"
    cache.mkdir(parents=True)
    with read_only(cache):
        said = fetch(server, table, home, code)
        assert said.startswith("PermissionError"), said
        assert f"cannot be stored in the cache {cache}" in said

    folder = fetch(server, table, home)
    with read_only(cache):
        assert fetch(server, table, home, code) == folder

    damage(folder)
    with read_only(cache):
        said = fetch(server, table, home, code)
        assert "not the published file" in said
        assert f"cannot be stored in the cache {cache}" in said
        assert f"delete {cache}" in said


@contextmanager
def read_only(top):
    paths = [path for path in (top, *top.rglob("*")) if not path.is_symlink()]
    before = [path.stat().st_mode for path in paths]
    for path, mode in zip(paths, before, strict=True):
        path.chmod(mode & 0o7555)
    try:
        yield
    finally:
        for path, mode in zip(paths, before, strict=True):
            path.chmod(mode)


LOCAL_ONLY = """
import builtins, socket, sys

def refuse(*_, **__):
    raise AssertionError("the network was touched")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "huggingface_hub":
            raise AssertionError("huggingface_hub was imported")

sys.meta_path.insert(0, Refuse())
import fusionzoo
from fusionzoo.cli import main
for key in fusionzoo.list_models(pretrained=True):
    folder = fusionzoo.load(key).save_pretrained(sys.argv[1])
    fusionzoo.load(folder)
    fusionzoo.from_pretrained(key)
    fusionzoo.from_pretrained(str(folder))
assert main(["list"]) == 0
"""


def test_local_weights_touch_no_network_and_import_no_client(server, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", LOCAL_ONLY, str(tmp_path / "saved")],
        env=client_environment(server, tmp_path / "hf"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert server.requests == []
    assert not (tmp_path / "hf").exists()
