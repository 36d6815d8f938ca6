"""URLs of object stores in place of folders and files: by ``memory://``, which fsspec brings."""

import json
import pickle
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from cli_helpers import files_of, pairs_folder, small_model
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from PIL import Image

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.data import FusionDataModule, PairError, find_pairs
from fusionzoo.errors import FileError, InputError, MissingFileError
from fusionzoo.inference import save_image
from fusionzoo.remote import RemotePath, as_path, is_remote
from fusionzoo.video.names import is_video

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]

NAMES = ["1", "night/2", "night/3"]
CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("pairs"), NAMES)


@pytest.fixture
def store(local):
    """The same pairs below memory://bucket/pairs."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    for name in files_of(local):
        store.pipe_file(f"/bucket/pairs/{name}", (local / name).read_bytes())
    yield store
    store.store.clear()


def contents(store, folder):
    """Every file below a folder of the store, by its path there."""
    return {path[len(folder) + 1 :]: store.cat_file(path) for path in store.find(folder)}


def fuse(model, *arguments):
    return main(["fuse", "--model", str(model), "--device", "cpu", *map(str, arguments)])


def test_fuse_reads_and_writes_folders(model, local, store, tmp_path, capsys):
    pairs = "memory://bucket/pairs"
    assert fuse(model, f"{pairs}/ir", f"{pairs}/vi", "-o", "memory://bucket/fused") == 0
    assert fuse(model, local / "ir", local / "vi", "-o", tmp_path / "out") == 0
    expected = {f"{name}.png": (tmp_path / "out" / f"{name}.png").read_bytes() for name in NAMES}
    assert contents(store, "/bucket/fused") == expected

    store.pipe_file("/bucket/fused/1.png", b"as it was")
    store.rm("/bucket/fused/night/2.png")
    patterns = (f"{pairs}/ir/*.png", f"{pairs}/vi/*.png")
    capsys.readouterr()
    assert fuse(model, *patterns, "-o", "memory://bucket/fused") == 0
    out = capsys.readouterr().out
    assert "fused 1 of 3 pairs to memory://bucket/fused" in out
    assert "skipped 2 that exist" in out
    assert contents(store, "/bucket/fused") == {**expected, "1.png": b"as it was"}
    assert fuse(model, *patterns, "-o", "memory://bucket/fused", "--overwrite") == 0
    assert contents(store, "/bucket/fused") == expected

    # From there to here, and back.
    assert fuse(model, f"{pairs}/ir", f"{pairs}/vi", "-o", tmp_path / "here") == 0
    assert files_of(tmp_path / "here") == set(expected)
    one = (f"{pairs}/ir/1.png", local / "vi" / "1.png")
    assert fuse(model, *one, "-o", "memory://other/one.png") == 0
    assert store.cat_file("/other/one.png") == expected["1.png"]
    assert fuse(model, f"{pairs}/ir", f"{pairs}/vi", "-o", f"{pairs}/vi") == 2
    assert "is one of the folders to fuse" in capsys.readouterr().err


def test_evaluate_reads_and_writes(model, local, store, tmp_path, capsys):
    fused = "memory://bucket/fused"
    assert fuse(model, local / "ir", local / "vi", "-o", fused) == 0
    assert fuse(model, local / "ir", local / "vi", "-o", tmp_path / "fused") == 0
    for place, images, report in (
        ("memory://bucket/pairs", fused, "memory://bucket/report.json"),
        (local, tmp_path / "fused", tmp_path / "report.json"),
    ):
        arguments = ["evaluate", "--ir", f"{place}/ir", "--vi", f"{place}/vi", "--fused"]
        arguments += [str(images), "--metrics", "EN", "--device", "cpu", "-o", str(report)]
        assert main(arguments) == 0
    there, here = (
        json.loads(text)["methods"][0]
        for text in (
            store.cat_file("/bucket/report.json"),
            (tmp_path / "report.json").read_text(),
        )
    )
    assert there["name"] == here["name"] == "fused"
    assert there["source"] == fused
    assert there["mean"] == here["mean"]
    assert there["images"] == here["images"]


def test_data_modules_read_and_predict_writes(model, local, store, tmp_path):
    pairs = "memory://bucket/pairs"
    here, there = (FusionDataModule(str(root), color=True, crop_size=32) for root in (local, pairs))
    for data in (here, there):
        data.setup("fit")
        data.setup("test")
    for ours, theirs in (
        (there.test_dataloader(), here.test_dataloader()),
        (there.train_dataloader(), here.train_dataloader()),
    ):
        for one, other in zip(ours, theirs, strict=True):
            assert one["name"] == other["name"]
            assert all((one[key] == other[key]).all() for key in ("ir", "vi", "cbcr"))

    store.pipe_file("/bucket/out/1.png", b"as it was")
    arguments = ["predict", "--weights", str(model), "--data.color=true", *CPU]
    urls = [f"--data.predict_root={pairs}", "--output=memory://bucket/out"]
    assert main([*arguments, *urls]) == 0
    paths = [f"--data.predict_root={local}", f"--output={tmp_path / 'out'}"]
    assert main([*arguments, *paths]) == 0
    expected = {f"{name}.png": (tmp_path / "out" / f"{name}.png").read_bytes() for name in NAMES}
    assert contents(store, "/bucket/out") == {**expected, "1.png": b"as it was"}


def test_what_is_wrong_with_the_files_is_told_by_url(store):
    store.rm("/bucket/pairs/vi/1.png")
    store.pipe_file("/bucket/pairs/ir/night/2.png", b"no image")
    store.pipe_file("/bucket/pairs/ir/.hidden.png", b"")
    with pytest.raises(PairError) as told:
        FusionDataModule("memory://bucket/pairs").setup("test")
    text = str(told.value)
    assert "memory://bucket/pairs/ir/1.png: has no partner; add memory://bucket/pairs/vi/1" in text
    assert "memory://bucket/pairs/ir/night/2.png: cannot be read as an image" in text
    assert len(told.value.problems) == 2
    with pytest.raises(PairError, match=r"no such folder; set vi_dir to .*\(ir, vi\)"):
        find_pairs("memory://bucket/pairs", vi_dir="visible")


def test_python_reads_and_writes(model, local, store, tmp_path):
    loaded = fusionzoo.load(model)
    url = "memory://bucket/pairs/ir/1.png"
    fused = loaded.fuse(url, url.replace("/ir/", "/vi/"))
    expected = loaded.fuse(local / "ir/1.png", local / "vi/1.png")
    assert np.array_equal(np.asarray(fused), np.asarray(expected))
    save_image("memory://bucket/fused.png", fused)
    with store.open("/bucket/fused.png") as file:
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(expected))
    array = np.eye(9, 8)
    save_image("memory://bucket/a.npy", array)
    assert np.array_equal(fusionzoo.open_image("memory://bucket/a.npy").values, array)
    copies = f"simplecache::{url}"  # what fsspec keeps on the disk
    assert fusionzoo.open_image(copies).values.shape == (40, 44)
    here = (tmp_path / "b.npy").as_uri()  # file:// is a path
    save_image(here, array)
    assert np.array_equal(np.load(tmp_path / "b.npy"), array)


def test_a_write_that_fails_leaves_nothing(store, monkeypatch):
    def full(self, path, value, **_):
        raise OSError(28, "quota exceeded")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", full)
    with pytest.raises(FileError, match=r"^memory://bucket/a.png cannot be reached .*quota"):
        save_image("memory://bucket/a.png", np.zeros((8, 8), np.uint8))
    assert not store.exists("/bucket/a.png")


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("memory://bucket/none.png", MissingFileError, r"^memory://bucket/none.png: no such file"),
        ("nosuch://a/b.png", InputError, r"^nosuch://a/b.png: Protocol not known: nosuch"),
        ("needs://a/b.png", InputError, r"^needs://a/b.png: needs:// needs a package .*Install it"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(url, kind, message, store, monkeypatch):
    missing = {"class": "no_such_package.FileSystem", "err": "Install it"}
    monkeypatch.setitem(known_implementations, "needs", missing)
    with pytest.raises(kind, match=message) as told:
        fusionzoo.open_image(url)
    assert "\n" not in str(told.value)


def test_the_extra_is_named_where_fsspec_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert main(["fuse", "s3://b/ir", "s3://b/vi", "-o", "out"]) == 1
    error = capsys.readouterr().err
    assert "s3://b/ir: URLs need fsspec; run: pip install 'fusionzoo[remote]'" in error
    assert len(error.splitlines()) == 1


def test_paths_of_urls():
    path = as_path("s3://bucket/all/a.b_ir.png")
    assert isinstance(path, RemotePath)
    assert str(path) == f"{path}" == path.as_posix() == "s3://bucket/all/a.b_ir.png"
    assert str(path.parent / "x.tif") == "s3://bucket/all/x.tif"
    assert str(path.with_suffix(".png").relative_to("s3://bucket")) == "all/a.b_ir.png"
    assert str(as_path("memory://")) == str(as_path("memory://x").parent) == "memory://"
    assert str(as_path("filecache::gs://b/c")) == "filecache::gs://b/c"
    assert pickle.loads(pickle.dumps(path)) == path
    assert as_path(Path("s3")) == Path("s3")
    assert not any(map(is_remote, ("C://x", "a/b.png", "file:///x", Path("x"), b"s3://", 3)))
    assert is_video("s3://b/film.mp4")  # and is refused as such
    assert not is_video("s3://b/folder")
