"""Which pairs an epoch draws, on which process, and how a run goes on in the middle of one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, DistributedSampler

from fusionzoo.data.pairs import Batch, Draw


class PairSampler(DistributedSampler):
    """Shuffled draws that are the same for any number of processes.

    An epoch is a list of draws given by ``(seed, epoch)`` alone: one random order of all pairs,
    or another one after it where ``draws`` is greater than their number. Process ``rank`` of
    ``num_replicas`` takes every ``num_replicas``-th draw, so that in each step the batches of all
    processes together are the batch of one process that is as many times larger. If the processes
    cannot share the last draws evenly, the first draws of the epoch are given out once more.

    A ``DistributedSampler``, since Lightning replaces any other sampler in distributed runs.

    Args:
        pairs: how many there are.
        batch_size: of one process.
        draws: in an epoch; None for one of each pair.
        seed: at least 0.
        drop_last: leave out the draws after the last whole batch.
        num_replicas: number of processes.
        rank: of this process.

    Raises:
        ValueError: an epoch would have no batch.
    """

    def __init__(
        self,
        pairs: int,
        *,
        batch_size: int = 1,
        draws: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(range(pairs), num_replicas, rank, seed=seed, drop_last=drop_last)
        self.batch_size = batch_size
        self.draws = pairs if draws is None else draws
        step = batch_size * num_replicas
        if drop_last:
            self.total_size = self.draws // step * step
        else:
            self.total_size = math.ceil(self.draws / num_replicas) * num_replicas
        self.num_samples = self.total_size // num_replicas
        if not pairs or not self.num_samples:
            raise ValueError(
                f"{min(pairs, self.draws)} training pairs give no batch of {step}; "
                "add pairs, lower batch_size or set drop_last to false"
            )
        self.skip = 0

    def __iter__(self) -> Iterator[Draw]:
        order = self.order(self.epoch)
        draws = [
            Draw(order[position % self.draws], self.epoch, position)
            for position in range(self.rank, self.total_size, self.num_replicas)
        ]
        return iter(draws[self.skip :])

    def order(self, epoch: int) -> list[int]:
        """The pairs drawn by all processes in that epoch, in order."""
        pairs = len(self.dataset)
        passes = [
            # A stream of its own: crops draw from [seed, epoch, position].
            np.random.default_rng([self.seed, epoch, number, 1]).permutation(pairs)
            for number in range(math.ceil(self.draws / pairs))
        ]
        return np.concatenate(passes)[: self.draws].tolist()


class TrainLoader(DataLoader):
    """A DataLoader over a :class:`PairSampler` that can go on in the middle of an epoch.

    Lightning stores ``state_dict()`` of such a loader in its checkpoints and calls
    ``load_state_dict`` before it resumes. The state is the epoch and how many of its batches were
    handed out; batches which workers made ahead of time do not count. A resumed epoch skips that
    many batches without making them. ``len`` is always that of a whole epoch.
    """

    _epoch = 0
    _handed_out = 0
    _resume: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Batch]:
        # The generator's body runs at the first `next`: Lightning makes the first iterator
        # before it tells the sampler which epoch it is in.
        return self._one_epoch() if isinstance(self.sampler, PairSampler) else super().__iter__()

    def _one_epoch(self) -> Iterator[Batch]:
        sampler: PairSampler = self.sampler
        state, self._resume = self._resume, None
        self._epoch, self._handed_out = sampler.epoch, 0
        if state is not None and state["epoch"] == sampler.epoch:
            self._handed_out = state["batches"]
        sampler.skip = self._handed_out * sampler.batch_size
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch, batches handed out in it, and what must stay equal for them to mean the same."""
        if self._resume is not None:
            return dict(self._resume)
        return {"epoch": self._epoch, "batches": self._handed_out, **self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iterator go on from there, if it is for the same epoch."""
        now = self._fingerprint()
        changed = [f"{key} {state[key]} -> {now[key]}" for key in now if state.get(key) != now[key]]
        if changed:
            warnings.warn(
                "the training data differs from that of the checkpoint "
                f"({', '.join(changed)}): the rest of its epoch will not be as it would have been",
                stacklevel=2,
            )
        self._resume = dict(state)

    def _fingerprint(self) -> dict[str, Any]:
        sampler = self.sampler
        if not isinstance(sampler, PairSampler):
            return {}
        return {
            "pairs": len(sampler.dataset),
            "draws": sampler.draws,
            "global_batch": sampler.batch_size * sampler.num_replicas,
            "seed": sampler.seed,
        }
