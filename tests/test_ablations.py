"""Variants are trained by the command that users have, and their figures become a table."""

import inspect
from pathlib import Path

import ablate
import pytest
import variants
from cli_helpers import pairs_folder
from results_helpers import made_benchmark, publish

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.cli.configs import find_config, read_config
from fusionzoo.data import FusionDataModule
from fusionzoo.errors import InputError, ResultError

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
PLAN = """\
config: lapnet.tiny
epochs: 1
data: {crop_size: 32, pairs_per_epoch: 2, batch_size: 2, holdout: 1}
variants:
  as it is:
  4 channels: {channels: 4, base: mean}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a key that has a plan, and a document beside that asks for its table."""
    publish(monkeypatch, {})
    folder = made_benchmark(tmp_path).folder / "didfuse"
    (folder / variants.PLAN_NAME).write_text(PLAN, encoding="utf-8")
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("# A page\n\n<!-- table: ablations didfuse -->\n<!-- end table -->\n")
    return folder


def test_a_variant_is_trained_measured_and_shown(folder, tmp_path):
    root = pairs_folder(tmp_path / "pairs", ["a", "b", "c"], color=False, size=64)
    arguments = ["didfuse", "--data", str(root), "--only", "4 channels"]
    arguments += ["--", "--trainer.num_sanity_val_steps", "0"]
    ablate.main(arguments, folder.parent)
    rows = variants.read_rows(folder)
    assert list(rows) == ["4 channels"]
    assert 100 < rows["4 channels"]["parameters"] < 2000
    assert 0 < rows["4 channels"]["Qabf"] < 1
    page = (tmp_path / "docs" / "page.md").read_text(encoding="utf-8")
    assert "| 4 channels |" in page
    assert "1 epochs each" in page
    before = (folder / variants.ROWS_NAME).stat().st_mtime_ns
    ablate.main(arguments, folder.parent)  # measured already: nothing to do
    assert (folder / variants.ROWS_NAME).stat().st_mtime_ns == before


def test_training_that_fails_is_told(folder, tmp_path):
    arguments = ["didfuse", "--data", str(tmp_path), "--", "--trainer.precison", "32"]
    with pytest.raises(ResultError, match=r"--trainer\.precison"):
        ablate.main(arguments, folder.parent)
    with pytest.raises(ResultError, match="no such folder"):
        ablate.main(
            ["didfuse", "--data", str(tmp_path / "none"), "--only", "as it is"], folder.parent
        )
    assert not (folder / variants.ROWS_NAME).exists()


def test_a_plan_is_needed(tmp_path):
    with pytest.raises(InputError, match="names the variants"):
        variants.variants_table(tmp_path)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore:::lightning")
def test_a_run_that_is_there_is_measured_if_it_is_the_variants(folder, tmp_path):
    root = pairs_folder(tmp_path / "pairs", ["a", "b", "c"], color=False, size=64)
    command = ["fit", "--config", "lapnet.tiny", f"--data.root={root}"]
    command += ["--data.crop_size=32", "--data.pairs_per_epoch=2", "--data.batch_size=2"]
    command += ["--data.holdout=1", "--trainer.max_epochs=1", "--model.init_args.channels=4"]
    command += ["--model.init_args.base=mean"]
    command += [f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.accelerator=cpu"]
    assert main([*command, "--trainer.enable_progress_bar=false"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    with pytest.raises(InputError, match=r"init_args\.channels is 4, and the variant's is 8"):
        ablate.main(["didfuse", "--trained", f"as it is={run}"], folder.parent)
    assert not (folder / variants.ROWS_NAME).exists()
    ablate.main(["didfuse", "--trained", f"4 channels={run}"], folder.parent)
    assert list(variants.read_rows(folder)) == ["4 channels"]


@pytest.mark.parametrize(
    "plan", sorted(CHECKPOINTS.glob("*/ablations.yaml")), ids=lambda path: path.parent.name
)
def test_committed_plans_name_options_that_exist(plan):
    plan = variants.read_plan(plan.parent)
    usual = read_config(find_config(plan["config"]))
    name = plan["config"].partition(".")[0]
    assert plan.get("data", {}).keys() <= inspect.signature(FusionDataModule).parameters.keys()
    for options in plan["variants"].values():
        chosen = {**usual["model"].get("init_args", {}), **(options or {})}
        model = fusionzoo.create_model(name, **chosen)
        if getattr(model, "phase", None) is not None:
            assert chosen["phases"] * chosen["phase_epochs"] == plan["epochs"]
        if name == "coconet":
            assert chosen["first_stage_epochs"] < plan["epochs"], "both stages are trained"
