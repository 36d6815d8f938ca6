"""FusionModule: the contract that every paper's model keeps."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from fusionzoo.errors import InputError, ResultError
from fusionzoo.inference import check_options, fuse_images, ycbcr_to_rgb
from fusionzoo.network import (
    CompiledNetwork,
    check_network,
    declared_by,
    eval_view,
    ready_copy,
    uncompiled,
)
from fusionzoo.video import fuse_stream
from fusionzoo.weights import basic_card, make_config, write_pretrained

if TYPE_CHECKING:
    from fusionzoo.alignment import Alignment
    from fusionzoo.metrics import FusionMetrics

_AFTER_DIVERGING = (
    "checkpoints hold the last whole epoch; go on from there with a lower learning rate"
)


class FusionModule(LightningModule):
    """A paper's network with its training schedule, losses and options.

    A subclass sets ``name``, calls ``super().__init__(network)`` and implements
    ``training_step`` and ``configure_optimizers``. Optimization is manual, since the papers'
    schedules are: :meth:`step_optimizer` makes one step, :meth:`on_train_epoch_start` keeps the
    learning rate schedulers, which count epochs, in step. A phase that freezes parameters does so
    in its own ``on_train_epoch_start``, not in the constructor: distributed training only
    synchronises what is trainable when it starts.

    Args:
        network: an ``nn.Module`` whose class declares what
            :class:`~fusionzoo.network.FusionNetwork` says.

    Raises:
        InputTypeError: it does not.
    """

    name: ClassVar[str]
    #: What goes where in ``fuse(first, second)``.
    modalities: tuple[str, str] = ("infrared", "visible")
    #: Which of the two gives the fused image its colour: "ir" is the first, "vi" the second.
    color_from: Literal["ir", "vi"] = "vi"
    #: Logged at validation, by the definitions of the ``zoo`` protocol.
    validation_metrics: ClassVar[tuple[str, ...]] = ("EN", "SD", "SF", "Qabf", "SSIM")
    #: The one of them by which ``fusionzoo fit`` keeps the best checkpoint: the more the better.
    best_metric: ClassVar[str] = "Qabf"
    #: Metric protocol of ``fusionzoo test``.
    test_protocol: ClassVar[str] = "cddfuse"
    #: What the card of ``save_pretrained`` says besides the options: arguments of ``basic_card``,
    #: such as paper and licence. Set by whoever makes or loads a model by its name.
    card_facts: Mapping[str, Any] = MappingProxyType({})
    #: How many validation pairs the TensorBoard grid shows: always the first ones.
    grid_pairs: ClassVar[int] = 4

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        check_network(network)
        self.automatic_optimization = False
        self.network = network
        self._grid_rows: list[Tensor] = []
        # For as long as a loop of validation, test or prediction runs:
        self._metrics: FusionMetrics | None = None
        self._loader: Any = None
        self._prepared: Callable[..., Any] | None = None

    # -- use ---------------------------------------------------------------------------------

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """The bare network on ``(B, 1, H, W)`` tensors in its own ``value_range``.

        No padding, colour or range handling; :meth:`fuse` is what users want.
        """
        fused: Tensor = self.network(ir, vi)
        return fused

    def fuse(
        self,
        ir: Any,
        vi: Any,
        *,
        color: bool = True,
        ir_range: tuple[float, float] | None = None,
        vi_range: tuple[float, float] | None = None,
        resize: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 1,
        tile: int | str = "auto",
        memory: float | None = None,
        grad: bool = False,
        align: bool | Alignment | str | os.PathLike[str] | None = None,
    ) -> Any:
        """Fuse an infrared image (or a list of them) with its visible partner.

        Takes a path, the bytes of a file, PIL image, numpy array ``(H, W)`` / ``(H, W, 1|3|4)`` /
        ``(B, H, W)`` / ``(B, H, W, 1|3|4)``, torch tensor ``(H, W)`` / ``(C, H, W)`` /
        ``(B, C, H, W)``, or lists of these (a batch of differing sizes). What comes back is of the
        kind, size and bit depth that came in as ``vi``; a path gives a PIL image.
        :func:`fusionzoo.inference.fuse_images` states the whole contract for kinds, value ranges,
        colour, warnings and errors.

        ``modalities`` tells what the two are; in medical models ``ir`` is the functional image
        (PET, SPECT, CT), ``vi`` the MRI. There ``color_from`` is ``"ir"``: the result has the kind,
        size and colour of the functional image.

        The result does not depend on training mode, and the call leaves no trace: training flag,
        grad mode, random state and default dtype are as before. Threads may share a model. Each
        call looks at the weights and options anew; :meth:`prepared` saves that in long loops.

        A network that ``torch.compile`` made runs as it is, in eval mode and where it lies; in
        train mode, or with another ``device`` or ``dtype``, the network under it does.

        Args:
            ir: the first modality (infrared), same height and width as ``vi``.
            vi: the second modality (visible); a colour image is fused in luma and keeps its colour.
            color: ``False`` gives a grey result for a colour ``vi``.
            ir_range: ``(lo, hi)`` values of ``ir`` that map to [0, 1]; by default the full range
                of 8-bit images and the 0.5–99.5 percentiles of 16-bit and radiance data.
            vi_range: the same for ``vi``.
            resize: ``"ir"`` or ``"vi"`` scales that image to the other's size; by default differing
                sizes are refused.
            device: where to compute; the model's own device by default. The result comes back to
                where ``vi`` was.
            dtype: of the network's arithmetic, e.g. ``torch.bfloat16``.
            batch_size: images of one size that go through the network together.
            tile: ``"auto"`` cuts images whose network would take more than ``memory`` into tiles;
                ``"off"`` cuts none; a number cuts images of more pixels than a square of that side.
            memory: bytes that fusing may take, such as ``4e9``; by default half of what is free.
                ``docs/large_images.md`` says more.
            grad: keep the autograd graph, for float tensors.
            align: brings ``ir`` onto ``vi``, whatever its size: a :class:`fusionzoo.Alignment`,
                the path of one that was saved, or True to estimate one for each pair
                (:func:`fusionzoo.align`). Outside what both show, the result is ``vi``.

        Raises:
            AlignmentError: a ValueError: ``align=True``, and a pair cannot be aligned.
            InputError, InputTypeError, MissingFileError, FileError, OutOfMemoryError: naming the
                argument, the problem and the remedy.
        """
        from fusionzoo.alignment.registration import registration

        # What is used before the engine checks all of them.
        check_options(device=device, dtype=dtype, grad=grad)
        target = self.device if device is None else torch.device(device)
        network = self._network_for(target, dtype, grad)
        return fuse_images(
            network,
            ir,
            vi,
            color=color,
            ir_range=ir_range,
            vi_range=vi_range,
            resize=resize,
            batch_size=batch_size,
            tile=tile,
            memory=memory,
            grad=grad,
            register=registration(align),
            **self._how(target, dtype),
        )

    def prepared(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> Callable[..., Any]:
        """Return a function that fuses as :meth:`fuse` does, for streams and other long loops.

            fuse = model.prepared(device="cuda")
            for ir, vi in frames:
                fused = fuse(ir, vi)

        :meth:`fuse` copies and folds the network anew for each call, so that it always follows
        the model; for a list that happens once. This function keeps the weights and options that
        the model has now, whatever becomes of the model.

        Args:
            device: where to compute; the model's own device by default.
            dtype: of the network's arithmetic.

        Returns:
            :func:`fusionzoo.inference.fuse_images` with the network and all that it needs given:
            it takes ``ir``, ``vi`` and the options of :meth:`fuse` but ``device``, ``dtype`` and
            ``grad``. Threads may share it.
        """
        check_options(device=device, dtype=dtype)
        target = self.device if device is None else torch.device(device)
        network = ready_copy(self.network, target, dtype)
        return partial(fuse_images, network, **self._how(target, dtype))

    def stream(
        self,
        pairs: Iterable[tuple[Any, Any]],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> Generator[Any, None, None]:
        """Fuse pairs as they come: reading, fusing and the caller's loop overlap in time.

            for fused in model.stream(zip(thermal_frames, visible_frames)):
                show(fused)

        Results come in the order of the pairs, each as :meth:`fuse` gives it, but that the values
        of 16-bit and float images which become black and white do not jump from pair to pair.
        :func:`fusionzoo.video.fuse_stream` says how (``ranges``), what is in memory, and what
        happens on errors and when the loop ends early. Weights and options are those of the
        moment of this call.

        Args:
            pairs: any iterable of ``(ir, vi)``: paths, arrays, tensors, PIL images.
            device: where to compute; the model's own device by default.
            dtype: of the network's arithmetic.
            options: ``color``, ``ir_range``, ``vi_range``, ``resize`` as in :meth:`fuse`;
                ``ranges`` and ``lookahead`` as in :func:`fusionzoo.video.fuse_stream`.

        Raises:
            InputError, InputTypeError, MissingFileError, FileError, OutOfMemoryError: after the
                results before the pair that is wrong.
        """
        return fuse_stream(self.prepared(device=device, dtype=dtype), pairs, **options)

    def _how(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What the engine has to know of the network."""
        how = {"color_from": self.color_from, "device": device, "dtype": dtype}
        return {**how, **declared_by(self.network)}

    def _network_for(
        self, device: torch.device, dtype: torch.dtype, grad: bool
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The network in eval mode on a device, without touching this module's own state."""
        is_here = all(
            tensor.dtype == dtype
            and tensor.device.type == device.type
            and device.index in (None, tensor.device.index)
            for tensor in self.network.parameters()
        )
        if grad:
            # Gradients must reach the parameters themselves: no folding, no copies but moves.
            if not is_here:
                here = next(self.network.parameters())
                raise InputError(
                    f"grad=True runs on the model as it is ({here.device}, {here.dtype}); "
                    f"move it there first with model.to({str(device)!r}, {dtype})"
                )
            return eval_view(uncompiled(self.network))
        if is_here and _is_compiled(self.network):
            return CompiledNetwork(self.network, partial(ready_copy, self.network, device, dtype))
        return ready_copy(self.network, device, dtype)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword options this model was made with, as plain values."""
        known = inspect.signature(type(self).__init__).parameters
        return {key: _plain(value) for key, value in self.hparams.items() if key in known}

    def save_pretrained(
        self, folder: str | Path, *, dtype: torch.dtype | None = None, card: str | None = None
    ) -> Path:
        """Write ``config.json``, ``model.safetensors`` and the card ``README.md`` to a folder.

        ``fusionzoo.load(folder)`` reads it back. ``dtype`` (e.g. ``torch.float16``) is that of
        storage only; ``card`` replaces the generic card's text.
        """
        config = make_config(self.name, self.options)
        if card is None:
            card = basic_card(config, **self.card_facts)
        state = uncompiled(self.network).state_dict()
        return write_pretrained(folder, config, state, card, dtype=dtype)

    # -- training ----------------------------------------------------------------------------

    def step_optimizer(
        self,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
    ) -> None:
        """Make one optimizer step on ``loss``; clip gradients to ``clip_norm`` if given.

        Not to be mixed up with ``optimizer_step``, which is a hook of Lightning's.
        ``optimizer`` must come from ``self.optimizers()``: Lightning counts steps and writes
        checkpoints through it. Manual optimization refuses the Trainer's own clipping.

        Raises:
            ResultError: the loss is NaN or infinite.
        """
        if not loss.isfinite():
            raise ResultError(
                f"training diverged: the loss is {loss.item()} at step {self.global_step + 1}, in "
                f"epoch {self.current_epoch + 1}; {_AFTER_DIVERGING}"
            )
        optimizer.zero_grad()
        self.manual_backward(loss)
        if clip_norm is not None:
            self.clip_gradients(
                optimizer, gradient_clip_val=clip_norm, gradient_clip_algorithm="norm"
            )
        optimizer.step()

    def log_losses(self, terms: Mapping[str, Tensor]) -> None:
        """Log every loss term under its name, as ``train/<term>``, per step and epoch mean.

        In distributed runs these are means over all processes.
        """
        loader = self.trainer.train_dataloader
        log = partial(
            self.log_dict,
            on_step=True,
            on_epoch=True,
            sync_dist=True,
            batch_size=loader.batch_size if loader else None,
        )
        values = {f"train/{key}": value.detach() for key, value in terms.items()}
        shown = {key: values.pop(key) for key in ("train/loss",) if key in values}
        log(values)
        log(shown, prog_bar=True)

    def on_train_epoch_start(self) -> None:
        """Bring every learning rate scheduler to this epoch: manual mode does not step them.

        They are led to the epoch's number, whatever a checkpoint says that the run goes on from.
        """
        for scheduler in _as_list(self.lr_schedulers()):
            while scheduler.last_epoch < self.current_epoch:
                scheduler.step()
        for index, optimizer in enumerate(_as_list(self.optimizers())):
            self.log(f"lr/{index}", optimizer.param_groups[0]["lr"], batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Stop before weights that are of no use get into a checkpoint.

        Raises:
            ResultError: a weight is NaN or infinite.
        """
        self._check_weights()

    def _check_weights(self) -> None:
        if all(parameter.isfinite().all() for parameter in self.parameters()):
            return
        raise ResultError(
            f"training diverged: weights are NaN or infinite after step {self.global_step}, in "
            f"epoch {self.current_epoch + 1}; {_AFTER_DIVERGING}"
        )

    # -- evaluation --------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Begin to measure ``validation_metrics``."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._check_weights()
        self._start_measuring("zoo", self.validation_metrics, self.trainer.val_dataloaders)

    def on_test_start(self) -> None:
        """Begin to measure the usual metrics of ``test_protocol``."""
        self._start_measuring(self.test_protocol, None, self.trainer.test_dataloaders)

    def on_predict_start(self) -> None:
        """Make the network ready once for all batches."""
        self._prepared = self.prepared()

    def on_predict_end(self) -> None:
        """Let the prepared network go."""
        self._prepared = None

    def _start_measuring(self, protocol: str, names: tuple[str, ...] | None, loaders: Any) -> None:
        # Made here, not in the constructor: whoever only fuses need not load the metrics.
        from fusionzoo.metrics import FusionMetrics

        self._metrics = FusionMetrics(protocol, names).to(self.device)
        self._loader = loaders[0] if isinstance(loaders, list) and len(loaders) == 1 else loaders
        self._prepared = self.prepared()

    def _measure(self, fused: Tensor, batch: Mapping[str, Any], batch_idx: int) -> None:
        assert self._metrics is not None, "the loop's start makes the metrics"
        if count := _new_in(batch_idx, len(fused), self._loader):
            self._metrics.update(fused[:count], batch["ir"][:count], batch["vi"][:count])

    def _log_measured(self, stage: str) -> None:
        assert self._metrics is not None, "the loop's start makes the metrics"
        values = self._metrics.compute()
        self.log_dict({f"{stage}/{key}": value for key, value in values.items()})
        self._metrics = self._loader = self._prepared = None

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Fuse a batch and measure it."""
        fused = self._fuse_batch(batch)
        self._measure(fused, batch, batch_idx)
        if len(self._grid_rows) < self.grid_pairs:
            row = torch.cat([batch["ir"][0], batch["vi"][0], fused[0]], -1)
            self._grid_rows.append(row.float().cpu())

    def on_validation_epoch_end(self) -> None:
        """Log the means as ``val/<metric>``, and show the first pairs in TensorBoard."""
        self._log_measured("val")
        self._show_grid()

    def _show_grid(self) -> None:
        rows, self._grid_rows = self._grid_rows, []
        writer: Any = getattr(self.logger, "experiment", None)
        if not rows or not hasattr(writer, "add_image"):
            return
        width = min(row.shape[-1] for row in rows)
        scaled = [
            nn.functional.interpolate(
                row[None], scale_factor=width / row.shape[-1], mode="bilinear", antialias=True
            )[0, :, :, :width]
            for row in rows
        ]
        narrow = min(row.shape[-1] for row in scaled)
        grid = torch.cat([row[..., :narrow] for row in scaled], -2)
        writer.add_image("val/ir_vi_fused", grid.clamp(0, 1), self.current_epoch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Fuse a batch and measure it as a saved image would be."""
        # Published tables are made from saved 8-bit images.
        fused = (self._fuse_batch(batch) * 255).round() / 255
        self._measure(fused, batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the means as ``test/<metric>``."""
        self._log_measured("test")

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Any]:
        """Fuse a batch: ``{"name": list of str, "fused": (B, 1 or 3, H, W) in [0, 1]}``.

        Three channels come out where the batch holds ``cbcr``.
        """
        fused = self._fuse_batch(batch)
        if "cbcr" in batch:
            fused = ycbcr_to_rgb(torch.cat([fused, batch["cbcr"]], 1)).clamp(0, 1)
        return {"name": batch["name"], "fused": fused}

    def _fuse_batch(self, batch: Mapping[str, Any]) -> Tensor:
        # A batch is in [0, 1] already: a given range keeps it from being stretched.
        fuse = self._prepared or self.fuse
        size = len(batch["ir"])
        fused: Tensor = fuse(
            batch["ir"], batch["vi"], ir_range=(0, 1), vi_range=(0, 1), batch_size=size
        )
        return fused

    # -- checkpoints -------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say whose checkpoint this is, and keep the random state: resuming is exact."""
        checkpoint["fusionzoo"] = make_config(self.name, self.options)
        checkpoint["rng_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring the random state back to what it was."""
        if "rng_state" in checkpoint:
            torch.set_rng_state(checkpoint["rng_state"].cpu())


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _new_in(batch_idx: int, size: int, loader: Any) -> int:
    """How many images of a batch, the first ones, no process has been given before.

    Where processes cannot share the images evenly, the last of them are given the first images
    once more, since all of them have to make as many steps. Those are not to be measured twice.
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler):
        return size
    first = batch_idx * (loader.batch_size or 1)
    total = len(sampler.dataset)  # type: ignore[arg-type]  # samplers know the length
    own = len(range(sampler.rank, total, sampler.num_replicas))  # without those given again
    return max(0, min(size, own - first))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _is_compiled(network: nn.Module) -> bool:
    """Whether ``torch.compile`` made this network, and it is in eval mode as a whole."""
    compiled = uncompiled(network) is not network or network._compiled_call_impl is not None
    return compiled and not any(module.training for module in network.modules())
