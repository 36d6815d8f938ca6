"""What is measured: pairs by name, folders and models, stretching, depth, what is left out."""

import math
import statistics

import numpy as np
import pytest
import torch
from evaluate_helpers import NAMES, blend, crop, fused, made_up, save, small_model, sources
from PIL import Image

from fusionzoo.data.decoding import Loaded
from fusionzoo.evaluation import Method, darkened, evaluate, evaluate_pairs, fused_by, fused_folder
from fusionzoo.evaluation.measuring import places, stretched
from fusionzoo.metrics import list_metrics, per_image


def tensor(pixels):
    return torch.from_numpy(pixels)[None, None]


def test_values_are_those_of_the_metrics(tmp_path):
    ir, vi = sources(tmp_path)
    folder = fused(tmp_path / "out", 0.3)
    found = evaluate(ir, vi, [fused_folder("out", folder)], protocol="cddfuse")
    assert found.metrics == list_metrics("cddfuse", columns_only=True)
    assert found.compared == list(NAMES)
    assert not found.problems
    for number, name in enumerate(NAMES):
        images = (blend(0.3, number), crop("ir", number), crop("vi", number))
        expected = per_image("cddfuse", None, *map(tensor, images))
        assert found.scores[0].images[name] == {m: float(v) for m, v in expected.items()}


def test_mean_and_deviation_between_images():
    found = made_up({"x": {"SD": [1.0, 2.0, 6.0]}}, SD=True)
    assert found.mean("x", "SD") == 3.0
    assert found.std("x", "SD") == pytest.approx(statistics.stdev([1.0, 2.0, 6.0]))
    assert math.isnan(made_up({"x": {"SD": [4.0]}}, SD=True).std("x", "SD"))


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ({"a": 1.0, "b": 3.0, "c": 2.0}, True, {"b": 1, "c": 2}),
        ({"a": 1.0, "b": 3.0, "c": 2.0}, False, {"a": 1, "c": 2}),
        ({"a": 1.0, "b": 1.0 + 1e-12, "c": 0.5}, True, {"a": 1, "b": 1, "c": 2}),
        ({"a": math.nan, "b": 3.0}, True, {"b": 1}),
        ({"a": 1.0, "b": 3.0}, None, {}),
        ({"a": 1.0}, True, {}),
    ],
)
def test_places(values, higher, expected):
    assert places(values, higher) == expected


def test_best_follows_the_direction_of_the_metric(tmp_path):
    ir, vi = sources(tmp_path)
    methods = [
        fused_folder(str(share), fused(tmp_path / str(share), share)) for share in (0.0, 0.2, 0.5)
    ]
    found = evaluate(ir, vi, methods, metrics=["SD", "MSE"])
    for metric, pick in (("SD", max), ("MSE", min)):
        means = {method.name: found.mean(method.name, metric) for method in methods}
        first = pick(means, key=means.get)
        assert found.best(metric)[first] == 1
        second = pick(means.keys() - {first}, key=means.get)
        assert found.best(metric)[second] == 2
        assert len(found.best(metric)) == 2


def test_pairs_are_found_by_name_whatever_the_ending(tmp_path):
    ir, vi = sources(tmp_path)
    folder = fused(tmp_path / "out", 0.3, ending="bmp")
    found = evaluate(ir, vi, [fused_folder("out", folder)], metrics=["EN"])
    assert found.compared == list(NAMES)


def test_what_is_wrong_is_listed_and_the_rest_measured(tmp_path):
    names = ("fine", "ruined", "short", "absent", "alone")
    ir, vi = sources(tmp_path, names)
    (vi / "alone.png").unlink()
    whole = fused(tmp_path / "whole", 0.3, names)
    parts = fused(tmp_path / "parts", 0.5, names)
    (parts / "absent.png").unlink()
    (parts / "ruined.png").write_bytes(b"no image")
    save(parts / "short.png", blend(0.5, 2)[:-1])
    save(parts / "stray.png", blend(0.5))
    found = evaluate(
        ir, vi, [fused_folder("whole", whole), fused_folder("parts", parts)], metrics=["SD"]
    )
    assert found.compared == ["fine"]
    assert set(found.scores[0].images) == {"fine", "ruined", "short", "absent"}
    # Means of both are over the same pairs.
    assert found.mean("whole", "SD") == found.scores[0].images["fine"]["SD"]
    text = "\n".join(found.problems)
    for path in (ir / "alone.png", whole / "alone.png", parts / "absent", parts / "stray.png"):
        assert str(path) in text
    assert "parts: ruined: " in text
    assert "64x55" in text
    assert "64x56" in text


