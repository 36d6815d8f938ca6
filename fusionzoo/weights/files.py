"""Weight files: safetensors, model folders and checkpoints, read, checked and written.

A pickle can run code when it is opened. The only ones opened here are checkpoints and files of
paper authors that the user names, and those through ``torch.load(weights_only=True)``, which
builds tensors and plain containers and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionzoo._version import __version__
from fusionzoo.errors import FileError, FusionZooError, InputError, MissingFileError
from fusionzoo.files import temporary_name, write_whole
from fusionzoo.weights.card import basic_card

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"

FORMAT = 1  # of config.json and of the "fusionzoo" entry of a checkpoint
NETWORK_PREFIX = "network."  # where the network sits in a FusionModule

# Suffixes of files that are pickles, and so can run code when opened.
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin")

_KEYS_SHOWN = 8


# Reading ------------------------------------------------------------------------------------------


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file on the CPU.

    Returns:
        The tensors by name, and the file's metadata.

    Raises:
        MissingFileError: there is no such file.
        FileError: it cannot be read.
        InputError: it is truncated, a pickle, or no safetensors file for another reason.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def check_safetensors(path: str | Path) -> None:
    """Refuse what :func:`read_safetensors` would, by the file's header and size alone.

    Raises:
        MissingFileError, FileError, InputError: as there.
    """
    with _opened(path):
        pass


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    path = existing_file(path)
    with readable(path):
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                yield file
        except SafetensorError as error:
            raise InputError(f"{path} {_why_unreadable(path)} ({error})") from None


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read and check the ``config.json`` of a folder written by ``save_pretrained``.

    Raises:
        MissingFileError: the folder or the file is missing.
        FileError: it cannot be read.
        InputError: the file is not what ``save_pretrained`` writes, or is of a later format.
    """
    path = Path(folder) / CONFIG_NAME
    with readable(path):
        if not path.is_file():
            raise MissingFileError(
                f"{path} does not exist; a model folder is what save_pretrained writes: "
                f"{CONFIG_NAME}, {WEIGHTS_NAME} and {CARD_NAME}"
            )
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not JSON ({error}); write the folder again") from None
    return _checked_config(config, path)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a training checkpoint (``.ckpt``) of this package.

    Returns:
        The model's config (``model``, ``options``), and the state of its network on the CPU;
        whatever else the checkpoint holds (frozen networks of losses, optimizers) stays out.

    Raises:
        MissingFileError: there is no such file.
        FileError: it cannot be read.
        InputError: it is damaged, holds pickled objects, or is not of this package.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not {"fusionzoo", "state_dict"} <= content.keys():
        raise InputError(
            f"{path} is not a checkpoint of fusionzoo (it lacks the entries 'fusionzoo' and "
            "'state_dict'); give one written by `fusionzoo fit`, or a save_pretrained folder"
        )
    config = _checked_config(content["fusionzoo"], path)
    if not isinstance(content["state_dict"], dict):
        kind = type(content["state_dict"]).__name__
        raise InputError(
            f"{path}: its 'state_dict' is a {kind} and not a dict of tensors by name; give a "
            "checkpoint as `fusionzoo fit` wrote it"
        )
    state = {
        key.removeprefix(NETWORK_PREFIX): tensor
        for key, tensor in content["state_dict"].items()
        if isinstance(key, str) and key.startswith(NETWORK_PREFIX)
    }
    return config, state


def read_pickle(path: str | Path) -> Any:
    """Open a torch pickle on the CPU, refusing anything but tensors and plain containers.

    Raises:
        MissingFileError: there is no such file.
        FileError: it cannot be read.
        InputError: it is damaged or wants to build other objects.
    """
    import io
    import pickle

    # Read first: torch raises OSError for damaged archives too, and a real one must stay one.
    path = existing_file(path)
    with readable(path):
        data = io.BytesIO(path.read_bytes())

    import torch

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
        raise InputError(f"{path} {problem} ({reason})") from error


