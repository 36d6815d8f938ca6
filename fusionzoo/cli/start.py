"""What a run of ``fit``, ``validate``, ``test`` or ``predict`` starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from fusionzoo import weights, zoo
from fusionzoo.cli import UsageError
from fusionzoo.cli.callbacks import LAST
from fusionzoo.cli.configs import class_path, read_config
from fusionzoo.cli.console import complain
from fusionzoo.cli.parser import Parser
from fusionzoo.models import MODELS
from fusionzoo.module import FusionModule

DEFAULT_ROOT = "runs"
GO_ON = "last"


@dataclass(frozen=True)
class Start:
    """What a run starts from: nothing, trained weights, or a checkpoint.

    Attributes:
        weights: as given by ``--weights``.
        pretrained: the model of ``weights``.
        checkpoint: file of ``--ckpt_path``.
        run: folder of the run to go on in; None begins a new one.
    """

    weights: str | None = None
    pretrained: FusionModule | None = None
    checkpoint: str | None = None
    run: Path | None = None

    def model(self) -> dict[str, Any] | None:
        """The model and its options, as a configuration has them; None if nothing tells."""
        if self.pretrained is not None:
            model = type(self.pretrained)
            path = f"{model.__module__}.{model.__qualname__}"
            return {"class_path": path, "init_args": self.pretrained.options}
        if self.checkpoint is not None:
            stored, _ = weights.read_checkpoint(self.checkpoint)
            if stored["model"] in MODELS:
                return {"class_path": class_path(stored["model"]), "init_args": stored["options"]}
        return None


def split_start(command: str, arguments: Sequence[str]) -> tuple[Start, list[str]]:
    """Take ``--weights`` and ``--ckpt_path`` out of the arguments; gives the rest as well.

    The model's options come from there, so both are needed before everything else is parsed.

    Raises:
        UsageError: both are given, or there is no such checkpoint.
    """
    parser = _parser()
    parser.add_argument("--weights")
    parser.add_argument("--ckpt_path")
    given, rest = parser.parse_known_args(arguments)
    if given.weights and given.ckpt_path:
        raise UsageError(
            "give only one of --weights and --ckpt_path: the first starts a new run from trained "
            "weights, the second goes on with a run"
        )
    if given.weights:
        return Start(weights=given.weights, pretrained=zoo.load(given.weights)), rest
    if given.ckpt_path == GO_ON:
        return _newest(command, root_folder(rest)), rest
    if given.ckpt_path and not Path(given.ckpt_path).is_file():
        raise UsageError(f"--ckpt_path {given.ckpt_path}: no such file; name a .ckpt, or {GO_ON}")
    return Start(checkpoint=given.ckpt_path or None), rest


def root_folder(arguments: Sequence[str]) -> Path:
    """``trainer.default_root_dir`` by these arguments and the configurations that they name."""
    parser = _parser()
    # Both add to one list: what comes last counts.
    parser.add_argument("--config", "-c", dest="roots", action="append", type=_root_in_config)
    parser.add_argument("--trainer.default_root_dir", dest="roots", action="append")
    given, _ = parser.parse_known_args(arguments)
    roots = [root for root in given.roots or [] if root]
    return Path(roots[-1] if roots else DEFAULT_ROOT)


def _root_in_config(config: str) -> str | None:
    trainer = read_config(config).get("trainer")
    root = trainer.get("default_root_dir") if isinstance(trainer, dict) else None
    return None if root is None else str(root)


def _newest(command: str, root: Path) -> Start:
    """The checkpoint written last by any run in a folder; training goes on in that run's folder.

    Raises:
        UsageError: there is none, and the command is not ``fit``, which begins a run then.
    """
    say = rank_zero_only(complain)
    written = sorted(root.glob(f"**/checkpoints/{LAST}"), key=lambda path: path.stat().st_mtime)
    if not written:
        message = f"--ckpt_path {GO_ON}: there is nothing to go on with, no {LAST} in {root}"
        if command != "fit":
            raise UsageError(f"{message}; set trainer.default_root_dir to that of the training")
        # One command that begins a run and goes on with it is what queues of clusters need.
        say(f"{message}: A NEW RUN BEGINS")
        return Start()
    newest = written[-1]
    say(f"going on with {newest}")
    run = newest.parent.parent
    return Start(checkpoint=str(newest), run=run if run.parent == root else None)


def _parser() -> Parser:
    return Parser(prog="fusionzoo fit", add_help=False, allow_abbrev=False)
