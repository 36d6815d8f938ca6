"""load: from names, folders and checkpoints, and what it refuses."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from entries import update_entry
from safetensors.torch import load_file, save_file

import fusionzoo
from fusionzoo import weights, zoo
from fusionzoo.errors import FileError, InputError, InputTypeError, MissingFileError
from fusionzoo.models import DEFAULT_MODEL, MODELS
from fusionzoo.weights import CONFIG_NAME, WEIGHTS_NAME

FACTS = {"origin": "a test", "training_data": "none", "weights_licence": "MIT", "hub_repo": None}


def make_model(seed=0, **options):
    torch.manual_seed(seed)
    model = fusionzoo.create_model("didfuse", **{"channels": 4, "rule": "average", **options})
    for block in model.network.modules():  # statistics that differ from the initial ones
        if isinstance(block, torch.nn.BatchNorm2d):
            block.running_mean.uniform_(-0.1, 0.1)
            block.running_var.uniform_(0.5, 2)
    return model


def fused_by(model):
    generator = torch.Generator().manual_seed(1)
    ir, vi = torch.rand(2, 1, 1, 17, 23, generator=generator)
    with torch.no_grad():
        return model.eval().network(ir, vi)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def folder(model, tmp_path):
    return model.save_pretrained(tmp_path / "saved")


@pytest.fixture
def checkpoint(model, tmp_path):
    path = tmp_path / "last.ckpt"
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Publish models: a function of key and model that gives the folder of the weights."""
    table, home = tmp_path / "weights.json", tmp_path / "home"
    table.write_text("{}")
    home.mkdir()
    monkeypatch.setattr(weights.table, "_TABLE", table)
    monkeypatch.setenv("FUSIONZOO_HOME", str(home))

    def publish(key, model):
        folder = model.save_pretrained(home / key)
        update_entry(key, folder, table=table, **FACTS)
        return folder

    return publish


# Folders


def test_a_saved_folder_gives_the_same_model(model, folder):
    loaded = fusionzoo.load(folder)
    assert loaded.options == model.options
    assert not any(module.training for module in loaded.modules())
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    assert torch.equal(fused_by(loaded), fused_by(model))


def test_saving_what_was_loaded_changes_nothing(folder, tmp_path):
    again = fusionzoo.load(folder).save_pretrained(tmp_path / "again")
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_strings_paths_and_the_weight_file_itself_are_taken(folder, monkeypatch):
    expected = fused_by(fusionzoo.load(folder))
    monkeypatch.chdir(folder.parent)
    for way in (str(folder), "saved", "./saved", folder / WEIGHTS_NAME, Path("saved")):
        assert torch.equal(fused_by(fusionzoo.load(way)), expected)


def test_a_loaded_model_fuses(folder):
    image = torch.randint(0, 256, (21, 19), dtype=torch.uint8)
    fused = fusionzoo.load(folder).fuse(image, image.flip(0))
    assert fused.shape == image.shape
    assert fused.dtype == torch.uint8


def test_half_precision_storage_loads_as_float32(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert load_file(folder / WEIGHTS_NAME)["encoder.conv1.conv.weight"].dtype == torch.float16
    loaded = fusionzoo.load(folder)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(fused_by(loaded), fused_by(model), rtol=0, atol=2e-3)


def test_options_replace_the_stored_ones(model, folder):
    loaded = fusionzoo.load(folder, rule="sum")
    assert loaded.options == {**model.options, "rule": "sum"}
    assert torch.equal(fused_by(loaded), fused_by(make_model(rule="sum")))
    assert not torch.equal(fused_by(loaded), fused_by(model))


def test_unknown_options_are_refused(folder):
    with pytest.raises(ValueError, match="no option 'rulle'"):
        fusionzoo.load(folder, rulle="sum")


def test_options_of_another_version_are_explained(folder):
    config = json.loads((folder / CONFIG_NAME).read_text())
    config["options"]["colour_space"] = "lab"
    config["fusionzoo_version"] = "7.0"
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"colour_space.*7\.0"):
        fusionzoo.load(folder)


