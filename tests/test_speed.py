"""``fusionzoo bench``: speed and memory of fusing, and of the metrics."""

import json

import folders
import numpy as np
import pytest
from cli_helpers import pairs_folder, small_model

import fusionzoo
from fusionzoo import speed
from fusionzoo.cli import bench, main
from fusionzoo.metrics import list_metrics, list_protocols


def test_bench_measures_the_model_and_its_baseline(tmp_path, capsys):
    folder = small_model(tmp_path / "model")
    out = tmp_path / "speed.json"
    command = ["bench", "--model", str(folder), "--set", "rule=sum", "--size", "48x32"]
    command += ["--runs", "3", "--threads", "1", "--device", "cpu"]
    assert main([*command, "--baseline", "--json", str(out)]) == 0
    plain, fused = json.loads(out.read_text())
    assert (plain["plain"], fused["plain"]) == (True, False)
    for result in (plain, fused):
        assert (result["width"], result["height"], result["runs"]) == (48, 32, 3)
        assert (result["threads"], result["device"], result["dtype"]) == (1, "cpu", "float32")
        low, middle, high = (result[f"seconds_{key}"] for key in ("min", "median", "max"))
        assert 0 < low <= middle <= high
        assert result["memory_peak_mb"] >= result["memory_loaded_mb"] > 0
    table = capsys.readouterr().out
    assert "as trained" in table
    assert "48 x 32" in table

    # Both are the model that was asked for, with the option that was asked for.
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 48), np.uint8)[:, 0]
    expected, other = (
        fusionzoo.load(folder, **options).fuse(*images) for options in ({"rule": "sum"}, {})
    )
    for result in (plain, fused):
        assert result["checksum"] == pytest.approx([expected.mean(), expected.std()], abs=0.02)
        assert result["checksum"] != pytest.approx([other.mean(), other.std()], abs=0.02)


def test_bench_of_fresh_weights():
    how = {"size": [24, 16], "runs": 2, "device": "cpu", "batch_size": 2}
    how |= {"dtype": "bfloat16", "plain": False, "tile": "auto", "memory": None}
    result = speed._fuse_here("didfuse", {"channels": 4}, True, **how)
    assert (result["untrained"], result["batch_size"], result["dtype"]) == (True, 2, "bfloat16")
    assert result["seconds_processor"] > 0
    pixels = 24 * 16 * 2
    assert result["megapixels_per_second"] * result["seconds_median"] == pytest.approx(pixels / 1e6)


def test_bench_of_an_image_that_the_memory_does_not_hold_whole(monkeypatch):
    asked = {}
    monkeypatch.setattr(speed, "ask", lambda module, function, given, **_: asked.update(given))
    speed.measure_fusing("lapnet.tiny", size=(96, 64), memory=4e9, tile=32, runs=0)
    how = {name: asked[name] for name in ("memory", "tile", "runs")}
    assert how == {"memory": 4e9, "tile": 32, "runs": 0}
    seen = []
    # What this process held before may be more than any call takes: its memory is made up.
    held = {"now": 100_000_000}
    monkeypatch.setattr(speed, "resident_memory", lambda peak=True: held["now"])

    def call():
        seen.append(1)
        held["now"] += 20_000_000

    _, found = speed._timed(call, (96, 64), 0, "cpu", 1)
    assert len(seen) == 1
    assert found["seconds_median"] == found["seconds_first"]
    assert found["memory_loaded_mb"] == pytest.approx(100)
    assert found["memory_extra_mb"] == pytest.approx(20)


def test_bench_hands_on_the_error_of_its_process(capsys):
    assert main(["bench", "--model", "didfus", "--device", "cpu"]) == 1
    assert "did you mean 'didfuse'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "64"],
        ["--runs", "-1"],
        ["--memory", "no"],
        ["--tile", "0"],
        ["--threads", "many"],
        ["--set", "rule"],
    ],
)
def test_bench_usage(arguments, capsys):
    try:
        status = main(["bench", "--untrained", "--device", "cpu", *arguments])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert arguments[0] in capsys.readouterr().err


def test_unknown_device_is_a_usage_error(capsys):
    assert main(["bench", "--untrained", "--device", "toaster"]) == 2
    assert "--device toaster: no such device here; use" in capsys.readouterr().err


def test_bench_of_metrics(tmp_path, capsys):
    out = tmp_path / "speed.json"
    command = ["bench", "--metrics", "cddfuse", "--size", "64x48", "--runs", "2", "--threads", "1"]
    assert main([*command, "--device", "cpu", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["protocol"], result["width"], result["height"]) == ("cddfuse", 64, 48)
    assert list(result["values"]) == list_metrics("cddfuse", columns_only=True)
    assert 0 < result["seconds_min"] <= result["seconds_median"] <= result["seconds_max"]
    assert "cddfuse" in capsys.readouterr().out


def test_bench_of_metrics_knows_every_protocol():
    assert sorted(bench.PROTOCOLS) == sorted(list_protocols())


def test_bench_of_metrics_refuses():
    with pytest.raises(ValueError, match="use 0 or more"):
        speed.measure_metrics(runs=-1)
    with pytest.raises(ValueError, match="at least 1"):
        speed.measure_metrics(batch_size=0)
    with pytest.raises(RuntimeError, match="did you mean 'tang'"):
        speed.measure_metrics("tank", size=(32, 32), runs=1)


def test_folders_are_fused_both_ways(tmp_path, capsys, monkeypatch):
    asked = []

    def here(module, function, question, *, failure, threads):
        asked.append((module, function, threads))
        return getattr(folders, function)(**question)

    monkeypatch.setattr(folders, "ask", here)
    root = pairs_folder(tmp_path, ["0", "1"])
    model = small_model(tmp_path / "model")
    folders.main([f"{root}/ir", f"{root}/vi", "--model", str(model), "--rounds", "1"])
    assert asked == [("folders", "in_turn", 1), ("folders", "together", 1)]
    assert "times as many" in capsys.readouterr().out
    (root / "vi" / "1.png").unlink()
    with pytest.raises(RuntimeError, match="fused too little"):
        folders.together(f"{root}/ir", f"{root}/vi", str(model))
