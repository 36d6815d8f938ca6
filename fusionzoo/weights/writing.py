"""Writing a model folder: config, weights and card, never half of a file."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionzoo._version import __version__
from fusionzoo.weights._layout import CARD_NAME, CONFIG_NAME, FORMAT, WEIGHTS_NAME
from fusionzoo.weights.card import basic_card

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def make_config(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``config.json`` holds for a model and the options that it was made with."""
    return {
        "format": FORMAT,
        "model": model,
        "options": dict(options),
        "fusionzoo_version": __version__,
    }


def write_pretrained(
    folder: str | Path,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    card: str | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a model folder: ``config.json``, ``model.safetensors`` and the card ``README.md``.

    The files are written aside and then renamed, so that a killed run leaves no partial file
    under a final name. Files of other names in an existing folder are left alone. Equal states
    give equal bytes.

    Args:
        folder: is made if need be; the three files in it are replaced.
        config: as from ``make_config``.
        state: the network's state; tensors may share memory and lie on any device.
        card: text of the model card; that of :func:`basic_card` if not given.
        dtype: what floating-point tensors are stored as, ``torch.float32`` (default) or
            ``torch.float16``; integers stay what they are.

    Returns:
        The folder.

    Raises:
        ValueError: another dtype; values that it cannot hold; options that JSON cannot hold.
        NotADirectoryError: ``folder`` is a file.
    """
    import torch
    from safetensors.torch import save

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; name a folder for the model")
    dtype = torch.float32 if dtype is None else dtype
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"dtype {dtype}: weights are stored as torch.float32 or torch.float16")
    try:
        config_text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the options of model {config.get('model')!r} cannot be written as JSON ({error}); "
            "use numbers, strings, booleans, None, lists and dicts of these only"
        ) from None
    content = {
        # One metadata entry only: the order of several is not fixed, and with it the hash.
        WEIGHTS_NAME: save(
            {name: _stored(name, tensor, dtype) for name, tensor in state.items()},
            metadata={"format": "pt"},
        ),
        CARD_NAME: (basic_card(config) if card is None else card).encode(),
        CONFIG_NAME: config_text.encode(),
    }

    # Not tempfile.mkdtemp: its folders are closed to everyone else, and this one stays.
    staging = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.tmp"
    staging.mkdir(parents=True)
    try:
        for name, data in content.items():
            (staging / name).write_bytes(data)
        if not folder.exists():
            os.replace(staging, folder)
        else:
            for name in content:
                os.replace(staging / name, folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def write_atomically(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        cast = tensor.to(dtype)
        if cast.isfinite().logical_xor(tensor.isfinite()).any():
            raise ValueError(f"{name} has values beyond {dtype}; store it as torch.float32")
        tensor = cast
    # safetensors refuses tensors that share memory or are not contiguous.
    return tensor.clone(memory_format=torch.contiguous_format)
