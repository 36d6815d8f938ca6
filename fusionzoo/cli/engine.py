"""``fusionzoo fit | validate | test | predict``: LightningCLI, with a few things made ready."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from fusionzoo import weights, zoo
from fusionzoo.cli import UsageError
from fusionzoo.cli.callbacks import (
    BestCheckpoint,
    CheckpointFiles,
    FusedImages,
    PretrainedFolder,
    ValidationLines,
    checkpoints,
)
from fusionzoo.cli.configs import with_names_resolved
from fusionzoo.cli.outputs import check_apart, make_folder
from fusionzoo.cli.settings import SettingsParser, unknown_option
from fusionzoo.cli.start import DEFAULT_ROOT, Start, split_start
from fusionzoo.data import FusionDataModule
from fusionzoo.errors import FusionZooError, InputError
from fusionzoo.module import FusionModule
from fusionzoo.remote import is_remote

DEFAULT_SEED = 0
_SEEDS = 2**32  # what numpy takes


def main(name: str, arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run one of Lightning's four commands."""
    _silence_libraries()
    start, arguments = split_start(name, with_names_resolved(arguments))
    made = _Made()
    try:
        FusionCLI(name, start, arguments, made)
    except BaseException as error:
        made.remove_unused_folder()
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None  # Lightning makes it exit status 1
        if isinstance(error, MisconfigurationException):
            raise UsageError(_first_line(error)) from error
        if isinstance(error, RuntimeError) and "loading state_dict" in str(error):
            raise InputError(" ".join(str(error).split())) from error
        raise
    return 0


class _Made:
    """What a command has made so far, to clean up where it fails before it has any result."""

    trainer: Trainer | None = None
    folder: Path | None = None

    def note(self, trainer: Trainer) -> None:
        """Remember a trainer, and the folder of its run if it is a new one."""
        self.trainer = trainer
        # Not the trainer's log_dir, for which all processes have to be asked.
        folder = getattr(trainer.logger, "log_dir", None) if trainer.is_global_zero else None
        if folder is not None and not Path(folder).exists():
            self.folder = Path(folder)

    def remove_unused_folder(self) -> None:
        """Remove the run's folder if no step was made and no checkpoint lies there."""
        if self.folder is None or self.trainer is None or self.trainer.global_step:
            return
        if self.folder.is_dir() and not any(self.folder.rglob("*.ckpt")):
            shutil.rmtree(self.folder, ignore_errors=True)
            for parent in self.folder.parents:  # those that were made for it are empty now
                try:
                    parent.rmdir()
                except OSError:
                    break


