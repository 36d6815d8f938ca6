"""The configurations that run the papers' own schedules: each makes a step, on tiny crops."""

import pytest
import yaml
from cli_helpers import pairs_folder
from safetensors.torch import save_file
from test_coconet import vgg_tensors

from fusionzoo.cli import main
from fusionzoo.cli.configs import packaged_configs

NAMES = sorted(name for name in packaged_configs() if name.endswith(".paper"))
VGG_LAYERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:::lightning"),
]


def test_every_model_of_a_paper_has_one():
    models = {name.partition(".")[0] for name in packaged_configs()} - {"lapnet"}
    assert {name.partition(".")[0] for name in NAMES} == models


@pytest.mark.parametrize("name", NAMES)
def test_one_step(name, tmp_path):
    root = pairs_folder(tmp_path / "pairs", ["a", "b", "c"], color=False)
    arguments = ["fit", f"--config={name}", f"--data.root={root}", "--data.batch_size=3"]
    arguments += ["--data.crop_size=32", "--data.pairs_per_epoch=3", "--trainer.max_epochs=1"]
    arguments += [f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu"]
    arguments += ["--trainer.enable_progress_bar=false"]
    settings = yaml.safe_load(packaged_configs()[name].read_text(encoding="utf-8"))
    if "level_weights" in settings["model"]["init_args"]:
        save_file(vgg_tensors(VGG_LAYERS), tmp_path / "vgg.safetensors")
        arguments.append(f"--model.init_args.vgg_weights={tmp_path / 'vgg.safetensors'}")
    assert main(arguments) == 0
    assert (tmp_path / "version_0" / "pretrained" / "model.safetensors").is_file()


def test_didfuse_has_the_papers_1440_steps():
    settings = yaml.safe_load(packaged_configs()["didfuse.paper"].read_text(encoding="utf-8"))
    data, epochs = settings["data"], settings["trainer"]["max_epochs"]
    assert epochs * data["pairs_per_epoch"] // data["batch_size"] == 1440
