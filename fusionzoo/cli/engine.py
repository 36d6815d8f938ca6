"""``fusionzoo fit | validate | test | predict``: LightningCLI, with a few things made ready."""

from __future__ import annotations

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

from fusionzoo import weights, zoo
from fusionzoo.cli.callbacks import CheckpointFiles, FusedImages, PretrainedFolder, checkpoints
from fusionzoo.cli.configs import with_names_resolved
from fusionzoo.cli.start import DEFAULT_ROOT, Start, split_start
from fusionzoo.data import FusionDataModule
from fusionzoo.module import FusionModule

DEFAULT_SEED = 0


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run one of Lightning's four commands."""
    # LightningCLI doubts arguments that are not sys.argv; these are, with names resolved.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    start, arguments = split_start(name, with_names_resolved(arguments))
    FusionCLI(name, start, arguments)
    return 0


class FusionCLI(LightningCLI):
    """LightningCLI for any FusionModule and the FusionDataModule.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        start: what it starts from.
        arguments: the rest of the command line.
    """

    def __init__(self, command: str, start: Start, arguments: Sequence[str]):
        self.command = command
        self.start = start
        model = start.model()
        if model is not None:  # as the first configuration: those that follow override it
            arguments = ["--config", json.dumps({"model": model}), *arguments]
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
        self.root = Path(settings["trainer"]["default_root_dir"] or DEFAULT_ROOT)
        if self.command == "predict":
            settings["return_predictions"] = False  # they are written as they come

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        settings = self.config_init[self.command]
        settings["ckpt_path"] = self.start.checkpoint or settings["ckpt_path"]
        source = settings["weights"]
        if source is not None:
            pretrained = self.start.pretrained or zoo.load(source)
            weights.load_state(self.model.network, pretrained.network.state_dict(), source=source)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init[self.command]
        trainer = settings["trainer"]
        callbacks = _as_list(trainer["callbacks"]) + self._callbacks(settings)
        logger = trainer["logger"]
        if logger is None:
            logger = self.command == "fit" and TensorBoardLogger(
                self.root,
                name="",
                version=self.start.run and self.start.run.name,
                default_hp_metric=False,
            )
        checkpointing = trainer["enable_checkpointing"]
        if self.command != "fit" and not any(isinstance(c, ModelCheckpoint) for c in callbacks):
            checkpointing = False  # Lightning's own would complain of the folder of the training
        strategy = trainer["strategy"]
        if strategy == "auto" and _several_processes(trainer):
            # Papers freeze parts of a network for some epochs.
            strategy = "ddp_find_unused_parameters_true"
        return super().instantiate_trainer(
            callbacks=callbacks,
            logger=logger,
            strategy=strategy,
            enable_checkpointing=checkpointing,
            plugins=[*_as_list(trainer["plugins"]), CheckpointFiles()],
            default_root_dir=str(self.root),
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


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _several_processes(trainer: Any) -> bool:
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
