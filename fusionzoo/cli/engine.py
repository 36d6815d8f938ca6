"""``fusionzoo fit | validate | test | predict``: LightningCLI, with a few things made ready."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from fusionzoo import weights, zoo
from fusionzoo.cli import UsageError
from fusionzoo.cli.callbacks import (
    LAST,
    CheckpointFiles,
    FusedImages,
    PretrainedFolder,
    checkpoints,
)
from fusionzoo.cli.configs import class_path, with_names_resolved
from fusionzoo.data import FusionDataModule
from fusionzoo.models import MODELS
from fusionzoo.module import FusionModule

DEFAULT_SEED = 0


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run one of Lightning's four commands."""
    # LightningCLI doubts arguments that are not sys.argv; these are, with names resolved.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    start, arguments = _split_start(arguments)
    FusionCLI(name, start, with_names_resolved(arguments))
    return 0


def _split_start(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Take out what says which weights a run starts from.

    The model's options come from there as well, so it is needed before everything else is parsed.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--weights")
    parser.add_argument("--ckpt_path")
    start, rest = parser.parse_known_args(arguments)
    if start.weights and start.ckpt_path:
        raise UsageError(
            "--weights and --ckpt_path exclude each other: the first starts with trained weights, "
            "the second goes on with a run"
        )
    return start, rest


class FusionCLI(LightningCLI):
    """LightningCLI for any FusionModule and the FusionDataModule.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        start: ``weights`` (a name, folder or checkpoint that ``fusionzoo.load`` takes) and
            ``ckpt_path`` (a file, or ``last``), or None.
        arguments: the rest of the command line.
    """

    def __init__(self, command: str, start: argparse.Namespace, arguments: Sequence[str]):
        self.command = command
        self.start = start
        self.pretrained: FusionModule | None = None
        if start.weights:
            self.pretrained = zoo.load(start.weights)
            model = type(self.pretrained)
            arguments = [
                *_as_config(f"{model.__module__}.{model.__qualname__}", self.pretrained.options),
                *arguments,
            ]
        elif start.ckpt_path and Path(start.ckpt_path).is_file():
            stored, _ = weights.read_checkpoint(start.ckpt_path)
            if stored["model"] in MODELS:
                path = class_path(stored["model"])
                arguments = [*_as_config(path, stored["options"]), *arguments]
        super().__init__(
            FusionModule,
            FusionDataModule,
            subclass_mode_model=True,
            # Measuring and predicting leave no run folder behind.
            save_config_callback=SaveConfigCallback if command == "fit" else None,
            save_config_kwargs={"overwrite": True},  # a resumed run goes on in its folder
            seed_everything_default=DEFAULT_SEED,
            parser_kwargs={"prog": "fusionzoo"},
            auto_configure_optimizers=False,  # schedules are the papers'
            args=[command, *arguments],
        )

    def subcommands(self) -> dict[str, set[str]]:
        """The one command that was called: to build the parsers of all takes seconds."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ours. Two of them were taken out beforehand and are here for ``--help``."""
        parser.add_argument(
            "--weights",
            type=str | None,
            help="Trained weights to start with: a name of `fusionzoo list`, a folder written by "
            "save_pretrained, or a checkpoint. The model and its options come from there, too, "
            "as far as they are not given otherwise.",
        )
        if self.command == "fit":
            parser.add_function_arguments(checkpoints, "checkpoint")
        if self.command == "predict":
            parser.add_argument(
                "--output", type=str, default="fused", help="Folder for the fused images (PNG)."
            )

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.command]
        settings["weights"] = self.start.weights or settings["weights"]
        self.root_dir = Path(settings["trainer"]["default_root_dir"] or "runs")
        if self.command == "predict":
            settings["return_predictions"] = False  # they are written as they come

    def instantiate_classes(self) -> None:
        self.version: str | None = None
        self.checkpoint = self._find_checkpoint()
        super().instantiate_classes()
        settings = self.config_init[self.command]
        settings["ckpt_path"] = self.checkpoint
        source = settings["weights"]
        if source is not None:
            pretrained = self.pretrained or zoo.load(source)
            weights.load_state(self.model.network, pretrained.network.state_dict(), source=source)

    def _find_checkpoint(self) -> str | None:
        """The checkpoint to go on with; ``last`` is the newest of all runs in the root folder."""
        asked = self.start.ckpt_path or self.config[self.command].get("ckpt_path")
        if asked != "last":
            if asked and not Path(asked).is_file():
                raise UsageError(f"--ckpt_path {asked}: no such file; name a .ckpt, or `last`")
            return asked
        found = sorted(
            self.root_dir.glob(f"**/checkpoints/{LAST}"), key=lambda path: path.stat().st_mtime
        )
        if not found:
            message = f"--ckpt_path last: there is no {LAST} in {self.root_dir}"
            if self.command != "fit":
                raise UsageError(f"{message}; set trainer.default_root_dir to that of the training")
            rank_zero_warn(f"{message}; starting from the beginning")
            return None
        run = found[-1].parent.parent
        if self.command == "fit" and run.parent.resolve() == self.root_dir.resolve():
            self.version = run.name  # go on in the same folder
        rank_zero_info(f"going on with {found[-1]}")
        return str(found[-1])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init[self.command]
        trainer = settings["trainer"]
        callbacks = _as_list(trainer["callbacks"]) + self._callbacks(settings)
        logger = trainer["logger"]
        if logger is None:
            logger = self.command == "fit" and TensorBoardLogger(
                self.root_dir, name="", version=self.version, default_hp_metric=False
            )
        checkpointing = trainer["enable_checkpointing"]
        if self.command != "fit" and not any(isinstance(c, ModelCheckpoint) for c in callbacks):
            checkpointing = False  # Lightning's own would complain of the folder of the training
        strategy = trainer["strategy"]
        if strategy == "auto" and _several_gpus(trainer):
            # Papers freeze parts of a network for some epochs.
            strategy = "ddp_find_unused_parameters_true"
        return super().instantiate_trainer(
            callbacks=callbacks,
            logger=logger,
            strategy=strategy,
            enable_checkpointing=checkpointing,
            plugins=[*_as_list(trainer["plugins"]), CheckpointFiles()],
            default_root_dir=str(self.root_dir),
            **kwargs,
        )

    def _callbacks(self, settings: Any) -> list[Callback]:
        trainer = settings["trainer"]
        made: list[Callback] = []
        if trainer["enable_progress_bar"] is not False:
            made.append(RichProgressBar())
        if self.command == "fit":
            made.append(PretrainedFolder())
            if trainer["enable_checkpointing"] is not False:
                made += checkpoints(**settings["checkpoint"])
        if self.command == "predict":
            made.append(FusedImages(settings["output"]))
        return made


def _as_config(model: str, options: dict[str, Any]) -> list[str]:
    """A model as the first configuration: those that follow override it."""
    content = {"model": {"class_path": model, "init_args": options}}
    return ["--config", json.dumps(content)]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _several_gpus(trainer: Any) -> bool:
    if trainer["num_nodes"] > 1:
        return True
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices) > 1
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()]) > 1
    if devices not in ("auto", "-1", -1):
        return int(devices) > 1
    on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda")
    return on_gpu and torch.cuda.device_count() > 1
