"""``fusionzoo fuse``."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import (
    asset,
    environment,
    files_of,
    pairs_folder,
    run_cli,
    small_model,
)
from PIL import Image

import fusionzoo
from fusionzoo import inference, zoo
from fusionzoo.cli import main
from fusionzoo.errors import InputError
from fusionzoo.readers import opening

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["1", "2", "night/3", "night/deep/4.b"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture
def pairs(tmp_path):
    return pairs_folder(tmp_path / "pairs", NAMES)


@pytest.fixture
def fuse(model):
    def run(*arguments):
        return main(["fuse", *map(str, arguments), "--model", str(model), "--device", "cpu"])

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_folders(fuse, model, pairs, tmp_path, batch_size, capsys):
    out = tmp_path / "new" / "out"
    assert fuse(pairs / "ir", pairs / "vi", "-o", out, "--batch-size", batch_size) == 0
    assert files_of(out) == {f"{name}.png" for name in NAMES}
    net = fusionzoo.load(model)
    for name in NAMES:
        expected = net.fuse(pairs / "ir" / f"{name}.png", pairs / "vi" / f"{name}.png")
        found = pixels(out / f"{name}.png")
        assert found.shape == np.asarray(expected).shape == (40, 44, 3)
        # Float rounding differs between batch sizes.
        assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= batch_size - 1
    assert "fused 4 of 4 pairs" in capsys.readouterr().out


def test_broken_and_lonely_files_are_reported_and_the_others_done(fuse, pairs, tmp_path, capsys):
    broken = pairs / "vi" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    Image.fromarray(asset("ir")[:20, :20]).save(pairs / "ir" / "1.png")  # not the size of vi/1
    lonely = pairs / "ir" / "night" / "lonely.png"
    Image.fromarray(asset("ir")).save(lonely)
    out = tmp_path / "out"
    assert fuse(pairs / "ir", pairs / "vi", "-o", out, "--batch-size", 3) == 1
    assert files_of(out) == {"night/3.png", "night/deep/4.b.png"}
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert any(line.startswith("2: ") and str(broken) in line for line in errors)
    assert any(line.startswith("1: ") and "20 x 20" in line for line in errors)
    assert any(str(lonely) in line and "no partner" in line for line in errors)
    assert "Traceback" not in captured.err
    assert "fused 2 of 4 pairs" in captured.out
    assert "2 failed; 1 problem with the files" in captured.out


def test_existing_results_are_skipped_unless_told(fuse, pairs, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    kept = out / "1.png"
    kept.write_bytes(b"mine")
    assert fuse(pairs / "ir", pairs / "vi", "-o", out) == 0
    assert kept.read_bytes() == b"mine"
    assert "fused 3 of 4 pairs" in (said := capsys.readouterr().out)
    assert "skipped 1 that exist" in said

    before = (out / "2.png").stat().st_mtime_ns
    assert fuse(pairs / "ir", pairs / "vi", "-o", out) == 0
    assert (out / "2.png").stat().st_mtime_ns == before
    assert "skipped 4" in capsys.readouterr().out

    assert fuse(pairs / "ir", pairs / "vi", "-o", out, "--overwrite") == 0
    assert pixels(kept).shape == (40, 44, 3)
    assert files_of(out) == {f"{name}.png" for name in NAMES}


def test_nothing_half_written_when_writing_fails(fuse, pairs, tmp_path, monkeypatch, capsys):
    def full_disk(self, stream, **options):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    out = tmp_path / "out"
    assert fuse(pairs / "ir", pairs / "vi", "-o", out) == 1
    assert files_of(out) == set()
    assert capsys.readouterr().err.count("No space left") == len(NAMES)


def test_a_killed_run_leaves_whole_files_only(model, tmp_path):
    pairs = pairs_folder(tmp_path / "pairs", [str(number) for number in range(12)])
    out = tmp_path / "out"
    script = (
        "import os, signal, sys\nfrom fusionzoo.cli import main\n"
        "sync, count = os.fsync, iter(range(99))\n"
        "def dying(descriptor):\n"
        "    if next(count) == 5:\n"
        "        os.truncate(descriptor, 9); os.kill(os.getpid(), signal.SIGKILL)\n"
        "    sync(descriptor)\n"
        "os.fsync = dying\nmain(sys.argv[1:])"
    )
    arguments = ["fuse", pairs / "ir", pairs / "vi", "-o", out, "--model", model]
    run = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], env=environment())
    assert run.returncode == -9
    visible = [name for name in files_of(out) if not os.path.basename(name).startswith(".")]
    assert len(visible) == 5
    assert len(files_of(out)) == 6
    for name in visible:
        assert pixels(out / name).shape == (40, 44, 3)
    # The next run goes on, and removes what the killed one left.
    assert main([*map(str, arguments)]) == 0
    assert files_of(out) == {f"{number}.png" for number in range(12)}


def test_an_interrupted_run_says_so_and_leaves_no_pieces(
    fuse, pairs, tmp_path, monkeypatch, capsys
):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    assert fuse(pairs / "ir", pairs / "vi", "-o", tmp_path / "out") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "fusionzoo: interrupted"
    assert files_of(tmp_path / "out") == set()


def test_results_inside_the_visible_folder_are_not_taken_for_images(fuse, pairs, capsys):
    out = pairs / "vi" / "fused"
    for _ in range(2):
        assert fuse(pairs / "ir", pairs / "vi", "-o", out, "--overwrite") == 0
    assert files_of(out) == {f"{name}.png" for name in NAMES}
    assert "no partner" not in capsys.readouterr().err


def test_results_beside_the_folders(fuse, pairs, monkeypatch):
    monkeypatch.chdir(pairs)
    assert fuse("ir", "vi", "-o", ".") == 0
    assert fuse("ir", "vi", "-o", ".", "--overwrite") == 0
    results = {name for name in files_of(pairs) if name.split("/")[0] not in ("ir", "vi")}
    assert results == {f"{name}.png" for name in NAMES}


@pytest.mark.parametrize("side", ["ir", "vi"])
def test_a_link_below_out_must_not_lead_back_to_the_inputs(fuse, pairs, tmp_path, side, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "night").symlink_to(pairs / side / "night")
    before = {name: (pairs / name).read_bytes() for name in files_of(pairs)}
    assert fuse(pairs / "ir", pairs / "vi", "-o", out, "--overwrite") == 2
    assert "would replace" in capsys.readouterr().err
    assert {name: (pairs / name).read_bytes() for name in files_of(pairs)} == before


def test_a_folder_that_cannot_be_looked_into_is_reported(model, pairs, tmp_path):
    for side in ("ir", "vi"):
        (pairs / side / "night").chmod(0)
    out = tmp_path / "out"
    command = ["fuse", pairs / "ir", pairs / "vi", "-o", out, "--model", model]
    try:
        run = run_cli(*command, locked_out=True)
    finally:
        for side in ("ir", "vi"):
            (pairs / side / "night").chmod(0o700)
    assert run.returncode == 1
    for side in ("ir", "vi"):
        assert f"{pairs / side / 'night'}: cannot be looked into" in run.stderr
    assert "fused 2 of 2 pairs" in run.stdout
    assert files_of(out) == {"1.png", "2.png"}


def test_patterns_pair_the_files_of_one_folder(fuse, model, pairs, tmp_path, capsys):
    folder = tmp_path / "all"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for side in ("ir", "vi"):
            (pairs / side / f"{name}.png").rename(folder / f"{name}_{side}.png")
    out = folder / "fused"
    for _ in range(2):  # results of the first call are no images of the second
        assert fuse(folder / "*_ir.png", folder / "*_vi.png", "-o", out, "--overwrite") == 0
        assert "fused 4 of 4 pairs" in capsys.readouterr().out
    assert files_of(out) == {f"{name}.png" for name in NAMES}
    expected = fusionzoo.load(model).fuse(folder / "2_ir.png", folder / "2_vi.png")
    assert (pixels(out / "2.png") == np.asarray(expected)).all()


def test_options_are_checked_before_anything_is_skipped(fuse, model, pairs, tmp_path, capsys):
    command = [pairs / "ir", pairs / "vi", "-o", tmp_path / "out"]
    assert fuse(*command) == 0
    assert fuse(*command) == 0
    capsys.readouterr()
    for wrong, named in (
        (("--set", "rle=sum"), "rule"),
        (("--set", "rule=som"), "rule"),
        (("--device", "toaster"), "--device toaster"),
        (("--ir-range", 9, 1), "--ir-range"),
        (("--model", "didfus"), "didfuse"),
    ):
        arguments = ["--model", model, "--device", "cpu", *wrong]
        assert main(["fuse", *map(str, [*command, *arguments])]) in (1, 2)
        captured = capsys.readouterr()
        assert named in captured.err
        assert "skipped" not in captured.out


def test_a_name_does_not_command_the_terminal(fuse, pairs, tmp_path, capsys):
    name = "\x1b[31mred\x07"
    for side in ("ir", "vi"):
        (pairs / side / f"{name}.png").write_bytes(b"no image")
    (pairs / "ir" / f"{name}2.png").write_bytes(b"lonely")
    assert fuse(pairs / "ir", pairs / "vi", "-o", tmp_path / "\x1bout") == 1
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err + captured.out
    assert captured.err.count(r"\x1b[31mred\x07") >= 2


def test_what_is_probably_not_meant_is_one_line(fuse, pairs, tmp_path, capsys):
    path = pairs / "ir" / "1.gif"
    page = Image.fromarray(asset("ir")[:40, :44])
    other = Image.fromarray(255 - asset("ir")[:40, :44])
    page.save(path, save_all=True, append_images=[other])
    assert fuse(path, pairs / "vi" / "1.png", "-o", tmp_path / "out.png") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fusionzoo: warning: ")
    assert str(path) in line


def test_fusing_imports_nothing_that_training_needs(pairs, tmp_path):
    script = (
        "import sys; from fusionzoo.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    files = (pairs / "ir" / "1.png", pairs / "vi" / "1.png", "-o", tmp_path / "out.png")
    run = subprocess.run(
        [sys.executable, "-c", script, "fuse", *files, "--device", "cpu"],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    modules = set(run.stdout.splitlines()[-1].split())
    assert "torch" in modules
    assert not modules & {
        *("lightning", "pytorch_lightning", "torchmetrics", "kornia", "scipy", "timm"),
        *("matplotlib", "tensorboard", "jsonargparse", "sympy", "rich", "huggingface_hub"),
    }


@pytest.mark.parametrize("key", fusionzoo.list_models(pretrained=True))
def test_the_network_alone_fuses_as_the_model_does(key):
    ir, vi = (asset(side)[:32, :32].copy() for side in ("ir", "vi"))
    if "medical" in key:
        ir, vi = vi, ir  # the first image is the one in colour
    alone = zoo.load_network(key)(ir, vi)
    assert (alone == fusionzoo.load(key).fuse(ir, vi)).all()


def test_pairs_are_decoded_and_written_while_others_are_fused(pairs, tmp_path, monkeypatch, capsys):
    # The first pair is fused once the second is decoded, the third once the first is written:
    # one after the other, neither would ever come.
    second_decoded, first_written = threading.Event(), threading.Event()
    decode = opening.decode

    def decoding(path, name=None, **options):
        image = decode(path, name, **options)
        if path == pairs / "vi" / "2.png":
            second_decoded.set()
        return image

    written = inference.save_image

    def saving(path, image):
        written(path, image)
        first_written.set()

    order = []

    def fuse(ir, vi, **options):
        waited = {0: second_decoded, 2: first_written}.get(len(order))
        order.append(vi.size)
        assert waited is None or waited.wait(30)
        return vi

    monkeypatch.setattr(opening, "decode", decoding)
    monkeypatch.setattr(inference, "save_image", saving)
    monkeypatch.setattr(zoo, "load_network", lambda *args, **options: fuse)
    arguments = ["fuse", pairs / "ir", pairs / "vi", "-o", tmp_path / "out", "--device", "cpu"]
    assert main([*map(str, arguments)]) == 0
    assert "fused 4 of 4 pairs" in (said := capsys.readouterr().out)
    assert said.endswith(" pairs/s\n")


def test_large_images_are_not_decoded_in_advance(fuse, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("fusionzoo.cli.fuse._LARGE", 100)
    early = []
    monkeypatch.setattr(opening, "decode", lambda *given, **options: early.append(given))
    assert fuse(pairs / "ir", pairs / "vi", "-o", tmp_path / "out") == 0
    assert files_of(tmp_path / "out") == {f"{name}.png" for name in NAMES}
    assert early == []


# Two files --------------------------------------------------------------------------------------


def test_two_files_to_a_file_or_into_a_folder(fuse, model, pairs, tmp_path):
    ir, vi = pairs / "ir" / "1.png", pairs / "vi" / "2.png"
    assert fuse(ir, vi, "-o", tmp_path / "new" / "fused.tif") == 0
    assert fuse(ir, vi, "-o", tmp_path) == 0
    expected = np.asarray(fusionzoo.load(model).fuse(ir, vi))
    assert (pixels(tmp_path / "new" / "fused.tif") == expected).all()
    assert (pixels(tmp_path / "2.png") == expected).all()


def test_a_single_file_is_replaced(fuse, model, pairs, tmp_path, capsys):
    ir, vi, out = pairs / "ir" / "1.png", pairs / "vi" / "1.png", tmp_path / "out.png"
    assert fuse(ir, vi, "-o", out) == 0
    assert fuse(ir, vi, "-o", out, "--set", "rule=average", "--set", "gamma=0.1") == 0
    expected = fusionzoo.load(model, rule="average", gamma=0.1).fuse(ir, vi)
    assert (pixels(out) == np.asarray(expected)).all()
    assert "skipped" not in capsys.readouterr().out


def test_no_color_and_options_of_the_model(fuse, model, pairs, tmp_path):
    ir, vi = pairs / "ir" / "1.png", pairs / "vi" / "1.png"
    out = tmp_path / "grey.png"
    assert fuse(ir, vi, "-o", out, "--no-color", "--set", "rule=average", "--set", "gamma=0.2") == 0
    expected = fusionzoo.load(model, rule="average", gamma=0.2).fuse(ir, vi, color=False)
    assert (pixels(out) == np.asarray(expected)).all()
    assert pixels(out).shape == (40, 44)


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_sixteen_bits_stay_sixteen_bits(fuse, model, tmp_path, ending):
    for side in ("ir", "vi"):
        (tmp_path / side).mkdir()
        grey = asset("ir")[:40, :40].astype(np.uint16) * 20 + 7000
        Image.fromarray(grey).save(tmp_path / side / f"a{ending}")
    assert fuse(tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out") == 0
    found = pixels(tmp_path / "out" / f"a{ending}")
    assert found.dtype == np.uint16
    assert 7000 <= found.min() < found.max() <= 7000 + 20 * 255


def test_ranges_and_resize(fuse, model, pairs, tmp_path):
    ir, vi, out = tmp_path / "small.png", pairs / "vi" / "1.png", tmp_path / "out.png"
    Image.fromarray(asset("ir")[:20, :22]).save(ir)
    ranges = ("--ir-range", 20, 200, "--vi-range", 0, 128)
    assert fuse(ir, vi, "-o", out, "--resize", "ir", *ranges) == 0
    expected = fusionzoo.load(model).fuse(
        ir, vi, resize="ir", ir_range=(20, 200), vi_range=(0, 128)
    )
    assert (pixels(out) == np.asarray(expected)).all()


def test_progress_does_not_go_to_stdout(fuse, pairs, tmp_path, capsys):
    assert fuse(pairs / "ir", pairs / "vi", "-o", tmp_path / "out") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("low", ["-1e3", "-1e308", "-.5", "-inf"])
def test_a_negative_number_is_no_option(fuse, pairs, tmp_path, low, capsys):
    files = (pairs / "ir" / "1.png", pairs / "vi" / "1.png", "-o", tmp_path / "x.png")
    status = fuse(*files, "--vi-range", low, "300")
    assert "expected" not in (said := capsys.readouterr().err)
    assert status == (2 if low in ("-1e308", "-inf") else 0)
    assert ("--vi-range" in said) == (status != 0)


def test_options_of_training_play_no_part_in_fusing(pairs, model, tmp_path, capsys):
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["options"]["lr"] = "fast"
    (folder / "config.json").write_text(json.dumps(config))
    files = [str(pairs / "ir" / "1.png"), str(pairs / "vi" / "1.png"), "-o"]
    for number, source in enumerate((folder, model)):
        out = str(tmp_path / f"{number}.png")
        assert main(["fuse", *files, out, "--model", str(source)]) == 0
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    with pytest.raises(InputError, match="'lr'"):
        fusionzoo.load(folder)


def test_without_pairs_a_few_problems_are_named(fuse, tmp_path, capsys):
    for number in range(50):
        for name in (f"ir/a{number}.png", f"vi/b{number}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
    assert fuse(tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a0.png: has no partner" in line
    assert line.endswith("and 97 more problems")


def test_differing_sizes_name_the_option_of_the_command(fuse, pairs, tmp_path, capsys):
    small = tmp_path / "small.png"
    Image.fromarray(asset("ir")[:20, :22]).save(small)
    assert fuse(small, pairs / "vi" / "1.png", "-o", tmp_path / "out.png") == 1
    error = capsys.readouterr().err
    assert "--resize ir or --resize vi" in error
    assert "resize=" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "channels=-5"), "'didfuse'"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "channels=4.5"), "a whole number"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "skips=no"), "true or false"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "gain=high"), "'gain'"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "rule=" + "[" * 99999), "nested"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "rule=" + "[" * 600 + "]" * 600), "rule"),
        (("ir/1.png", "vi/1.png", "-o", "y" * 300 + ".png"), "File name too long"),
        (("i" * 300, "vi/1.png", "-o", "x.png"), "File name too long"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--model", "m" * 300), "File name too long"),
        (("ir/1.png", "vi/1.png", "-o", "vi/1.png/x.png"), "vi/1.png is a file"),
        (("ir", "vi", "-o", "vi/1.png/x"), "vi/1.png is a file"),
        (("ir", "vi", "-o", "lost/x"), "lost is a link that leads nowhere"),
        (("ir/1.png", "vi/1.png", "-o", "fifo.png"), "fifo.png is no regular file"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "name=x"), "no option 'name'"),
        (("ir/1.png", "vi/1.png", "-o", "x.png", "--set", "task=medical"), "no option 'task'"),
    ],
)
def test_mistakes_are_one_line(fuse, pairs, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(pairs)
    Path("lost").symlink_to("nowhere")
    os.mkfifo("fifo.png")
    status = fuse(*arguments) if "--model" not in arguments else main(["fuse", *arguments])
    assert status in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert len(line) < 1000


@pytest.mark.parametrize("locked", ["model", "image", "output"])
def test_what_is_locked_is_one_line(model, pairs, tmp_path, locked):
    ir, vi, out = pairs / "ir" / "1.png", pairs / "vi" / "1.png", tmp_path / "out"
    out.mkdir()
    folder = small_model(tmp_path / "model")
    where = {"model": folder, "image": ir, "output": out}[locked]
    where.chmod(0)
    try:
        run = run_cli("fuse", ir, vi, "-o", out / "x.png", "--model", folder, locked_out=True)
    finally:
        where.chmod(0o700)
    assert run.returncode in (1, 2)
    (line,) = run.stderr.splitlines()
    assert str(where) in line
    assert "ermission" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ir", "vi/1.png", "-o", "out"), "two files, two folders or two patterns"),
        (("ir", "nowhere", "-o", "out"), "nowhere does not exist"),
        (("ir", "vi", "-o", "vi"), "one of the folders to fuse"),
        (("*/*.png", "vi", "-o", "out"), "one *"),
        (("nowhere/*.png", "vi/*.png", "-o", "out"), "nowhere: no such folder"),
        (("ir/*.png", "vi/*.png", "-o", "vi"), "would replace"),
        (("ir/1.png", "ir/2.png", "vi/1.png", "-o", "out"), "quote a pattern"),
        (("ir", "vi", "-o", "ir/1.png"), "is a file"),
        (("ir/1.png", "vi/1.png", "-o", "vi/1.png", "--overwrite"), "one of the images to fuse"),
        (("ir/1.png", "vi/1.png", "-o", "out"), ".png, .tif or .jpg"),
        (("ir/1.png", "vi/1.png", "-o", "out.png", "--set", "rule"), "OPTION=VALUE"),
        (("empty", "vi", "-o", "out"), "no pairs of images"),
    ],
)
def test_usage_errors(fuse, pairs, arguments, message, monkeypatch, capsys):
    (pairs / "empty").mkdir()
    monkeypatch.chdir(pairs)
    before = {name: (pairs / name).read_bytes() for name in files_of(pairs)}
    assert fuse(*arguments) == 2
    assert message in capsys.readouterr().err
    assert {name: (pairs / name).read_bytes() for name in files_of(pairs)} == before


def test_unknown_model_and_option_are_one_line(pairs, model, tmp_path, capsys):
    files = [
        str(pairs / "ir" / "1.png"),
        str(pairs / "vi" / "1.png"),
        "-o",
        str(tmp_path / "x.png"),
    ]
    assert main(["fuse", *files, "--model", "didfus"]) == 1
    assert main(["fuse", *files, "--model", str(model), "--set", "rle=sum"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "did you mean 'didfuse'?" in first
    assert "did you mean 'rule'?" in second
