"""Writing files whole, and removing what killed runs left."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusionzoo import files
from fusionzoo.files import remove_leftovers, temporary_name, write_whole

DAYS = 24 * 60 * 60


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    path = tmp_path / "x"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        write_whole(path, b"")
    assert path.exists()
    assert not path.is_file()
    assert os.listdir(tmp_path) == ["x"]


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leftover(folder: Path, process: int, machine: str | None = None) -> Path:
    name = temporary_name(folder / "x").name
    own = f"-{os.getpid()}-"
    assert own in name
    name = name.replace(own, f"-{process}-")
    if machine is not None:
        name = name.replace(files._this_machine(), machine)
    (folder / name).write_bytes(b"half")
    return folder / name


def test_leftovers_of_dead_processes_go(tmp_path, dead):
    gone, mine = leftover(tmp_path, dead), leftover(tmp_path, os.getpid())
    elsewhere = leftover(tmp_path, dead, "0" * 8)
    others = [tmp_path / name for name in (".fusionzoo-x.tmp", ".x.tmp", "x.png")]
    for path in others:
        path.write_bytes(b"")
    remove_leftovers(tmp_path)
    assert not gone.exists()
    assert all(path.exists() for path in (mine, elsewhere, *others))


def test_leftovers_of_other_machines_go_after_a_day(tmp_path, dead):
    young, old = (leftover(tmp_path, dead, "0" * 8) for _ in range(2))
    os.utime(old, (time.time() - DAYS - 60,) * 2)
    remove_leftovers(tmp_path)
    assert young.exists()
    assert not old.exists()


def test_a_leftover_folder_goes_and_a_link_keeps_its_target(tmp_path, dead):
    folder = leftover(tmp_path, dead)
    folder.unlink()
    folder.mkdir()
    (folder / "weights").write_bytes(b"half")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine").write_bytes(b"")
    link = leftover(tmp_path, dead)
    link.unlink()
    link.symlink_to(kept)
    remove_leftovers(tmp_path)
    assert not folder.exists()
    assert not link.is_symlink()
    assert (kept / "mine").exists()


def test_the_first_file_written_to_a_folder_removes_leftovers(tmp_path, dead, monkeypatch):
    monkeypatch.setattr(files, "_looked_through", set())
    monkeypatch.chdir(tmp_path)
    gone = leftover(tmp_path, dead)
    files._looked_through.clear()
    write_whole("new.txt", b"whole")
    assert not gone.exists()
    assert os.listdir(tmp_path) == ["new.txt"]
