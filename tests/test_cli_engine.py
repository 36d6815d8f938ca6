"""``fusionzoo fit``, ``validate``, ``test`` and ``predict``."""

import errno
import logging
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from cli_helpers import files_of, pairs_folder, small_model
from PIL import Image

import fusionzoo
from fusionzoo import weights
from fusionzoo.cli import main
from fusionzoo.cli.callbacks import CheckpointFiles, FusedImages
from fusionzoo.cli.configs import find_config, packaged_configs, with_names_resolved
from fusionzoo.cli.start import root_folder
from fusionzoo.data import FusionDataModule
from fusionzoo.files import write_whole

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
CPU = ["--trainer.accelerator=cpu", *QUIET]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pairs_folder(tmp_path_factory.mktemp("pairs"), ["1", "2", "3", "night/4", "night/5"])


def fit_arguments(root, runs):
    return [
        *("fit", "--config", "didfuse", "--model.init_args.channels=4"),
        *("--model.init_args.rule=average", f"--data.root={root}", "--data.holdout=1"),
        *("--data.batch_size=2", "--data.pairs_per_epoch=4", "--data.crop_size=32"),
        *("--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1"),
        f"--trainer.default_root_dir={runs}",
        *CPU,
    ]


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """The folder of a run of two epochs."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(fit_arguments(root, runs)) == 0
    return runs / "version_0"


def measured(capsys, *arguments):
    """The numbers of the table that ``test`` or ``validate`` prints."""
    capsys.readouterr()
    assert main([*map(str, arguments), *CPU]) == 0
    rows = [line.strip("│|\n ").split("│") for line in capsys.readouterr().out.splitlines()]
    return {row[0].strip(): float(row[1]) for row in rows if len(row) == 2 and "/" in row[0]}


def test_fit_leaves_a_whole_run(run):
    files = files_of(run)
    assert {"config.yaml", "checkpoints/last.ckpt"} <= files
    assert {f"pretrained/{name}" for name in ("config.json", "model.safetensors", "README.md")} <= (
        files
    )
    assert any(name.startswith("events.out.tfevents") for name in files)
    assert not [name for name in files if name.endswith(".tmp")]


def test_pretrained_folder_holds_the_last_weights(run):
    model = fusionzoo.load(run / "pretrained")
    assert model.options["channels"] == 4
    assert model.options["rule"] == "average"
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["epoch"] == 1
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, content["state_dict"][key])
    untrained = small_model(run.parent / "untrained")
    state, _ = weights.read_safetensors(untrained / "model.safetensors")
    assert not torch.equal(
        state["encoder.conv1.conv.weight"], model.network.encoder.conv1.conv.weight
    )


def test_saved_config_starts_the_same_run(run, tmp_path):
    again = ["fit", "--config", str(run / "config.yaml"), f"--trainer.default_root_dir={tmp_path}"]
    assert main(again) == 0
    files = [
        folder / "pretrained" / "model.safetensors" for folder in (run, tmp_path / "version_0")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_test_measures_trained_weights_however_they_are_named(run, root, tmp_path, capsys):
    data = f"--data.test_root={root}"
    checkpoint = run / "checkpoints" / "last.ckpt"
    by_folder = measured(capsys, "test", "--weights", run / "pretrained", data)
    assert by_folder.keys() >= {"test/SD", "test/SSIM", "test/Qabf"}
    # Neither names the model's options: they come with the weights.
    assert measured(capsys, "test", "--ckpt_path", checkpoint, data) == by_folder
    assert measured(capsys, "test", f"--ckpt_path={checkpoint}", data) == by_folder
    assert (
        measured(capsys, "test", "--config=didfuse", f"--weights={checkpoint}", data) == by_folder
    )
    last = f"--trainer.default_root_dir={run.parent}"
    assert measured(capsys, "test", "--ckpt_path", "last", last, data) == by_folder
    # Both can be part of a configuration as well.
    for number, key in enumerate(("weights", "ckpt_path")):
        config = yaml.safe_load((run / "config.yaml").read_text())
        kept = {name: config[name] for name in ("model", "data")}
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump({**kept, key: str(checkpoint)}))
        assert measured(capsys, "test", "--config", file, data) == by_folder

    options = ("--model.init_args.rule=l1",)  # what is given wins over what is stored
    assert measured(capsys, "test", "--weights", run / "pretrained", *options, data) != by_folder
    untrained = ("--model=didfuse", "--model.init_args.channels=4")
    assert measured(capsys, "test", *untrained, data) != by_folder


def test_validate_measures_the_pairs_held_back(run, root, capsys):
    data = (f"--data.root={root}", "--data.holdout=1", "--data.seed=2020")
    found = measured(capsys, "validate", "--weights", run / "pretrained", *data)
    assert found.keys() >= {"val/SD", "val/Qabf"}


def test_measuring_leaves_no_files(run, root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    measured(capsys, "test", "--weights", run / "pretrained", f"--data.test_root={root}")
    assert files_of(tmp_path) == set()


def test_weights_start_training(run, root, tmp_path):
    frozen = ["--weights", str(run / "pretrained"), "--model.init_args.lr=0"]
    assert main([*fit_arguments(root, tmp_path), *frozen]) == 0
    new, old = (
        fusionzoo.load(folder) for folder in (tmp_path / "version_0/pretrained", run / "pretrained")
    )
    assert new.options == {**old.options, "lr": 0.0}
    for (key, ours), theirs in zip(
        new.network.named_parameters(), old.network.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), key
    assert yaml.safe_load((tmp_path / "version_0/config.yaml").read_text())["weights"] == (
        str(run / "pretrained")
    )


@pytest.mark.parametrize("color", [True, False])
def test_predict_writes_every_pair(run, root, tmp_path, monkeypatch, color):
    monkeypatch.chdir(tmp_path)
    arguments = ["predict", "--weights", str(run / "pretrained"), f"--data.predict_root={root}"]
    output = [] if color else ["--output", "else/where"]
    assert main([*arguments, f"--data.color={str(color).lower()}", *output, *CPU]) == 0
    out = tmp_path / ("fused" if color else "else/where")
    names = ["1", "2", "3", "night/4", "night/5"]
    assert files_of(out) == {f"{name}.png" for name in names}
    model = fusionzoo.load(run / "pretrained")
    for name in names:
        expected = np.asarray(
            model.fuse(root / "ir" / f"{name}.png", root / "vi" / f"{name}.png", color=color)
        )
        with Image.open(out / f"{name}.png") as image:
            found = np.asarray(image)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1  # rounding on the way


def test_predict_keeps_names_with_dots(run, tmp_path):
    # A name may hold dots; only the ending is the writer's.
    data = pairs_folder(tmp_path / "pairs", ["a.b", "a"])
    arguments = ["predict", "--weights", str(run / "pretrained"), f"--data.predict_root={data}"]
    arguments += ["--output", str(tmp_path / "out"), *CPU]
    assert main(arguments) == 0
    assert files_of(tmp_path / "out") == {"a.b.png", "a.png"}
    written = [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()]
    assert main(arguments) == 0  # with nothing left to do
    assert written == [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()]


def test_the_writer_of_results_leaves_other_loops_alone(tmp_path):
    trainer = SimpleNamespace(datamodule=FusionDataModule(str(tmp_path)))  # nothing was set up
    FusedImages(tmp_path).setup(trainer, None, "test")
    assert not trainer.datamodule.datasets


def test_fit_says_what_it_found_and_where_the_result_is(root, tmp_path, capsys, recwarn):
    assert main(fit_arguments(root, tmp_path)) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "version_0"
    assert f"trained didfuse: {folder / 'pretrained'}" in out
    best = re.search(r"best checkpoint \(val/Qabf (.*)\): (.*)", out)
    assert Path(best[2]) == folder / "checkpoints" / "best.ckpt"
    lines = re.findall(r"epoch (\d) of 2: EN .*, SD .*, SF .*, Qabf (\S+), SSIM", err)
    assert [epoch for epoch, _ in lines] == ["1", "2"]
    assert max(float(value) for _, value in lines) == float(best[1])
    content = torch.load(best[2], weights_only=True)
    assert lines[content["epoch"]][1] == best[1]
    assert fusionzoo.load(best[2]).options["channels"] == 4

    assert "Tip" not in err
    assert not [line for line in err.splitlines() if "deprecated" in line]
    own = [str(one.message) for one in recwarn if "/lightning/" in one.filename]
    assert not [text for text in own if "deprecated" in text or "workers" in text]


def test_a_start_that_fails_leaves_no_folder(root, tmp_path, capsys):
    runs = tmp_path / "a" / "b"
    assert main([*fit_arguments("nowhere", runs), "--data.cache=false"]) == 1
    assert main([*fit_arguments(root, runs), "--model.init_args.lr=-1"]) == 1
    assert "Invalid learning rate: -1" in capsys.readouterr().err
    big = pairs_folder(tmp_path / "big", ["6"], size=50)  # no batch of two sizes without crops
    sizes = ["--data.crop_size=null", f"--data.root=[{root}, {big}]", "--data.batch_size=6"]
    assert main([*fit_arguments(root, runs), *sizes, "--data.pairs_per_epoch=6"]) == 1
    assert "images of differing sizes" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_predict_never_writes_over_its_inputs(run, tmp_path, capsys):
    data = pairs_folder(tmp_path / "data", ["1", "night/2"])
    before = {path: path.read_bytes() for path in data.rglob("*.png")}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "night").symlink_to(data / "vi" / "night")
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    arguments = ["predict", "--weights", str(run / "pretrained"), f"--data.predict_root={data}"]
    for output, message in (
        (data / "vi", "would replace"),
        (data / "ir", "would replace"),
        (tmp_path / "out", "would replace"),
        (tmp_path / "file", "is a file; name a folder"),
        (tmp_path / "lost" / "x", "lost is a link that leads nowhere"),
    ):
        assert main([*arguments, f"--output={output}", *CPU]) == 2, output
        assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.rglob("*.png")} == before
    assert not (tmp_path / "out" / "1.png").exists()


def test_predict_that_is_interrupted_ends_with_130(root, tmp_path, monkeypatch, capsys):
    def interrupt(model, batch, batch_idx):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("cli_modules.Mortal.predict_step", interrupt)
    # What a shell starts in the background ignores the signal, and so would this.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        arguments = ["predict", "--model=cli_modules.Mortal", f"--data.predict_root={root}"]
        assert main([*arguments, f"--output={tmp_path / 'out'}", *CPU]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores it from then on
    assert "fusionzoo: interrupted" in capsys.readouterr().err


# Going on ---------------------------------------------------------------------------------------


def test_last_goes_on_in_the_same_folder(run, root, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(run, runs / "version_0")
    more = ["--ckpt_path", "last", "--trainer.max_epochs=3"]
    assert main([*fit_arguments(root, runs), *more]) == 0
    assert [path.name for path in runs.iterdir()] == ["version_0"]
    content = torch.load(runs / "version_0/checkpoints/last.ckpt", weights_only=True)
    assert content["epoch"] == 2
    assert (
        yaml.safe_load((runs / "version_0/config.yaml").read_text())["trainer"]["max_epochs"] == 3
    )


def test_last_without_a_run(root, tmp_path, capsys):
    assert main([*fit_arguments(root, tmp_path / "new"), "--ckpt_path", "last"]) == 0
    assert "nothing to go on with, no last.ckpt in" in capsys.readouterr().err
    assert (tmp_path / "new/version_0/pretrained/model.safetensors").is_file()
    nowhere = ["--ckpt_path=last", f"--trainer.default_root_dir={tmp_path / 'no'}", *CPU]
    assert main(["test", "--model=didfuse", f"--data.test_root={root}", *nowhere]) == 2
    assert "no last.ckpt in" in capsys.readouterr().err


def test_checkpoints_kept(root, tmp_path):
    more = ["--checkpoint.keep_every=2", "--trainer.max_epochs=4"]
    assert main([*fit_arguments(root, tmp_path), *more]) == 0
    assert files_of(tmp_path / "version_0" / "checkpoints") == {
        "last.ckpt",
        "best.ckpt",
        "epoch=0001.ckpt",
        "epoch=0003.ckpt",
    }


def test_a_full_disk_stops_fit_and_leaves_the_last_checkpoint(root, tmp_path, monkeypatch, capsys):
    written = []

    def full_after_one(path, content):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write_whole(path, content)

    monkeypatch.setattr("fusionzoo.cli.callbacks.write_whole", full_after_one)
    assert main([*fit_arguments(root, tmp_path), "--data.holdout=0"]) == 1
    last = tmp_path / "version_0" / "checkpoints" / "last.ckpt"
    assert f"fusionzoo: fit: {last}: No space left on device; make room" in capsys.readouterr().err
    assert CheckpointFiles().load_checkpoint(last)["epoch"] == 0
    assert {path.name for path in last.parent.iterdir()} == {"last.ckpt"}


@pytest.mark.parametrize("part", ["optimizer_states", "loops", "state_dict", "epoch"])
def test_a_checkpoint_that_lacks_parts_is_refused(run, root, tmp_path, capsys, part):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    del content[part]
    torch.save(content, tmp_path / "lacking.ckpt")
    arguments = [*fit_arguments(root, tmp_path / "runs"), f"--ckpt_path={tmp_path}/lacking.ckpt"]
    assert main(arguments) == 1
    assert part in (capsys.readouterr().err.splitlines())[-1]
    assert not (tmp_path / "runs").exists()


def test_checkpoints_with_objects_are_refused(tmp_path):
    torch.save({"fusionzoo": logging.getLogger("x")}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match="pickled objects"):
        CheckpointFiles().load_checkpoint(tmp_path / "bad.ckpt")


# Names and errors -------------------------------------------------------------------------------


def test_every_packaged_config_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "didfuse" in packaged_configs()
    for name in packaged_configs():
        assert find_config(name).endswith(".yaml")
        content = yaml.safe_load(Path(find_config(name)).read_text())
        assert name.partition(".")[0] in content["model"]["class_path"]
    own = tmp_path / "own.yaml"
    own.touch()
    assert find_config("own.yaml") == "own.yaml"
    (tmp_path / "didfuse").mkdir()  # a folder is no configuration
    assert find_config("didfuse").endswith("train.yaml")


def test_the_root_folder_is_what_comes_last(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("trainer:\n  default_root_dir: there")
    (tmp_path / "other.yaml").write_text("data:\n  root: x")
    config, other = f"--config={own}", f"--config={tmp_path / 'other.yaml'}"
    option = "--trainer.default_root_dir"
    assert root_folder([]) == Path("runs")
    assert root_folder([option, "here", config, "--x", "1"]) == Path("there")
    assert root_folder(["--config", str(own), f"{option}=here", other]) == Path("here")
    inline = '{"trainer": {"default_root_dir": "inline"}}'
    assert root_folder(["--config", inline]) == Path("inline")


def test_names_on_the_command_line():
    path = find_config("didfuse")
    module = "fusionzoo.models.didfuse.module.DIDFuse"
    assert with_names_resolved(["--config", "didfuse", "--data.root", "didfuse"]) == [
        *("--config", path, "--data.root", "didfuse")
    ]
    assert with_names_resolved(["-c", "didfuse", "--config=didfuse"]) == [
        *("-c", path, f"--config={path}")
    ]
    assert with_names_resolved(["--model", "didfuse"]) == ["--model", module]
    assert with_names_resolved(["--model=my.Own"]) == ["--model=my.Own"]


CONFIGS = {
    "broken.yaml": b"data: [1\nb: }",
    "latin.yaml": "data:\n  root: caf\u00e9".encode("latin-1"),
    "list.yaml": b"- data",
}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--config=didfus"], 2, "did you mean 'didfuse' or 'didfuse.paper'?"),
        (["--config=broken.yaml"], 2, "broken.yaml: is not YAML (line 2, column 2)"),
        (["--config=broken.yaml", "--ckpt_path=last"], 2, "broken.yaml: is not YAML"),
        (["--config=latin.yaml"], 2, "latin.yaml: is not UTF-8"),
        (["--config=list.yaml"], 2, "list.yaml: holds no settings"),
        (["--weights=a", "--ckpt_path=b"], 2, "give only one of"),
        (["--ckpt_path=nowhere.ckpt"], 2, "nowhere.ckpt: no such file"),
        (["--ckpt_path=latin.yaml"], 1, "latin.yaml cannot be read as a torch file"),
        (["--weights=didfus"], 1, "did you mean 'didfuse'?"),
        (["--data.rot=x"], 2, "there is no option --data.rot; did you mean '--data.root'?"),
        (["--model.init_args.chanels=3"], 2, "init_args.chanels; did you mean 'channels'?"),
        (['--config={"data": {"rot": "x"}}'], 2, "option --data.rot; did you mean '--data.root'?"),
        (["stray"], 2, "'stray' is one argument too many"),
        (["--data.crop=middle"], 2, "--data.crop middle: give 'random' or 'center'"),
        (["--trainer.max_epochs=many"], 2, "max_epochs many: give a whole number or null"),
        (["--model=didfus"], 2, "--model didfus: there is no such model"),
        (["--model.init_args.lr=fast"], 2, "--model.init_args.lr fast: give a number"),
        (["--model.init_args.channels=x"], 2, "--model.init_args.channels x: give a whole number"),
        (["--data.root=nowhere"], 1, "nowhere: no such folder"),
        (["--data.seed=-1"], 1, "seed=-1; use at least 0"),
        (["--seed_everything=-5"], 2, "--seed_everything -5: use 0 to"),
        (["--checkpoint.keep_every=0"], 1, "checkpoint.keep_every is 0"),
        (["--model.init_args.variant=fll"], 1, "variant must be one of"),
        (["--trainer.accelerator=cuda"], 2, "can not run on your system"),
        (["--trainer.max_epochs=-5"], 2, "non-negative integer or -1"),
        (["--trainer.devices=0"], 2, "trainer: `Trainer(devices='0')` value is not a valid input"),
        (["--trainer.devices=two"], 2, "trainer: `devices` selected with"),
        (["--trainer.strategy=none"], 2, "invalid strategy name"),
        (["--trainer.gradient_clip_val=1"], 2, "models make their own optimizer steps"),
        (["--trainer.default_root_dir=list.yaml"], 2, "list.yaml: is a file; name a folder"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments, status, message, tmp_path, monkeypatch, capsys):
    if "cuda" in arguments[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    for name, content in CONFIGS.items():
        Path(name).write_bytes(content)
    assert main(["fit", "--config=didfuse", "--data.root=nowhere", *CPU, *arguments]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("INFO")]
    said = "\n".join(lines)
    assert message in said
    assert lines[0].startswith("fusionzoo: ")
    assert len(lines) == 1 + ("image pairs" in said) + ("nothing to go on" in said)
    assert files_of(tmp_path) == CONFIGS.keys()


def test_weights_of_another_architecture_are_refused(run, root, tmp_path, capsys):
    arguments = [*fit_arguments(root, tmp_path), "--weights", str(run / "pretrained")]
    assert main([*arguments, "--model.init_args.channels=6"]) == 1
    assert "differing in shape" in capsys.readouterr().err