def test_sources_of_two_sizes_are_one_problem(tmp_path):
    ir, vi = sources(tmp_path)
    save(vi / "a.png", crop("vi")[:, :-2])
    methods = [fused_folder(str(share), fused(tmp_path / str(share), share)) for share in (0, 1)]
    found = evaluate(ir, vi, methods, metrics=["SD"])
    assert found.compared == ["b", "night/c"]
    assert len(found.problems) == 1
    assert "62x56" in found.problems[0]


def test_a_model_is_measured_as_its_saved_grey_results_are(tmp_path):
    ir, vi = sources(tmp_path)
    save(vi / "a.png", np.stack([crop("vi"), crop("vi")[::-1], crop("ir")], -1))
    model = small_model()
    for name in NAMES:
        image = model.fuse(ir / f"{name}.png", vi / f"{name}.png", color=False)
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "out" / f"{name}.png")
    methods = [fused_by("model", model), fused_folder("folder", tmp_path / "out")]
    found = evaluate(ir, vi, methods, metrics=["EN", "MI", "SD"])
    assert found.scores[0].images == found.scores[1].images


def test_a_model_in_colour_is_measured_by_its_grey(tmp_path):
    ir, vi = sources(tmp_path, ("a",))
    save(vi / "a.png", np.stack([crop("vi"), crop("ir"), crop("ir")], -1))
    model = small_model()
    (tmp_path / "out").mkdir()
    image = model.fuse(ir / "a.png", vi / "a.png")
    assert image.mode == "RGB"
    image.save(tmp_path / "out" / "a.png")
    methods = [fused_by("model", model, color=True), fused_folder("folder", tmp_path / "out")]
    found = evaluate(ir, vi, methods, metrics=["EN", "SD"])
    assert found.scores[0].images == found.scores[1].images


def test_stretch_spreads_the_fused_image_and_nothing_else(tmp_path):
    ir, vi = sources(tmp_path)
    narrow, wide = tmp_path / "narrow", tmp_path / "wide"
    for number, name in enumerate(NAMES):
        image = 90 + blend(0.4, number) // 4
        save(narrow / f"{name}.png", image)
        spread = (image.astype(float) - image.min()) / (image.max() - image.min())
        save(wide / f"{name}.png", np.rint(255 * spread).astype(np.uint8))
    metrics = ["SD", "SF", "MI", "MSE"]
    plain = evaluate(ir, vi, [fused_folder("x", narrow)], metrics=metrics)
    spread = evaluate(ir, vi, [fused_folder("x", narrow)], metrics=metrics, stretch=True)
    by_hand = evaluate(ir, vi, [fused_folder("x", wide)], metrics=metrics)
    assert (plain.stretch, spread.stretch) == (False, True)
    assert spread.scores[0].images == by_hand.scores[0].images
    assert spread.mean("x", "SD") > 2 * plain.mean("x", "SD")


def test_a_model_is_stretched_before_it_is_rounded(tmp_path):
    ir, vi = sources(tmp_path, ("a",))

    class Faint:
        def fuse(self, ir, vi, color):
            return 0.5 + vi / 255  # steps that 8 bits would swallow

    found = evaluate(ir, vi, [fused_by("faint", Faint())], metrics=["EN"], stretch=True)
    spread = stretched(torch.from_numpy(crop("vi") / 255)).mul(255).round().byte()
    expected = per_image(
        "cddfuse", ["EN"], spread[None, None], *map(tensor, map(crop, ("ir", "vi")))
    )
    assert found.mean("faint", "EN") == pytest.approx(float(expected["EN"]), abs=1e-3)


def test_stretching_a_constant_image_leaves_it():
    assert stretched(torch.full((1, 4, 4), 0.25)).eq(0.25).all()


def test_deep_fused_images_have_the_range_of_their_visible_image(tmp_path):
    deep = crop("vi").astype(np.uint16) * 40 + 9000
    for folder in ("ir", "vi", "out"):
        save(tmp_path / folder / "a.png", deep)
    found = evaluate(
        tmp_path / "ir", tmp_path / "vi", [fused_folder("out", tmp_path / "out")], metrics=["MSE"]
    )
    assert found.mean("out", "MSE") == 0


