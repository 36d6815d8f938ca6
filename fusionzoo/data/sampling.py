"""Which pairs an epoch draws, and on which process."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader, DistributedSampler

from fusionzoo.data.dataset import Batch, Draw, Sample
from fusionzoo.errors import InputError


class PairSampler(DistributedSampler[Draw]):
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
        InputError: an epoch would have no batch.
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
        super().__init__(
            range(pairs),  # type: ignore[arg-type]  # only its length counts
            num_replicas,
            rank,
            seed=seed,
            drop_last=drop_last,
        )
        self.pairs = pairs
        self.batch_size = batch_size
        self.draws = pairs if draws is None else draws
        step = batch_size * num_replicas
        if drop_last:
            self.total_size = self.draws // step * step
        else:
            self.total_size = math.ceil(self.draws / num_replicas) * num_replicas
        self.num_samples = self.total_size // num_replicas
        if not pairs or not self.num_samples:
            raise InputError(
                f"{min(pairs, self.draws)} training pairs give no batch of {step}; "
                "add pairs, lower batch_size or set drop_last to false"
            )

    def __iter__(self) -> Iterator[Draw]:
        order = self.order(self.epoch)
        for position in range(self.rank, self.total_size, self.num_replicas):
            yield Draw(order[position % self.draws], self.epoch, position)

    def order(self, epoch: int) -> list[int]:
        """The pairs drawn by all processes in that epoch, in order."""
        passes = [
            # A stream of its own: crops draw from [seed, epoch, position].
            np.random.default_rng([self.seed, epoch, number, 1]).permutation(self.pairs)
            for number in range(math.ceil(self.draws / self.pairs))
        ]
        return [int(index) for index in np.concatenate(passes)[: self.draws]]


class ShareSampler(DistributedSampler[int]):
    """The items in order, each in exactly one process; a process may have none.

    Lightning's own for prediction needs as many items as there are processes.

    Args:
        items: how many there are.
        num_replicas: number of processes.
        rank: of this process.
    """

    def __init__(self, items: int, *, num_replicas: int, rank: int) -> None:
        super().__init__(
            range(items),  # type: ignore[arg-type]  # only its length counts
            num_replicas,
            rank,
            shuffle=False,
        )
        self.share = range(rank, items, num_replicas)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


class TrainLoader(DataLoader[Sample]):
    """A DataLoader that asks its sampler for nothing before its first batch is wanted.

    Lightning makes the first iterator before it tells the sampler which epoch it is in. Workers
    would begin at once, and a resumed run would see the draws of another epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # it has no more to it
        yield from super().__iter__()
