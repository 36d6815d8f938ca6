"""States with random values in the layouts that authors released, built from tables of layers.

The layouts (names and shapes) are public facts of the released files, which are not at hand here.
"""

import torch


def conv(name, before, after, side=3, groups=1, bias=True, scale=1.0):
    """Names and shapes of a convolution's tensors; the scale is that of its random values."""
    size = scale / (before // groups * side * side) ** 0.5
    shapes = {f"{name}.weight": ((after, before // groups, side, side), size)}
    return shapes | ({f"{name}.bias": ((after,), 0.1)} if bias else {})


def norm(name, channels):
    """Names and shapes of a batch norm's tensors; a negative scale means around 1."""
    shapes = {f"{name}.{kind}": ((channels,), -0.4) for kind in ("weight", "running_var")}
    shapes |= {f"{name}.{kind}": ((channels,), 0.2) for kind in ("bias", "running_mean")}
    return shapes | {f"{name}.num_batches_tracked": ((), 0)}


def filled(shapes, generator):
    """No two tensors alike, so that none can be mixed up."""
    state = {}
    for name, (shape, scale) in shapes.items():
        if scale == 0:
            state[name] = torch.randint(1, 10_000, shape, generator=generator)
        elif scale < 0:
            state[name] = 1 + scale * (2 * torch.rand(shape, generator=generator) - 1)
        else:
            state[name] = scale * torch.randn(shape, generator=generator)
    return state