def test_sixteen_bits_beside_eight_are_all_sixteen(tmp_path):
    for folder in ("ir", "vi"):
        save(tmp_path / folder / "a.png", crop("vi"))
    save(tmp_path / "out" / "a.png", crop("vi").astype(np.uint16) * 257)
    found = evaluate(
        tmp_path / "ir", tmp_path / "vi", [fused_folder("out", tmp_path / "out")], metrics=["MSE"]
    )
    assert found.mean("out", "MSE") == 0


def test_floats_of_unknown_range_are_a_problem(tmp_path):
    ir, vi = sources(tmp_path, ("a",))
    (tmp_path / "out").mkdir()
    Image.fromarray(crop("vi").astype(np.float32)).save(tmp_path / "out" / "a.tif")
    found = evaluate(ir, vi, [fused_folder("out", tmp_path / "out")], metrics=["SD"])
    assert found.compared == []
    assert "save it with 8 bits" in found.problems[0]


def test_progress_counts_every_image(tmp_path):
    ir, vi = sources(tmp_path)
    (ir / "b.png").write_bytes(b"no image")
    told = []
    methods = [
        fused_folder("one", fused(tmp_path / "one", 0.3, ("a",))),
        fused_folder("all", fused(tmp_path / "all", 0.3)),
    ]
    evaluate(ir, vi, methods, metrics=["SD"], progress=lambda *count: told.append(count))
    assert [total for _, total in told] == [4] * len(told)
    done = [count for count, _ in told]
    assert done == sorted(done)
    assert done[-1] == 4


def test_sources_are_prepared_before_they_are_fused_and_measured(tmp_path):
    ir, vi = sources(tmp_path / "day")
    for image in (tmp_path / "day").rglob("*.png"):
        factor = 0.5 if "ir" in image.parts else 0.25
        pixels = np.rint(np.asarray(Image.open(image)) * factor).astype(np.uint8)
        save(tmp_path / "night" / image.relative_to(tmp_path / "day"), pixels)
    method = fused_by("model", small_model())
    wanted = evaluate(tmp_path / "night/ir", tmp_path / "night/vi", [method], metrics=["SD", "MI"])
    found = evaluate(
        *(ir, vi, [method]), metrics=["SD", "MI"], prepare=lambda pair: darkened(pair, 0.5, 0.25)
    )
    assert found == wanted
    assert found != evaluate(ir, vi, [method], metrics=["SD", "MI"])


def test_darkening_keeps_the_depth():
    eight, deep = crop("ir"), crop("vi").astype(np.float32) / 255
    dark = darkened(Loaded(eight, deep), vi=0.25)
    assert dark.ir.dtype == np.uint8
    assert np.array_equal(dark.ir, eight)
    assert dark.vi.dtype == np.float32
    assert np.allclose(dark.vi, deep / 4)


def test_refusals(tmp_path):
    ir, vi = sources(tmp_path)
    folder = fused(tmp_path / "out", 0.3)
    method = fused_folder("out", folder)
    with pytest.raises(ValueError, match="did you mean 'tang'"):
        evaluate(ir, vi, [method], protocol="tank")
    with pytest.raises(ValueError, match="did you mean 'Qabf'"):
        evaluate(ir, vi, [method], metrics=["Qabq"])
    with pytest.raises(ValueError, match="two methods are called 'out'"):
        evaluate(ir, vi, [method, method])
    with pytest.raises(ValueError, match="nothing to measure"):
        evaluate(ir, vi, [])
    with pytest.raises(ValueError, match="nothing to measure"):
        evaluate_pairs([], [method])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        evaluate(ir, tmp_path / "nowhere", [method])
    with pytest.raises(FileNotFoundError, match="no such folder of fused images"):
        fused_folder("x", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        fused_folder("x", tmp_path / "empty")
    with pytest.raises(ValueError, match="no pairs of images"):
        evaluate(ir, tmp_path / "empty", [method])
    other = fused(tmp_path / "other", 0.3, ("x", "y"))
    with pytest.raises(ValueError, match="no image there has the name of a pair"):
        evaluate(ir, vi, [fused_folder("other", other)])


def test_a_method_that_fails_is_a_problem_of_that_pair(tmp_path):
    ir, vi = sources(tmp_path)

    def fuse(pair, loaded):
        if pair.name == "b":
            raise RuntimeError("out of memory")
        return torch.from_numpy(loaded.vi)[None]

    found = evaluate(ir, vi, [Method("own", "a function", fuse)], metrics=["SD"])
    assert found.compared == ["a", "night/c"]
    assert found.problems == ("own: b: out of memory",)
