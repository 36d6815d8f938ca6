"""Reading of weights that authors released: their names to this package's, nothing left over.

Each importer has a table of names; what it does not name is an error, so that no tensor is lost
and no other network is taken for the released one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fusionzoo.errors import InputError

__all__ = ["NORM", "WEIGHT_BIAS", "plain_state", "renamed", "tensors_of"]

WEIGHT_BIAS = ("weight", "bias")
#: The tensors of a batch norm.
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_PARALLEL = "module."  # what torch's DataParallel puts before every name


def plain_state(state: Any, path: str | Path, what: str, place: str) -> dict[str, Tensor]:
    """Check that something is a state dict, and take the prefix of DataParallel off.

    Args:
        state: what the file holds in the place where the state dict should be.
        path: of the file; named in errors.
        what: the file is given as, such as ``"file of the released CoCoNet"``.
        place: where the state dict should be, such as ``"under 'state_dict'"``.

    Raises:
        InputError: it is no state dict.
    """
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"{path} is not a {what}: those hold a state dict {place}; give the authors' file"
        )
    return {str(key).removeprefix(_PARALLEL): value for key, value in state.items()}


def tensors_of(names: Mapping[str, str], tensors: Collection[str] = WEIGHT_BIAS) -> dict[str, str]:
    """Spell out a table of layers: each layer's name, with each of its tensors."""
    return {
        f"{theirs}.{tensor}": f"{ours}.{tensor}"
        for theirs, ours in names.items()
        for tensor in tensors
    }


def renamed(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    path: str | Path,
    what: str,
    unused: Collection[str] = (),
) -> dict[str, Tensor]:
    """Take the tensors under this package's names.

    Args:
        state: under the authors' names.
        names: the authors' name of each tensor and this package's.
        path: of the file; named in errors.
        what: the file is given as, such as ``"file of the released CoCoNet"``.
        unused: first parts of names that the release holds and does not use.

    Raises:
        InputError: tensors are missing, or there are others; the first of them are named.
    """
    missing = [key for key in names if key not in state]
    unknown = [key for key in state if key not in names and not key.startswith(tuple(unused))]
    if missing or unknown:
        differences = [
            f"{kind} {', '.join(keys[:4])}{' …' if len(keys) > 4 else ''}"
            for kind, keys in (("missing", missing), ("unknown", unknown))
            if keys
        ]
        raise InputError(
            f"{path} is not the {what} ({'; '.join(differences)}); give the authors' file"
        )
    return {ours: state[theirs] for theirs, ours in names.items()}