class FusionCLI(LightningCLI):
    """LightningCLI for any FusionModule and the FusionDataModule.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        start: what it starts from.
        arguments: the rest of the command line.
        made: told of what is made.
    """

    def __init__(self, command: str, start: Start, arguments: Sequence[str], made: _Made) -> None:
        self.command = command
        self.start = start
        self.made = made
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
            parser_class=SettingsParser,
            parser_kwargs={"prog": "fusionzoo"},
            auto_configure_optimizers=False,  # schedules are the papers'
            args=[command, *arguments],
        )

    # Lightning declares a static method, and calls it on the instance.
    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one command that was called: to build the parsers of all takes seconds."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ours. Two of them were taken out beforehand and are here for ``--help``."""
        self.options = cast(SettingsParser, parser)
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
                "--output", type=str, default="fused", help="Folder or URL for the fused PNGs."
            )
            parser.add_argument(
                "--overwrite",
                action="store_true",
                help="Replace results that exist; by default their pairs are skipped.",
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and check what Lightning would refuse late or in other words.

        Raises:
            UsageError: an option that does not exist, or a value that does not do.
        """
        try:
            super().parse_arguments(parser, args)
        except UsageError as error:
            raise unknown_option(str(error), self.options.option_names()) or error from error
        settings = self.config[self.command]
        seed = settings["seed_everything"]
        if not isinstance(seed, bool) and seed is not None and not 0 <= seed < _SEEDS:
            raise UsageError(f"--seed_everything {seed}: use 0 to {_SEEDS - 1}")
        trainer = settings["trainer"]
        for option, neutral in (("gradient_clip_val", 0), ("accumulate_grad_batches", 1)):
            if self.command == "fit" and trainer[option] not in (None, neutral):
                raise UsageError(
                    f"--trainer.{option} {trainer[option]}: models make their own optimizer steps; "
                    "leave it out, and see the model's options (--print_config) for clipping"
                )
        for option, folder in (
            ("--trainer.default_root_dir", trainer["default_root_dir"]),
            ("--output", settings.get("output")),
        ):
            path = None if folder is None or is_remote(folder) else Path(folder)
            if path is not None and path.exists() and not path.is_dir():
                raise UsageError(f"{option} {folder}: is a file; name a folder")

    def before_instantiate_classes(self) -> None:
        """Settle where the run goes and what it starts with."""
        settings = self.config[self.command]
        settings["weights"] = self.start.weights or settings["weights"]
        self.root = Path(settings["trainer"]["default_root_dir"] or DEFAULT_ROOT)
        if self.command == "predict":
            settings["return_predictions"] = False  # they are written as they come

    def instantiate_classes(self) -> None:
        """Make model, data and trainer, and fill the model with trained weights if there are."""
        super().instantiate_classes()
        settings = self.config_init[self.command]
        settings["ckpt_path"] = self.start.checkpoint or settings["ckpt_path"]
        source = settings["weights"]
        if source is not None:
            pretrained = self.start.pretrained or zoo.load(source)
            weights.load_state(self.model.network, pretrained.network.state_dict(), source=source)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer with our logger, callbacks and checkpoint files.

        Raises:
            UsageError: Lightning refuses a setting, such as a GPU that is not there.
        """
        settings = self.config_init[self.command]
        trainer = settings["trainer"]
        callbacks = _as_list(trainer["callbacks"]) + self._callbacks(settings)
        logger = trainer["logger"]
        if logger is None:
            logger = self.command == "fit" and TensorBoardLogger(
                self.root,
                name="",
                version=self.start.run.name if self.start.run else None,
                default_hp_metric=False,
            )
        checkpointing = trainer["enable_checkpointing"]
        if self.command != "fit" and not any(isinstance(c, ModelCheckpoint) for c in callbacks):
            checkpointing = False  # Lightning's own would complain of the folder of the training
        strategy = trainer["strategy"]
        if strategy == "auto" and _several_processes(trainer):
            # Papers freeze parts of a network for some epochs.
            strategy = "ddp_find_unused_parameters_true"
        try:
            made = super().instantiate_trainer(
                callbacks=callbacks,
                logger=logger,
                strategy=strategy,
                enable_checkpointing=checkpointing,
                plugins=[*_as_list(trainer["plugins"]), CheckpointFiles(self.command == "fit")],
                default_root_dir=str(self.root),
                **kwargs,
            )
        except (MisconfigurationException, ValueError, TypeError) as error:
            if isinstance(error, FusionZooError):
                raise
            raise UsageError(f"trainer: {_first_line(error)}") from error
        if self.command == "fit":
            self.made.note(made)
        return made

    def before_fit(self) -> None:
        """Find what is wrong with the data or the optimizers before anything is written.

        Raises:
            InputError: naming it.
        """
        self.datamodule.setup("fit")
        self.model.trainer = self.trainer  # schedules ask it how long training is to last
        try:
            self.model.configure_optimizers()
        except ValueError as error:  # a negative learning rate, for one
            if isinstance(error, FusionZooError):
                raise
            raise InputError(f"the optimizers cannot be made: {_first_line(error)}") from error

    def before_predict(self) -> None:
        """Refuse to write where the images to fuse are, or where no folder can be.

        Raises:
            UsageError: a result would take the place of an input, or something is in the way.
        """
        self.datamodule.setup("predict")
        writer = FusedImages(self.config_init[self.command]["output"])
        pairs = self.datamodule.datasets["predict"].pairs
        results = [writer.path_of(pair.name) for pair in pairs]
        check_apart(results, [path for pair in pairs for path in (pair.ir, pair.vi)])
        for folder in {path.parent for path in results}:
            make_folder(folder, "--output")

    def _callbacks(self, settings: Any) -> list[Callback]:
        trainer = settings["trainer"]
        made: list[Callback] = []
        if trainer["enable_progress_bar"] is not False:
            made.append(RichProgressBar())
        if self.command == "fit":
            made += [PretrainedFolder(), ValidationLines()]
            if trainer["enable_checkpointing"] is not False:
                made += checkpoints(**settings["checkpoint"])
                made.append(BestCheckpoint(self.model.best_metric))
        if self.command == "predict":
            made.append(FusedImages(settings["output"], settings["overwrite"]))
        return made


def _silence_libraries() -> None:
    """Keep what libraries say of themselves, and not of the run, from the terminal."""
    for message in (
        "LightningCLI's args parameter",  # doubts arguments that are not sys.argv
        ".*does not have many workers",  # images are cached
        ".*is smaller than the logging interval",
        "Using `DistributedSampler`",  # what it gives out twice is measured once
    ):
        warnings.filterwarnings("ignore", message=message)
    for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
        for library in ("lightning", "torch", "torchmetrics", "jsonargparse", "tensorboard"):
            warnings.filterwarnings("ignore", category=category, module=rf"{library}(\.|$)")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advert)


def _is_no_advert(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].removesuffix(".") or type(error).__name__


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
        return str(devices).isdecimal() and int(devices) > 1
    on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda")
    return on_gpu and torch.cuda.device_count() > 1
