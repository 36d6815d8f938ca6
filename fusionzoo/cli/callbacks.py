"""What ``fit`` and ``predict`` leave behind: checkpoints, a model folder, fused images."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from fusionzoo.cli.console import printable
from fusionzoo.cli.outputs import existing
from fusionzoo.data import FusionDataModule
from fusionzoo.errors import FileError, InputError
from fusionzoo.files import write_whole
from fusionzoo.inference import save_image
from fusionzoo.module import FusionModule
from fusionzoo.remote import as_path
from fusionzoo.weights import read_pickle

LAST, BEST = "last.ckpt", "best.ckpt"
PRETRAINED = "pretrained"

# What Lightning needs to measure with a checkpoint, and what to train on from it.
_PARTS = ("state_dict", "epoch", "global_step", "pytorch-lightning_version")
_PARTS_OF_TRAINING = (*_PARTS, "loops", "optimizer_states", "lr_schedulers")


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


class BestCheckpoint(ModelCheckpoint):
    """Writes ``best.ckpt`` whenever validation finds more of the model's ``best_metric``."""

    def __init__(self, metric: str) -> None:
        super().__init__(
            filename=Path(BEST).stem,
            monitor=f"val/{metric}",
            mode="max",
            save_top_k=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )


class CheckpointFiles(TorchCheckpointIO):
    """Checkpoints that are whole or not there at all, and that hold nothing but plain data.

    Args:
        training: what is read has to hold all that training goes on from.
    """

    def __init__(self, training: bool = True) -> None:
        super().__init__()
        self.parts = _PARTS_OF_TRAINING if training else _PARTS

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write aside, then rename: a killed run or a full disk leaves the previous file as it was.

        Raises:
            FileError: it cannot be written; the message names the file.
        """
        # Lightning's own way goes through the system's temporary folder; from there to another
        # disk a file is copied, and a kill can leave half of it.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content.getvalue())
        except OSError as error:
            why = error.strerror or error
            raise FileError(
                f"{path}: {why}; make room, then go on from the checkpoint before with "
                "--ckpt_path last"
            ) from error

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read onto the CPU, refusing pickled objects; Lightning moves things to their device.

        Raises:
            InputError: it is damaged, or lacks what is needed of it.
        """
        content = read_pickle(path)
        have = content.keys() if isinstance(content, dict) else ()
        missing = [part for part in self.parts if part not in have]
        if missing:
            raise InputError(
                f"{path} lacks {', '.join(missing)}, so no run can go on from it; --weights {path} "
                "starts a new run from the weights in it, if it has any"
            )
        checkpoint: dict[str, Any] = content
        return checkpoint


class PretrainedFolder(Callback):
    """Writes the folder ``pretrained`` beside the checkpoints when training has ended.

    It is what ``save_pretrained`` writes: ``fusionzoo.load("<run>/pretrained")`` reads it.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it, and print where the results are."""
        folder = trainer.log_dir  # asks all processes, so before the one that writes is chosen
        if not trainer.is_global_zero or folder is None or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a helper
            return
        assert isinstance(pl_module, FusionModule)
        written = pl_module.save_pretrained(Path(folder) / PRETRAINED)
        lines = [f"trained {pl_module.name}: {written}"]
        for saved in trainer.checkpoint_callbacks:
            if isinstance(saved, BestCheckpoint) and saved.best_model_score is not None:
                score = f"{saved.monitor} {saved.best_model_score:.4g}"
                lines.append(f"best checkpoint ({score}): {saved.best_model_path}")
        print(printable("\n".join(lines)))


class ValidationLines(Callback):
    """Prints the metrics of every validation while training, one line each, to standard error."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not trainer.is_global_zero:
            return
        values = {
            name.removeprefix("val/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        of = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"epoch {trainer.current_epoch + 1}{of}: {shown}", file=sys.stderr)


class FusedImages(BasePredictionWriter):
    """Writes each fused image of ``predict`` to ``<folder>/<name>.png``.

    It has its name only when it is whole. Nested names make nested folders. Every process writes
    its own pairs. Pairs whose results exist are left out, so that a command which was stopped goes
    on where it was.

    Args:
        folder: for the images, or its URL.
        overwrite: fuse all pairs, and replace results that exist.
    """

    def __init__(self, folder: str | Path, overwrite: bool = False) -> None:
        super().__init__("batch")
        self.folder = as_path(folder)
        self.overwrite = overwrite

    def path_of(self, name: str) -> Path:
        """Where the fused image of the pair of that name goes."""
        return self.folder / f"{name}.png"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave out what is done already, before the pairs are shared out among the processes."""
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by the trainer
        if stage != "predict" or self.overwrite or not isinstance(data, FusionDataModule):
            return
        dataset = data.datasets["predict"]
        # All processes have to leave out the same pairs, and on a network file system they may
        # see different files: the first one decides.
        results = {self.path_of(pair.name): pair.name for pair in dataset.pairs}
        done = {results[path] for path in existing(results.keys(), self.folder)}
        done = trainer.strategy.broadcast(done)
        if done:
            rank_zero_info(
                f"predict: skipped {len(done)} of {len(dataset)} pairs, whose results exist in "
                f"{self.folder} (--overwrite replaces them)"
            )
            dataset.pairs = [pair for pair in dataset.pairs if pair.name not in done]

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
        """Write the images of a batch."""
        for name, image in zip(prediction["name"], prediction["fused"], strict=True):
            path = self.path_of(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(path, image)
