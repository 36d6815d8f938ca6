"""Weight files: what is published, how a file is checked, read and written.

Weights are safetensors files. A pickle can run code when it is opened, so the only pickles ever
opened here are checkpoints and files of paper authors that the user names, and those through
``torch.load(weights_only=True)``, which builds tensors and plain containers and nothing else.

torch and safetensors are imported where they are used: the table of published weights must be
readable without them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fusionzoo._version import __version__

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
    "CARD_NAME",
    "CONFIG_NAME",
    "WEIGHTS_NAME",
    "WeightsCfg",
    "basic_card",
    "load_state",
    "make_config",
    "read_checkpoint",
    "read_config",
    "read_pickle",
    "read_safetensors",
    "sha256_of",
    "update_weights_table",
    "verify",
    "weights_table",
    "write_pretrained",
]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"

FORMAT = 1  # of config.json and of the "fusionzoo" entry of a checkpoint
NETWORK_PREFIX = "network."  # where the network sits in a FusionModule

_PACKAGE = Path(__file__).resolve().parent
_TABLE = _PACKAGE / "weights.json"
_CHECKOUT = _PACKAGE.parent / "checkpoints"
# What batch norm keeps beside its parameters; a file does not tell the two apart.
_NOT_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked")
_KEYS_SHOWN = 8


# The table ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightsCfg:
    """One published weight file.

    Attributes:
        file: path relative to the checkpoints folder, ``"<key>/model.safetensors"``.
        sha256: of that file, lower-case hexadecimal.
        size: of that file, in bytes.
        parameters: number of parameters of the network (without batch norm's running statistics).
        origin: where the weights come from, such as "trained with this package".
        training_data: what they were trained on.
        weights_licence: terms for the weights (SPDX identifier where there is one).
        code_licence: terms for the code that goes with them.
        commit: commit of this package that trained them, where that is known.
        hub_repo: ``owner/name`` on the Hugging Face hub, if they are there.
        hub_revision: the pinned commit of that repository.
    """

    file: str
    sha256: str
    size: int
    parameters: int
    origin: str
    training_data: str
    weights_licence: str
    code_licence: str = "MIT"
    commit: str | None = None
    hub_repo: str | None = None
    hub_revision: str | None = None


def weights_table(path: str | Path | None = None) -> Mapping[str, WeightsCfg]:
    """Return the published weights by key (``"didfuse"``, or ``"model.tag"``), read-only.

    Args:
        path: another table than the packaged ``weights.json``.

    Raises:
        ValueError: the table is not of the expected form.
    """
    path = _TABLE if path is None else Path(path)
    table = {}
    for key, facts in json.loads(path.read_text(encoding="utf-8")).items():
        try:
            table[key] = WeightsCfg(**facts)
        except TypeError as error:
            raise ValueError(
                f"{path}: entry {key!r} is not of the expected form: {error}"
            ) from None
    return MappingProxyType(table)


def update_weights_table(
    key: str,
    folder: str | Path | None = None,
    *,
    table: str | Path | None = None,
    **facts: str | None,
) -> WeightsCfg:
    """Bring a key's entry in line with its file; hash, size and parameters are measured.

    Args:
        key: ``"model"`` or ``"model.tag"``.
        folder: what ``save_pretrained`` wrote; by default ``checkpoints/<key>`` of the checkout.
        table: another table than the packaged ``weights.json``.
        facts: the entry's other fields; those left out are kept from the entry as it is now.

    Returns:
        The new entry, which has been written to the table.

    Raises:
        FileNotFoundError: no weights in the folder.
        ValueError: a fact is no field of ``WeightsCfg``, is measured, or is needed and missing.
    """
    measured = {"file", "sha256", "size", "parameters"}
    known = {f.name for f in fields(WeightsCfg)}
    for name in facts:
        if name not in known - measured:
            why = "is measured from the file" if name in measured else "is no field of WeightsCfg"
            raise ValueError(f"{name!r} {why}; give any of {', '.join(sorted(known - measured))}")

    if folder is None:
        folder = _CHECKOUT / key
    file = Path(folder) / WEIGHTS_NAME
    state, _ = read_safetensors(file)

    path = _TABLE if table is None else Path(table)
    entries = {k: asdict(v) for k, v in weights_table(path).items()} if path.exists() else {}
    entry = {**entries.get(key, {}), **facts}
    entry.update(
        file=f"{key}/{WEIGHTS_NAME}",
        sha256=sha256_of(file),
        size=file.stat().st_size,
        parameters=sum(
            tensor.numel() for name, tensor in state.items() if not name.endswith(_NOT_PARAMETERS)
        ),
    )
    missing = sorted({"origin", "training_data", "weights_licence"} - entry.keys())
    if missing:
        raise ValueError(f"{key!r} is new in the table: also give {', '.join(missing)}")
    entries[key] = asdict(WeightsCfg(**entry))
    text = json.dumps(dict(sorted(entries.items())), indent=2, ensure_ascii=False) + "\n"
    _write_atomically(path, text.encode())
    return WeightsCfg(**entries[key])


def checkpoint_folders() -> list[Path]:
    """Return the folders that published weights may lie in, in the order of search.

    ``FUSIONZOO_HOME`` if it is set; the folder packed into the wheel; and, in a checkout, the
    one beside the package.
    """
    folders = []
    home = os.environ.get("FUSIONZOO_HOME")
    if home:
        folders.append(Path(home).expanduser())
    folders.append(_PACKAGE / "checkpoints")
    # In site-packages the folder beside the package is anybody's.
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        folders.append(_CHECKOUT)
    return [folder for folder in folders if folder.is_dir()]


# Reading ------------------------------------------------------------------------------------------


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as lower-case hexadecimal."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(path: str | Path, cfg: WeightsCfg) -> None:
    """Refuse a file that is not the published one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its size or hash is not that of the table; both are named, with the remedy.
    """
    path = _existing(path)
    remedy = (
        "delete it and install the package again; or, if you mean to use these weights, "
        f"load their folder by its path: {path.parent}"
    )
    if _is_lfs_pointer(path):
        raise ValueError(f"{path} {_LFS_PROBLEM}")
    size = path.stat().st_size
    if size != cfg.size:
        what = "truncated" if size < cfg.size else "not the published file"
        raise ValueError(
            f"{path} is {what}: {cfg.size} bytes expected, {size} found (sha256 expected "
            f"{cfg.sha256}, found {sha256_of(path)}); {remedy}"
        )
    found = sha256_of(path)
    if found != cfg.sha256:
        raise ValueError(
            f"{path} is not the published file: sha256 expected {cfg.sha256}, found {found}; "
            f"{remedy}"
        )


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file on the CPU.

    Returns:
        The tensors by name, and the file's metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, a pickle, or no safetensors file for another reason.
    """
    from safetensors import SafetensorError, safe_open

    path = _existing(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
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
    except ValueError as error:
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
    data = io.BytesIO(_existing(path).read_bytes())
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


def basic_card(
    config: Mapping[str, Any],
    *,
    title: str | None = None,
    paper: str | None = None,
    licence: str = "unknown",
    origin: str | None = None,
    tags: Iterable[str] = (),
) -> str:
    """Return a model card in the Hugging Face hub's format for a model folder.

    Args:
        config: as from ``make_config``.
        title: the paper's title.
        paper: the paper's address.
        licence: terms for the weights, as an identifier that the hub knows.
        origin: where the weights come from, one or more sentences.
        tags: tags besides ``image-fusion`` and the model's name.
    """
    name = config["model"]
    header = {
        "license": licence,
        "library_name": "fusionzoo",
        "pipeline_tag": "image-to-image",
        "tags": list(dict.fromkeys(["image-fusion", name, *tags])),
    }
    lines = ["---"]
    for key, value in header.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {_yaml(item)}" for item in value)]
        else:
            lines.append(f"{key}: {_yaml(value)}")
    lines += ["---", "", f"# {name}", ""]
    if title:
        lines += [f"Weights for [{title}]({paper})." if paper else f"Weights for {title}.", ""]
    if origin:
        lines += [origin, ""]
    lines += [
        "```python",
        "import fusionzoo",
        "",
        'model = fusionzoo.load("path/to/this/folder")',
        'fused = model.fuse("ir.png", "vi.png")',
        "```",
        "",
    ]
    if config["options"]:
        lines += ["| option | value |", "|---|---|"]
        lines += [
            f"| `{key}` | `{json.dumps(value)}` |" for key, value in config["options"].items()
        ]
        lines.append("")
    lines += [f"Written by fusionzoo {config['fusionzoo_version']}.", ""]
    return "\n".join(lines)


# Helpers ------------------------------------------------------------------------------------------

_LFS_PROBLEM = "is a Git LFS pointer and not the file itself; run `git lfs pull` in the checkout"


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file; check the path")
    return path


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _is_lfs_pointer(path: Path) -> bool:
    return _head(path).startswith(b"version https://git-lfs")


def _why_unreadable(path: Path) -> str:
    head = _head(path)
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return (
            "is a pickle, not safetensors; pickles can run code when opened and are refused. "
            "Ask for a safetensors file, or see `fusionzoo import-weights`"
        )
    if _is_lfs_pointer(path):
        return _LFS_PROBLEM
    # A safetensors file: the header's length (8 bytes), then the header, which is JSON.
    if not head or head[8:9] == b"{":
        return "is truncated or damaged; get the file again"
    return "is not a safetensors file; give one written by save_pretrained"


def _checked_config(config: Any, source: object) -> dict[str, Any]:
    expected = isinstance(config, dict) and {"format", "model", "options"} <= config.keys()
    if not expected or not isinstance(config["options"], dict):
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


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        cast = tensor.to(dtype)
        if cast.isfinite().logical_xor(tensor.isfinite()).any():
            raise ValueError(f"{name} has values beyond {dtype}; store it as torch.float32")
        tensor = cast
    # safetensors refuses tensors that share memory or are not contiguous.
    return tensor.clone(memory_format=_contiguous())


def _contiguous() -> torch.memory_format:
    import torch

    return torch.contiguous_format


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return ", ".join(keys[:_KEYS_SHOWN]) + more


def _yaml(text: str) -> str:
    # A JSON string is a YAML string; plain words need no quotes.
    return text if text.replace("-", "").replace(".", "").isalnum() else json.dumps(text)


def _write_atomically(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fusionzoo.weights",
        description="Bring the table of published weights in line with checkpoints/KEY.",
    )
    parser.add_argument("key", metavar="KEY", help="model or model.tag")
    parser.add_argument("--folder", type=Path, help="default: checkpoints/KEY")
    facts = [
        f for f in fields(WeightsCfg) if f.name not in ("file", "sha256", "size", "parameters")
    ]
    for fact in facts:
        option = "--" + fact.name.replace("_", "-")
        parser.add_argument(option, default=argparse.SUPPRESS, help="default: as it is now")
    arguments = vars(parser.parse_args())
    key, folder = arguments.pop("key"), arguments.pop("folder")
    print(json.dumps({key: asdict(update_weights_table(key, folder, **arguments))}, indent=2))


if __name__ == "__main__":
    _main()