@contextmanager
def readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of a file or folder that the system refuses to read what it is and what to do."""
    try:
        yield
    except FusionZooError:
        raise
    except OSError as error:
        name, reason = error.filename or str(path), error.strerror or str(error)
        shown = str(name) if len(str(name)) <= 300 else f"{str(name)[:100]}…{str(name)[-20:]}"
        raise FileError(
            f"{shown} cannot be read ({reason}); check the path and the rights on it"
        ) from error


def existing_file(path: str | Path) -> Path:
    """Return the path of a file that exists.

    Raises:
        MissingFileError: it does not, or is something else.
        FileError: the system does not tell.
    """
    path = Path(path)
    with readable(path):
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist or is no file; check the path")
    return path


def _why_unreadable(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return (
            "is a pickle, not safetensors; pickles can run code when opened and are refused. "
            "Ask for a safetensors file, or see `fusionzoo import-weights`"
        )
    # A safetensors file: the header's length (8 bytes), then the header, which is JSON.
    if not head or head[8:] == b"{":
        return "is truncated or damaged; get the file again"
    return "is not a safetensors file; give one written by save_pretrained"


def _checked_config(config: Any, source: object) -> dict[str, Any]:
    expected = isinstance(config, dict) and {"format", "model", "options"} <= config.keys()
    if not (expected and isinstance(config["options"], dict) and isinstance(config["model"], str)):
        raise InputError(
            f"{source} does not describe a fusionzoo model (it needs 'format', 'model' and "
            "'options'); write it again with save_pretrained"
        )
    if config["format"] != FORMAT:
        raise InputError(
            f"{source} is of format {config['format']}, and this fusionzoo ({__version__}) reads "
            f"format {FORMAT}; install the version that wrote it "
            f"({config.get('fusionzoo_version', 'a later one')})"
        )
    checked: dict[str, Any] = config
    return checked


# Into a network -----------------------------------------------------------------------------------


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, source: object = "state") -> None:
    """Copy a state into a module, all or nothing; values take the module's dtype and device.

    Args:
        module: what receives the tensors.
        state: tensors by the module's own names; they may be stored in half precision.
        source: what to call the state in an error, such as its path.

    Raises:
        InputError: as :func:`check_state`.
    """
    check_state(module, state, source=source)
    module.load_state_dict(state)


def check_state(
    module: nn.Module, state: Mapping[str, Tensor], *, source: object = "state"
) -> None:
    """Refuse a state that does not fit a module, which may be on the ``meta`` device.

    Raises:
        InputError: the architectures differ (the keys that are missing, unexpected or of another
            shape are named), or an entry holds no plain numbers: it is sparse, quantised, of
            another kind of numbers, or no tensor.
    """
    wanted = module.state_dict()
    # torch.nn.utils.prune keeps "weight" as "weight_orig" and "weight_mask".
    pruned = [key for key in wanted if {f"{key}_orig", f"{key}_mask"} <= state.keys()]
    if pruned:
        raise InputError(
            f"the weights in {source} are pruned ({_some(pruned)}); make them plain with "
            "torch.nn.utils.prune.remove before saving them"
        )
    common = [key for key in wanted if key in state]
    unusable = [
        f"{key} is {kind}" for key in common if (kind := _unusable(state[key], wanted[key]))
    ]
    if unusable:
        raise InputError(
            f"the weights in {source} are no plain tensors of numbers: {_some(unusable)}; save "
            "them as dense float tensors"
        )
    differing = [
        f"{key} (file {_shape(state[key])}, model {_shape(wanted[key])})"
        for key in common
        if state[key].shape != wanted[key].shape
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
        raise InputError(
            f"the weights in {source} do not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Use weights of this model, with the options that they were trained with"
        )


def _unusable(value: Any, wanted: Tensor) -> str | None:
    """Why a value cannot be copied into a tensor, if so."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    if value.is_quantized:
        return "quantised"
    if value.layout != torch.strided:
        return str(value.layout).removeprefix("torch.").replace("_", " ")
    if value.is_meta:
        return "without data"
    if value.is_floating_point() != wanted.is_floating_point() or value.is_complex():
        return f"of {value.dtype}, not {wanted.dtype}"
    return None


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return ", ".join(map(str, keys[:_KEYS_SHOWN])) + more


# Writing ------------------------------------------------------------------------------------------


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

    The files are written aside and then renamed, so that a full disk or a killed run leaves no
    partial file under a final name. Files of other names in an existing folder are left alone.
    Equal states give equal bytes.

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
        InputError: another dtype; values that it cannot hold; options that JSON cannot hold.
        FileError: ``folder`` is a file, or cannot be written.
    """
    import torch

    folder = Path(folder)
    dtype = torch.float32 if dtype is None else dtype
    if dtype not in (torch.float32, torch.float16):
        raise InputError(f"dtype {dtype}: weights are stored as torch.float32 or torch.float16")
    try:
        config_text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the options of model {config.get('model')!r} cannot be written as JSON ({error}); "
            "use numbers, strings, booleans, None, lists and dicts of these only"
        ) from None
    content = {
        WEIGHTS_NAME: state_bytes(state, dtype),
        CARD_NAME: (basic_card(config) if card is None else card).encode(),
        CONFIG_NAME: config_text.encode(),
    }
    try:
        _write_folder(folder, content)
    except OSError as error:
        raise FileError(
            f"{folder} cannot be written ({error.strerror or error}); name a folder for the model "
            "where there is room and the right to write"
        ) from error
    return folder


def state_bytes(state: Mapping[str, Tensor], dtype: torch.dtype) -> bytes:
    """Return what :func:`write_pretrained` stores of a state; equal states give equal bytes.

    Raises:
        InputError: a value that ``dtype`` cannot hold.
    """
    from safetensors.torch import save

    stored = {name: _stored(name, tensor, dtype) for name, tensor in state.items()}
    # One metadata entry only: the order of several is not fixed, and with it the hash.
    return save(stored, metadata={"format": "pt"})


def _write_folder(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write files aside, and rename them when all are complete: into a folder, or with it."""
    # Not tempfile.mkdtemp: its folders are closed to everyone else, and this one stays.
    exists = folder.exists()
    aside = temporary_name(folder / WEIGHTS_NAME if exists else folder)
    aside.mkdir(parents=True)
    try:
        for name, data in content.items():
            write_whole(aside / name, data)
        if exists:
            for name in content:
                os.replace(aside / name, folder / name)
        else:
            os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        cast = tensor.to(dtype)
        if cast.isfinite().logical_xor(tensor.isfinite()).any():
            raise InputError(f"{name} has values beyond {dtype}; store it as torch.float32")
        tensor = cast
    # safetensors refuses tensors that share memory or are not contiguous.
    return tensor.clone(memory_format=torch.contiguous_format)
