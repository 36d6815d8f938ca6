"""The table of published weights: what they are, where they lie, whether a file is the one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fusionzoo._version import __version__
from fusionzoo.weights._layout import WEIGHTS_NAME
from fusionzoo.weights.reading import (
    LFS_PROBLEM,
    existing_file,
    is_lfs_pointer,
    read_config,
    read_safetensors,
)
from fusionzoo.weights.writing import write_atomically

# Fields that nobody types by hand.
MEASURED = ("file", "sha256", "size", "parameters", "config_sha256")

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent / "checkpoints"
_TABLE = _PACKAGE / "weights.json"
# What batch norm keeps beside its parameters; a file does not tell the two apart.
_NOT_PARAMETERS = ("running_mean", "running_var")


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
        hub_repo: ``owner/name`` on the Hugging Face hub, where :func:`fusionzoo.load` asks for
            what is not on the machine; None for what is never there.
        hub_revision: the tag or commit of that repository. The hashes decide, not the tag.
        config_sha256: of the model and options in ``config.json``; see :func:`config_digest`.
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
    config_sha256: str | None = None


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


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as lower-case hexadecimal."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def local_file(cfg: WeightsCfg) -> Path | None:
    """Return where a published file lies among the :func:`checkpoint_folders`, if it does."""
    places = (folder / cfg.file for folder in checkpoint_folders())
    return next((file for file in places if file.is_file()), None)


def config_digest(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a config says of the model: its name and options.

    The version that wrote it and the file's line ends do not count.
    """
    facts = {"model": config["model"], "options": config["options"]}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def verify_config(
    config: Mapping[str, Any], cfg: WeightsCfg, path: str | Path, *, remedy: str | None = None
) -> None:
    """Refuse a config that is not the published one: other options give other results.

    Raises:
        ValueError: the model or an option differs; ``path`` and ``remedy`` are in the message.
    """
    if cfg.config_sha256 is not None and config_digest(config) != cfg.config_sha256:
        raise ValueError(
            f"{path} has other options than the published ones; {remedy or _remedy(Path(path))}"
        )


def verify(path: str | Path, cfg: WeightsCfg, *, remedy: str | None = None) -> None:
    """Refuse a file that is not the published one.

    Args:
        path: the weights.
        cfg: what they should be.
        remedy: what to do about another file; by default what helps with an installed one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its size or hash is not that of the table; both are named, with the remedy.
    """
    path = existing_file(path)
    remedy = remedy or _remedy(path)
    if is_lfs_pointer(path):
        raise ValueError(f"{path} {LFS_PROBLEM}")
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


def _remedy(path: Path) -> str:
    return (
        "delete it and install the package again; or, if you mean to use these weights, "
        f"load their folder by its path: {path.parent}"
    )


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
            Without ``hub_repo`` that is ``fusionzoo/<key>``, and changed weights get this
            version's tag as their ``hub_revision``.

    Returns:
        The new entry, which has been written to the table.

    Raises:
        FileNotFoundError: no weights, or no config, in the folder.
        ValueError: a fact is no field of ``WeightsCfg``, is measured, or is needed and missing.
    """
    free = [f.name for f in fields(WeightsCfg) if f.name not in MEASURED]
    for name in facts:
        if name not in free:
            why = "is measured from the file" if name in MEASURED else "is no field of WeightsCfg"
            raise ValueError(f"{name!r} {why}; give any of {', '.join(free)}")

    if folder is None:
        folder = _CHECKOUT / key
    file = Path(folder) / WEIGHTS_NAME
    state, _ = read_safetensors(file)

    path = _TABLE if table is None else Path(table)
    entries = {k: asdict(v) for k, v in weights_table(path).items()} if path.exists() else {}
    entry = entries.get(key, {})
    sha256 = sha256_of(file)
    if entry.get("hub_repo") is None:
        entry["hub_repo"] = f"fusionzoo/{key}"
    if entry.get("hub_revision") is None or entry.get("sha256") != sha256:
        entry["hub_revision"] = f"v{__version__}"
    entry.update(facts)
    entry.update(
        file=f"{key}/{WEIGHTS_NAME}",
        sha256=sha256,
        config_sha256=config_digest(read_config(folder)),
        size=file.stat().st_size,
        parameters=sum(
            tensor.numel()
            for name, tensor in state.items()
            # Orders and flags are buffers, too: parameters are floating.
            if tensor.is_floating_point() and not name.endswith(_NOT_PARAMETERS)
        ),
    )
    missing = sorted({"origin", "training_data", "weights_licence"} - entry.keys())
    if missing:
        raise ValueError(f"{key!r} is new in the table: also give {', '.join(missing)}")
    entries[key] = asdict(WeightsCfg(**entry))
    text = json.dumps(dict(sorted(entries.items())), indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())
    return WeightsCfg(**entries[key])
