"""What test_ddp.py runs in two processes: test, then predict into some folders."""

import json
import sys
from pathlib import Path

import torch
from cli_modules import Phased
from lightning.pytorch import Trainer, seed_everything

from fusionzoo.cli.callbacks import FusedImages
from fusionzoo.data import FusionDataModule


def measured(root: str, processes: int) -> tuple[Trainer, Phased, FusionDataModule, dict]:
    """The means that ``trainer.test`` finds, and what found them."""
    torch.set_num_threads(1)
    seed_everything(3, verbose=False)
    model, data = Phased(), FusionDataModule(root)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    (values,) = trainer.test(model, data, verbose=False)
    return trainer, model, data, values


if __name__ == "__main__":
    root, report, *folders = sys.argv[1:]
    trainer, model, data, values = measured(root, 2)
    for folder in folders:
        trainer.callbacks = [FusedImages(folder)]
        trainer.predict(model, FusionDataModule(root, color=True), return_predictions=False)
    if trainer.is_global_zero:
        Path(report).write_text(json.dumps(values))
