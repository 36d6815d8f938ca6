"""What ``fit`` and ``predict`` leave behind: checkpoints, a model folder, fused images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from fusionzoo.errors import InputError
from fusionzoo.files import temporary_name
from fusionzoo.inference import save_image
from fusionzoo.weights import read_pickle

LAST = "last.ckpt"
PRETRAINED = "pretrained"


def checkpoints(keep_every: int | None = None) -> list[Callback]:
    """The callbacks that write a run's checkpoints; ``last.ckpt`` at the end of every epoch.

    Args:
        keep_every: keep a checkpoint of its own, ``epoch=0009.ckpt``, every so many epochs.

    Raises:
        InputError: a number below 1.
    """
    if keep_every is not None and keep_every < 1:
        raise InputError(f"checkpoint.keep_every is {keep_every}; use at least 1, or null")
    last = ModelCheckpoint(
        filename=Path(LAST).stem,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    made: list[Callback] = [last]
    if keep_every is not None:
        kept = KeptCheckpoint(
            filename="{epoch:04d}",
            save_top_k=-1,
            every_n_epochs=keep_every,
            save_on_train_epoch_end=True,
        )
        made.append(kept)
    return made


class KeptCheckpoint(ModelCheckpoint):
    """A class of its own, since Lightning tells callbacks apart by class and interval."""


class CheckpointFiles(TorchCheckpointIO):
    """Checkpoints that are whole or not there at all, and that hold nothing but plain data."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write aside, then rename: a killed run leaves the previous file as it was."""
        # Lightning's own way goes through the system's temporary folder; from there to another
        # disk a file is copied, and a kill can leave half of it.
        unfinished = temporary_name(Path(path))
        try:
            super().save_checkpoint(checkpoint, unfinished, storage_options)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read onto the CPU, refusing pickled objects; Lightning moves things to their device."""
        return read_pickle(path)


class PretrainedFolder(Callback):
    """Writes the folder ``pretrained`` beside the checkpoints when training has ended.

    It is what ``save_pretrained`` writes: ``fusionzoo.load("<run>/pretrained")`` reads it.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir  # asks all processes, so before the one that writes is chosen
        if trainer.is_global_zero and folder is not None and not trainer.fast_dev_run:
            pl_module.save_pretrained(Path(folder) / PRETRAINED)


class FusedImages(BasePredictionWriter):
    """Writes each fused image of ``predict`` to ``<folder>/<name>.png``, under its name only when
    it is whole; nested names make nested folders. Every process writes its own pairs."""

    def __init__(self, folder: str | Path):
        super().__init__("batch")
        self.folder = Path(folder)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Mapping[str, Any],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        for name, image in zip(prediction["name"], prediction["fused"], strict=True):
            path = self.folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(path, image)