def test_a_model_of_another_version_is_explained(folder):
    config = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**config, "model": "futurenet"}))
    with pytest.raises(ValueError, match=r"saved.*does not have.*'futurenet'"):
        fusionzoo.load(folder)


def test_a_wrong_architecture_says_which_keys(folder):
    with pytest.raises(ValueError, match=r"encoder\.conv1\.conv\.weight \(file 4×1×3×3, model 8×"):
        fusionzoo.load(folder, channels=8)
    with pytest.raises(ValueError, match=r"unexpected: encoder\.base"):
        fusionzoo.load(folder, variant="detail_only")


def test_random_state_and_grad_mode_stay(folder):
    before = torch.get_rng_state()
    fusionzoo.load(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_a_folder_without_safetensors_is_explained(folder):
    state = load_file(folder / WEIGHTS_NAME)
    (folder / WEIGHTS_NAME).unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin: pickles are refused"):
        fusionzoo.load(folder)


def test_a_truncated_file_in_a_folder_is_refused(folder):
    file = folder / WEIGHTS_NAME
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is truncated"):
        fusionzoo.load(folder)


@pytest.mark.parametrize("path", ["no/such/folder", "gone.ckpt", Path("gone")])
def test_missing_paths_are_named(path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fusionzoo.load(path)


@pytest.mark.parametrize(("name", "problem"), [("w.pth", "run code"), ("w.txt", "is no model")])
def test_files_of_other_kinds_are_refused(tmp_path, name, problem):
    (tmp_path / name).write_bytes(b"1")
    with pytest.raises(ValueError, match=problem):
        fusionzoo.load(tmp_path / name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_device_is_where_the_model_goes(folder):
    assert fusionzoo.load(folder, device="cuda").device.type == "cuda"


def test_meta_device_is_where_the_model_goes(folder):
    loaded = fusionzoo.load(folder, device="meta")
    assert {p.device.type for p in loaded.parameters()} == {"meta"}


@pytest.mark.parametrize("device", ["warp", "cuda:99", "cpu:x", 1.5])
def test_a_device_that_is_not_there_is_named(folder, device):
    with pytest.raises(InputError, match=f"device='{device}'") as caught:
        fusionzoo.load(folder, device=device)
    assert "\n" not in str(caught.value)


def test_loading_in_inference_mode_gives_a_model_like_any_other(folder, checkpoint):
    image = torch.rand(19, 21)
    expected = fusionzoo.load(folder).fuse(image, image.flip(0))
    for source in (folder, checkpoint):
        with torch.inference_mode():
            loaded = fusionzoo.load(source)
            assert torch.equal(loaded.fuse(image, image.flip(0)), expected)
        assert not any(tensor.is_inference() for tensor in loaded.network.state_dict().values())
        assert torch.equal(loaded.fuse(image, image.flip(0)), expected)
        loaded.network(image[None, None], image[None, None]).mean().backward()


def test_a_config_larger_than_its_weights_takes_no_memory(folder):
    """10⁸ channels would be 3.6 petabytes."""
    config = json.loads((folder / CONFIG_NAME).read_text())
    config["options"]["channels"] = 100_000_000
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    for load in (fusionzoo.load, zoo.load_network):
        with pytest.raises(InputError, match=r"differing in shape.*model 100000000×1×3×3"):
            load(folder)


# What the system refuses


WITHOUT_RIGHTS = """
import ctypes, os, sys
if os.geteuid() == 0:  # root gives its right to read everything away (Linux' capset)
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, and once more
    assert libc.capget(header, rights) == 0
    rights[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, rights) == 0
import fusionzoo
from fusionzoo.errors import FileError
for source in sys.argv[1:]:
    if source.startswith("HOME="):
        os.environ["FUSIONZOO_HOME"] = source.removeprefix("HOME=")
        source = "didfuse"
    try:
        fusionzoo.load(source)
    except FileError as error:
        assert "\\n" not in str(error)
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' rights")
def test_what_may_not_be_read_is_told_in_one_line(folder, checkpoint, tmp_path):
    config, closed, home = folder / CONFIG_NAME, tmp_path / "closed", tmp_path / "home"
    shutil.copytree(folder, closed)
    home.mkdir()
    locked = (checkpoint, config, closed, home)
    modes = [path.stat().st_mode for path in locked]
    for path in locked:
        path.chmod(0)
    try:
        sources = [str(checkpoint), str(folder), str(closed), f"HOME={home}"]
        run = subprocess.run(
            [sys.executable, "-c", WITHOUT_RIGHTS, *sources],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(fusionzoo.__file__).parents[1])},
        )
    finally:
        for path, mode in zip(locked, modes, strict=True):
            path.chmod(mode)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(locked)
    for line, path in zip(lines, locked, strict=True):
        assert line.startswith(str(path))
        assert "cannot be read (Permission denied); check the path and the rights on it" in line


@pytest.mark.parametrize("name", ["d" * 5000, "folder/" * 800 + "x.ckpt", "./" + "d" * 300])
def test_names_that_are_too_long_are_told_in_short(name):
    for load in (fusionzoo.load, fusionzoo.from_pretrained):
        with pytest.raises(FileError, match=r"cannot be read \(File name too long\)") as caught:
            load(name)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("source", [None, 3, b"didfuse", fusionzoo])
def test_what_is_neither_a_name_nor_a_path_is_refused(source):
    with pytest.raises(InputTypeError, match="by name or path"):
        fusionzoo.load(source)


def test_an_empty_name_is_unknown():
    with pytest.raises(InputError, match="unknown model ''"):
        fusionzoo.load("")


# Checkpoints


def test_a_checkpoint_gives_the_same_model(model, checkpoint):
    loaded = fusionzoo.load(checkpoint)
    assert loaded.options == model.options
    assert not loaded.training
    assert torch.equal(fused_by(loaded), fused_by(model))
    assert fusionzoo.load(str(checkpoint), rule="sum").options["rule"] == "sum"


def test_what_lies_beside_the_network_in_a_checkpoint_is_left_out(model, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["perceptual.vgg.weight"] = torch.zeros(3)
    torch.save(content, checkpoint)
    assert torch.equal(fused_by(fusionzoo.load(checkpoint)), fused_by(model))


def test_other_checkpoints_are_refused(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    del content["fusionzoo"]
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match="not a checkpoint of fusionzoo"):
        fusionzoo.load(checkpoint)


def test_a_checkpoint_with_objects_is_refused_and_not_run(checkpoint, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({**torch.load(checkpoint, weights_only=True), "hook": Evil()}, checkpoint)
    with pytest.raises(ValueError, match="can run code; it is refused"):
        fusionzoo.load(checkpoint)
    assert not marker.exists()


PRUNED = "encoder.conv1.conv.weight"


def quantised(tensor):
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:.*quantize", "ignore:TypedStorage")  # torch's own parts
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: list(state), "'state_dict' is a list and not a dict"),
        (lambda state: {1: 2, **state, "network.x": torch.zeros(1)}, "unexpected: x"),
        (
            lambda state: {key: value.to_sparse() for key, value in state.items()},
            r"no plain tensors of numbers: .*conv\.weight is sparse coo",
        ),
        (
            lambda state: {
                key: quantised(value) if value.is_floating_point() else value
                for key, value in state.items()
            },
            r"conv\.weight is quantised",
        ),
        (lambda state: dict.fromkeys(state, 1.5), r"conv\.weight is a float"),
        (
            lambda state: {
                key: value.long() if value.is_floating_point() else value
                for key, value in state.items()
            },
            r"conv\.weight is of torch\.int64, not torch\.float32",
        ),
        (
            lambda state: {
                **{k: v for k, v in state.items() if k != f"network.{PRUNED}"},
                f"network.{PRUNED}_orig": state[f"network.{PRUNED}"],
                f"network.{PRUNED}_mask": torch.ones_like(state[f"network.{PRUNED}"]),
            },
            r"are pruned \(encoder\.conv1\.conv\.weight\).*torch\.nn\.utils\.prune\.remove",
        ),
    ],
)
def test_checkpoints_of_strange_states_are_refused(checkpoint, change, problem):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"] = change(content["state_dict"])
    torch.save(content, checkpoint)
    with pytest.raises(InputError, match=problem) as caught:
        fusionzoo.load(checkpoint)
    assert str(checkpoint) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_damaged_checkpoints_are_refused(checkpoint, keep):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ValueError, match="may be truncated"):
        fusionzoo.load(checkpoint)


# Names


def test_published_weights_load_by_name_and_tag(published):
    one, two = make_model(1), make_model(2)
    published("didfuse", one)
    published("didfuse.night", two)
    assert torch.equal(fused_by(fusionzoo.load("didfuse")), fused_by(one))
    assert torch.equal(fused_by(fusionzoo.load("didfuse.night")), fused_by(two))
    assert fusionzoo.list_models(pretrained=True) == ["didfuse", "didfuse.night"]


def test_a_name_wins_over_a_folder_called_the_same(published, tmp_path, monkeypatch):
    one, two = make_model(1), make_model(2)
    published("didfuse", one)
    two.save_pretrained(tmp_path / "didfuse")
    monkeypatch.chdir(tmp_path)
    assert torch.equal(fused_by(fusionzoo.load("didfuse")), fused_by(one))
    assert torch.equal(fused_by(fusionzoo.load("./didfuse")), fused_by(two))


def test_names_are_alike_in_upper_and_lower_case(published, tmp_path, monkeypatch):
    published("didfuse.night", make_model(1))
    assert torch.equal(fused_by(fusionzoo.load("DIDFuse.Night")), fused_by(make_model(1)))
    # What was a folder stays one.
    make_model(2).save_pretrained(tmp_path / "DIDFuse.Night")
    monkeypatch.chdir(tmp_path)
    assert torch.equal(fused_by(fusionzoo.load("DIDFuse.Night")), fused_by(make_model(2)))


def test_unknown_tags_list_the_known_ones(published):
    published("didfuse.night", make_model())
    with pytest.raises(InputError, match=r"'didfuse\.nihgt': did you mean 'didfuse\.night'\?"):
        fusionzoo.load("didfuse.nihgt")


def test_a_model_without_published_weights_is_explained(published):
    with pytest.raises(ValueError, match=r"no published weights called 'didfuse'.*create_model"):
        fusionzoo.load("didfuse")


def test_tampered_weights_are_refused_by_name_but_not_by_path(published):
    folder = published("didfuse", make_model())
    expected = weights.sha256_of(folder / WEIGHTS_NAME)
    state = load_file(folder / WEIGHTS_NAME)
    state["encoder.conv1.conv.bias"] += 1
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    found = weights.sha256_of(folder / WEIGHTS_NAME)
    with pytest.raises(ValueError, match=f"{expected}, found {found}"):
        fusionzoo.load("didfuse")
    fusionzoo.load(folder)


def test_a_folder_of_another_model_is_refused_by_name(published):
    folder = published("didfuse", make_model())
    config = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**config, "model": "coconet"}))
    with pytest.raises(ValueError, match="is of model 'coconet', not of 'didfuse'"):
        fusionzoo.load("didfuse")


def test_a_folder_with_other_options_is_refused_by_name(published):
    folder = published("didfuse", make_model())
    config = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**config, "fusionzoo_version": "9.0"}, indent=1))
    fusionzoo.load("didfuse")
    config["options"]["rule"] = "sum"
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json has .* other options.*by its path"):
        fusionzoo.load("didfuse")
    assert fusionzoo.load(folder).options["rule"] == "sum"


def test_published_weights_that_are_not_here_say_where_was_looked(published, tmp_path):
    folder = published("didfuse.night", make_model())
    (folder / WEIGHTS_NAME).unlink()
    with pytest.raises(FileNotFoundError, match=r"home/didfuse\.night.*FUSIONZOO_HOME"):
        fusionzoo.load("didfuse.night")


def test_order_of_search(monkeypatch, tmp_path):
    package, home = tmp_path / "site" / "fusionzoo", tmp_path / "home"
    inside, beside = package / "checkpoints", package.parent / "checkpoints"
    for path in (inside, beside, home):
        path.mkdir(parents=True)
    monkeypatch.setattr(weights.table, "_PACKAGE", package)
    monkeypatch.setattr(weights.table, "_CHECKOUT", beside)
    monkeypatch.delenv("FUSIONZOO_HOME", raising=False)
    # A stranger's folder beside an installed package is none of ours.
    assert weights.checkpoint_folders() == [inside]
    (package.parent / "pyproject.toml").touch()
    assert weights.checkpoint_folders() == [inside, beside]
    monkeypatch.setenv("FUSIONZOO_HOME", str(home))
    assert weights.checkpoint_folders() == [home, inside, beside]
    monkeypatch.setenv("FUSIONZOO_HOME", str(tmp_path / "gone"))
    with pytest.raises(MissingFileError, match=r"FUSIONZOO_HOME=.*gone is no folder"):
        weights.checkpoint_folders()


def test_home_without_the_key_falls_through_to_the_package(published, monkeypatch, tmp_path):
    folder = published("didfuse", make_model())
    package = tmp_path / "site" / "fusionzoo"
    package.mkdir(parents=True)
    folder.parent.rename(package / "checkpoints")
    folder.parent.mkdir()  # FUSIONZOO_HOME, empty now
    monkeypatch.setattr(weights.table, "_PACKAGE", package)
    assert torch.equal(fused_by(fusionzoo.load("didfuse")), fused_by(make_model()))


# Cards


def test_the_card_of_published_weights_keeps_licence_and_paper(tmp_path):
    card = (fusionzoo.load("coconet").save_pretrained(tmp_path / "m") / "README.md").read_text()
    assert "license: other\nlicense_name: mit-vgg-19-part-cc-by-4.0\n" in card
    assert "Licence of the weights: MIT; VGG-19 part CC BY 4.0." in card
    assert "Weights for [CoCoNet: Coupled" in card
    assert "](https://arxiv.org/abs/2211.10960)" in card
    assert "the published weights `coconet` (trained on: TNO (30 pairs)" in card


@pytest.mark.parametrize(
    ("key", "options", "licence"),
    # The second is stored in half precision, and its copy in single.
    [("didfuse", {"rule": "sum"}, "mit"), ("ifesnet", {}, "mit")],
)
def test_a_copy_of_published_weights_is_known_by_its_values(key, options, licence, tmp_path):
    copy = fusionzoo.load(key, **options).save_pretrained(tmp_path / "copy")
    card = (fusionzoo.load(copy).save_pretrained(tmp_path / "m") / "README.md").read_text()
    assert f"license: {licence}\n" in card
    assert f"the published weights `{key}`" in card


def test_the_card_of_own_weights_has_the_paper_and_no_licence(folder):
    card = (folder / "README.md").read_text()
    assert "license: unknown" in card
    assert "https://www.ijcai.org/proceedings/2020/135" in card
    assert "published weights" not in card


# One call


def test_fuse_is_load_and_fuse(published, monkeypatch):
    published("didfuse", make_model())
    image = torch.randint(0, 256, (20, 24), dtype=torch.uint8)
    expected = fusionzoo.load("didfuse").fuse(image, image.flip(0))
    assert torch.equal(fusionzoo.fuse(image, image.flip(0), model="didfuse"), expected)
    assert torch.equal(fusionzoo.fuse(image, image.flip(0), model=make_model().eval()), expected)
    with pytest.raises(TypeError, match="colour"):
        fusionzoo.fuse(image, image, model="didfuse", colour=False)
    with pytest.raises(InputTypeError, match="model must be"):
        fusionzoo.fuse(image, image, model=3)


def test_fuse_takes_the_default_model():
    image = torch.rand(20, 24)
    expected = fusionzoo.load(DEFAULT_MODEL).fuse(image, image.flip(0))
    assert torch.equal(fusionzoo.fuse(image, image.flip(0)), expected)


def test_fuse_loads_once_and_again_when_the_files_change(folder, monkeypatch):
    loads = []
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda source: loads.append(source) or load(source))
    zoo._loaded.cache_clear()
    image = torch.rand(20, 24)
    first = fusionzoo.fuse(image, image.flip(0), model=folder)
    assert torch.equal(fusionzoo.fuse(image, image.flip(0), model=str(folder)), first)
    monkeypatch.chdir(folder)
    assert torch.equal(fusionzoo.fuse(image, image.flip(0), model=Path()), first)
    assert loads == [str(folder)]
    make_model(9).save_pretrained(folder)
    changed = fusionzoo.fuse(image, image.flip(0), model=folder)
    assert torch.equal(changed, make_model(9).eval().fuse(image, image.flip(0)))
    assert not torch.equal(changed, first)
    assert loads == [str(folder)] * 2


def test_loading_a_model_imports_nothing_that_training_alone_needs():
    # Lightning brings torchmetrics and its needs itself: what fusionzoo adds to it counts.
    script = """
import sys, lightning
before = set(sys.modules)
import fusionzoo
from fusionzoo.models import MODELS
for entry in MODELS.values():
    entry.model_class()
fusionzoo.load("didfuse")
added = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(added & {"kornia", "torchmetrics", "scipy", "tensorboard", "timm", "torchvision"}))
print(*(name for name in ("fusionzoo.metrics", "fusionzoo.data") if name in sys.modules))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(fusionzoo.__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


# What the package ships


@pytest.mark.parametrize("key", weights.weights_table())
def test_shipped_weights_are_what_the_table_says(key):
    cfg = weights.weights_table()[key]
    folder = zoo._published_folder(key, cfg)
    assert sorted(
        path.name for path in folder.iterdir() if path.suffix not in (".png", ".yaml", ".csv")
    ) == [
        "README.md",
        CONFIG_NAME,
        WEIGHTS_NAME,
    ]
    model = fusionzoo.load(key)
    assert cfg.file == f"{key}/{WEIGHTS_NAME}"
    assert cfg.parameters == sum(p.numel() for p in model.network.parameters())
    image = torch.rand(37, 41)
    assert model.fuse(image, image.flip(1)).isfinite().all()


def test_shipped_folders_are_all_in_the_table(monkeypatch):
    monkeypatch.delenv("FUSIONZOO_HOME", raising=False)
    shipped = {
        file.parent.name
        for folder in weights.checkpoint_folders()
        for file in folder.glob(f"*/{WEIGHTS_NAME}")
    }
    assert shipped == set(weights.weights_table())


def test_options_that_came_after_the_weights_take_their_defaults(monkeypatch, tmp_path):
    """Configs of earlier versions lack later options; their networks need no Lightning for that."""
    model = fusionzoo.create_model("smfnet", channels=32)
    folder = model.save_pretrained(tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    del config["options"]["variant"]
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(zoo, "_model", None)
    ir, vi = torch.rand(2, 1, 1, 16, 16)
    assert torch.equal(zoo.load_network(folder)(ir, vi), model.fuse(ir, vi))
    with pytest.raises(ValueError, match=r"unexpected|missing"):
        zoo.load_network(folder, options={"variant": "released"})


@pytest.mark.parametrize("name", MODELS)
def test_defaults_read_from_the_source_are_those_of_the_class(name):
    defaults = MODELS[name].option_defaults()
    parameters = inspect.signature(MODELS[name].model_class()).parameters
    assert {key: parameters[key].default for key in defaults} == defaults
    assert parameters.keys() - defaults.keys() <= {"vgg_levels", "level_weights", "stabilizer"}
