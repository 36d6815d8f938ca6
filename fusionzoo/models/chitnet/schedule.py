"""Mutual promotion training (section III-E): which phase an epoch belongs to, at what rates."""

from __future__ import annotations

#: The four optimizers of section IV-B by what they train.
FIRST, INFRARED, VISIBLE, SECOND = range(4)


def phase_of(epoch: int, phases: int, length: int) -> int:
    """Index of an epoch's phase: even ones are phaseM, odd ones phaseS.

    Epochs after the last phase go on with it.
    """
    return min(epoch // length, phases - 1)


def optimizers_of(phase: int) -> tuple[int, ...]:
    """Which of the four optimizers make the steps of a phase."""
    if phase % 2:
        return INFRARED, VISIBLE
    return (SECOND,) if phase else (FIRST,)


def own_epochs(optimizer: int, epoch: int, phases: int, length: int) -> int:
    """In how many epochs before this one the optimizer has made steps."""
    whole = phase_of(epoch, phases, length)
    count = length * sum(optimizer in optimizers_of(phase) for phase in range(whole))
    return count + (epoch - whole * length) * (optimizer in optimizers_of(whole))


def decay(own: int, length: int, factor: float) -> float:
    """What the initial rate is multiplied with: ``factor`` once more each half phase.

    Section IV-B: from 1e-3 to 1e-4 after 100 epochs (half a phase) and 1e-7 after 400, which is
    tenfold every 100 epochs. They are an optimizer's own epochs, as in the released code.
    """
    return factor ** (2 * own // length)
