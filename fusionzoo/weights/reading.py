"""Reading weights: safetensors, model folders, checkpoints, and what to say where that fails.

A pickle can run code when it is opened. The only ones opened here are checkpoints and files of
paper authors that the user names, and those through ``torch.load(weights_only=True)``, which
builds tensors and plain containers and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionzoo._version import __version__
from fusionzoo.weights._layout import CARD_NAME, CONFIG_NAME, FORMAT, NETWORK_PREFIX, WEIGHTS_NAME

if TYPE_CHECKING:
    from torch import Tensor, nn

LFS_PROBLEM = "is a Git LFS pointer and not the file itself; run `git lfs pull` in the checkout"

_KEYS_SHOWN = 8


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file on the CPU.

    Returns:
        The tensors by name, and the file's metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, a pickle, or no safetensors file for another reason.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def check_safetensors(path: str | Path) -> None:
    """Refuse what :func:`read_safetensors` would, by the file's header and size alone.

    Raises:
        FileNotFoundError, ValueError: as there.
    """
    with _opened(path):
        pass


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    path = existing_file(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} {_why_unreadable(path)} ({error})") from None


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read and check the ``config.json`` of a folder written by ``save_pretrained``.

    Raises:
        FileNotFoundError: the folder or the file is missing.
        ValueError: the file is not what ``save_pretrained`` writes, or is of a later format.
    """
    path = Path(folder) / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a model folder is what save_pretrained writes: "
            f"{CONFIG_NAME}, {WEIGHTS_NAME} and {CARD_NAME}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); write the folder again") from None
    return _checked_config(config, path)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a training checkpoint (``.ckpt``) of this package.

    Returns:
        The model's config (``model``, ``options``), and the state of its network on the CPU;
        whatever else the checkpoint holds (frozen networks of losses, optimizers) stays out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds pickled objects, or is not of this package.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not {"fusionzoo", "state_dict"} <= content.keys():
        raise ValueError(
            f"{path} is not a checkpoint of fusionzoo (it lacks the entries 'fusionzoo' and "
            "'state_dict'); give one written by `fusionzoo fit`, or a save_pretrained folder"
        )
    config = _checked_config(content["fusionzoo"], path)
    state = {
        key.removeprefix(NETWORK_PREFIX): tensor
        for key, tensor in content["state_dict"].items()
        if key.startswith(NETWORK_PREFIX)
    }
    return config, state


def read_pickle(path: str | Path) -> Any:
    """Open a torch pickle on the CPU, refusing anything but tensors and plain containers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or wants to build other objects.
    """
    import io
    import pickle

    import torch

    # Read first: torch raises OSError for damaged archives too, and a real one must stay one.
    data = io.BytesIO(existing_file(path).read_bytes())
    try:
        return torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise nearly anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower():
            problem = (
                "holds pickled objects besides tensors and plain containers, and opening those "
                "can run code; it is refused. Save the bare state dict and use that"
            )
        else:
            problem = "cannot be read as a torch file; it may be truncated. Get it again"
        raise ValueError(f"{path} {problem} ({reason})") from error


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, source: object = "state") -> None:
    """Copy a state into a module, all or nothing; values take the module's dtype and device.

    Args:
        module: what receives the tensors.
        state: tensors by the module's own names; they may be stored in half precision.
        source: what to call the state in an error, such as its path.

    Raises:
        ValueError: the architectures differ; the keys that are missing, unexpected or of
            another shape are named.
    """
    wanted = module.state_dict()
    differing = [
        f"{key} (file {_shape(state[key])}, model {_shape(wanted[key])})"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    problems = [
        f"{what}: {_some(keys)}"
        for what, keys in (
            ("missing", [key for key in wanted if key not in state]),
            ("unexpected", [key for key in state if key not in wanted]),
            ("differing in shape", differing),
        )
        if keys
    ]
    if problems:
        raise ValueError(
            f"the weights in {source} do not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Use weights of this model, with the options that they were trained with"
        )
    module.load_state_dict(state)


def existing_file(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file; check the path")
    return path


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def is_lfs_pointer(path: Path) -> bool:
    return _head(path).startswith(b"version https://git-lfs")


def _why_unreadable(path: Path) -> str:
    head = _head(path)
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return (
            "is a pickle, not safetensors; pickles can run code when opened and are refused. "
            "Ask for a safetensors file, or see `fusionzoo import-weights`"
        )
    if is_lfs_pointer(path):
        return LFS_PROBLEM
    # A safetensors file: the header's length (8 bytes), then the header, which is JSON.
    if not head or head[8:9] == b"{":
        return "is truncated or damaged; get the file again"
    return "is not a safetensors file; give one written by save_pretrained"


def _checked_config(config: Any, source: object) -> dict[str, Any]:
    expected = isinstance(config, dict) and {"format", "model", "options"} <= config.keys()
    if not (expected and isinstance(config["options"], dict) and isinstance(config["model"], str)):
        raise ValueError(
            f"{source} does not describe a fusionzoo model (it needs 'format', 'model' and "
            "'options'); write it again with save_pretrained"
        )
    if config["format"] != FORMAT:
        raise ValueError(
            f"{source} is of format {config['format']}, and this fusionzoo ({__version__}) reads "
            f"format {FORMAT}; install the version that wrote it "
            f"({config.get('fusionzoo_version', 'a later one')})"
        )
    return config


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return ", ".join(keys[:_KEYS_SHOWN]) + more
