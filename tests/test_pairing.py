"""Which files of two places belong together."""

import os
import subprocess
import sys

import pytest

from fusionzoo.errors import InputError, MissingFileError
from fusionzoo.pairing import find_images, folder_of, is_pattern, pair_up


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(pairs):
    return [pair.name for pair in pairs]


def lock(monkeypatch, *folders):
    """Make folders unreadable, for the superuser too."""
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path) in map(os.fspath, folders):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize(
    ("ir", "vi", "files", "pairs"),
    [
        ("*_ir.png", "*_vi.png", ["a_ir.png", "a_vi.png", "s/b_ir.PNG", "s/b_vi.png"],
         ["a", "s/b"]),
        ("*.ir.png", "*.rgb.png", ["a.ir.png", "a.rgb.png", "a.png"], ["a"]),
        ("*_ir", "*_vi.*", ["a_ir.tif", "a_vi.jpg", "a_ir.txt"], ["a"]),
        ("IR*.png", "VIS*.png", ["IR01.png", "VIS01.png"], ["01"]),
        ("*/ir.png", "*/vi.jpg", ["a/ir.png", "a/vi.jpg", "x/y/ir.png", "x/y/vi.jpg"],
         ["a", "x/y"]),
        ("ir/x*.png", "vi/*.png", ["ir/x1.png", "vi/1.png", "ir/y2.png"], ["1"]),
        ("*.png", "*_vi.png", ["a.png", "a_vi.png", "b_vi.png", "b.png"], ["a", "b"]),
        ("*_ir.png", "vi", ["a_ir.png", "vi/a.jpg"], ["a"]),
    ],
)  # fmt: skip
def test_patterns_pair_by_what_their_star_stands_for(tmp_path, ir, vi, files, pairs):
    touch(tmp_path, *files, ".hidden_ir.png", ".hidden/b_ir.png")
    found, problems = pair_up(tmp_path / ir, tmp_path / vi)
    assert names(found) == pairs
    assert problems == []
    assert all(pair.ir != pair.vi and pair.ir.is_file() and pair.vi.is_file() for pair in found)


def test_a_pattern_names_the_partner_that_is_missing(tmp_path):
    touch(tmp_path, "a_ir.png", "b_vi.png", "c_ir.png", "c_vi.png")
    found, problems = pair_up(tmp_path / "*_ir.png", tmp_path / "*_vi.png")
    assert names(found) == ["c"]
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/a_ir.png: has no partner; add {tmp_path}/a_vi.png or remove this file",
        f"{tmp_path}/b_vi.png: has no partner; add {tmp_path}/b_ir.png or remove this file",
    ]


def test_a_name_that_two_files_have(tmp_path):
    touch(tmp_path, "a_ir.png", "a_ir.jpg", "a_vi.png")
    found, problems = pair_up(tmp_path / "*_ir", tmp_path / "*_vi")
    assert names(found) == ["a"]
    assert [problem.what for problem in problems] == ["has the same name as a_ir.jpg"]


def test_names_never_lead_out_of_a_folder(tmp_path):
    touch(tmp_path, "p../q.png", "p/q.png", "p.png", "p1.png")
    assert list(find_images(tmp_path / "p*.png")[0]) == ["1"]


def test_stars(tmp_path):
    touch(tmp_path, "a*b/x.png")
    assert not is_pattern(tmp_path / "a*b")
    assert list(find_images(tmp_path / "a*b")[0]) == ["x"]
    assert is_pattern(tmp_path / "*_ir.png")
    assert folder_of(tmp_path / "far" / "s*" / "ir.png") == tmp_path / "far"
    with pytest.raises(InputError, match=r"write one \* in a pattern"):
        pair_up(tmp_path / "*_ir_*.png", tmp_path / "*_vi.png")
    with pytest.raises(MissingFileError, match="no such folder"):
        pair_up(tmp_path / "none" / "*_ir.png", tmp_path / "*_vi.png")


def test_unreadable_subfolders_are_reported(tmp_path, monkeypatch):
    touch(tmp_path, "ir/a.png", "vi/a.png", "ir/night/b.png", "vi/night/b.png")
    locked = [tmp_path / side / "night" for side in ("ir", "vi")]
    lock(monkeypatch, *locked)
    found, problems = pair_up(tmp_path / "ir", tmp_path / "vi")
    assert names(found) == ["a"]
    assert [problem.path for problem in problems] == locked
    assert all("cannot be looked into (Permission denied)" in str(one) for one in problems)


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    os.symlink(tmp_path / "c.png", tmp_path / "c.png")  # in a circle
    files, problems = find_images(tmp_path)
    assert list(files) == ["a"]
    assert {problem.path.name for problem in problems} == {"b.png", "c.png"}


def test_pairing_needs_no_torch():
    script = "import sys, fusionzoo.pairing; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
