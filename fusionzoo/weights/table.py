"""The table of published weights: what they are, where they lie, whether a file is the one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fusionzoo.errors import InputError, MissingFileError
from fusionzoo.weights.files import (
    WEIGHTS_NAME,
    existing_file,
    read_config,
    readable,
    state_bytes,
)

if TYPE_CHECKING:
    from torch import Tensor

#: The environment variable that names a folder of model folders.
HOME_VARIABLE = "FUSIONZOO_HOME"

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent / "checkpoints"
_TABLE = _PACKAGE / "weights.json"
_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class WeightsCfg:
    """One published weight file.

    Attributes:
        file: path relative to the checkpoints folder, ``"<key>/model.safetensors"``.
        sha256: of that file, lower-case hexadecimal.
        fingerprint: of these weights with the model and options in ``config.json``; see
            :func:`fingerprint`.
        size: of that file, in bytes.
        parameters: number of parameters of the network (without batch norm's running statistics).
        origin: where the weights come from, such as "trained with this package".
        training_data: what they were trained on.
        weights_licence: terms for the weights (SPDX identifier where there is one).
        code_licence: terms for the code that goes with them.
        commit: commit of this package that trained them, where that is known.
        hub_repo: ``owner/name`` on the Hugging Face hub, where :func:`fusionzoo.load` asks for
            what is not on the machine; None for what is never there.
        hub_revision: the tag or commit of that repository. The hash decides, not the tag.
    """

    file: str
    sha256: str
    fingerprint: str
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
        InputError: the table is not of the expected form.
    """
    path = _TABLE if path is None else Path(path)
    table = {}
    for key, facts in json.loads(path.read_text(encoding="utf-8")).items():
        try:
            table[key] = WeightsCfg(**facts)
        except TypeError as error:
            raise InputError(
                f"{path}: entry {key!r} is not of the expected form: {error}"
            ) from None
    return MappingProxyType(table)


def checkpoint_folders() -> list[Path]:
    """Return the folders that published weights may lie in, in the order of search.

    ``FUSIONZOO_HOME`` if it is set; the folder packed into the wheel; and, in a checkout, the
    one beside the package.

    Raises:
        MissingFileError: ``FUSIONZOO_HOME`` is no folder.
        FileError: it cannot be read.
    """
    folders = []
    home = os.environ.get(HOME_VARIABLE)
    if home:
        folder = Path(os.path.expanduser(home))
        with readable(folder):
            if not folder.is_dir():
                raise MissingFileError(
                    f"{HOME_VARIABLE}={home} is no folder; set it to the folder that holds model "
                    "folders, or unset it"
                )
            next(folder.iterdir(), None)
        folders.append(folder)
    own = [_PACKAGE / "checkpoints"]
    # In site-packages the folder beside the package is anybody's.
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        own.append(_CHECKOUT)
    return folders + [folder for folder in own if folder.is_dir()]


def local_file(cfg: WeightsCfg) -> Path | None:
    """Return where a published file lies among the :func:`checkpoint_folders`, if it does."""
    for folder in checkpoint_folders():
        file = folder / cfg.file
        with readable(file):
            if file.is_file():
                return file
    return None


def packaged_folder(key: str) -> Path | None:
    """Return the folder of published weights on this machine; None if they are not here."""
    cfg = weights_table().get(key)
    file = local_file(cfg) if cfg else None
    return file and file.parent


def identified(state: Mapping[str, Tensor]) -> tuple[str, str | None]:
    """Return the SHA-256 of a state as a file, and the key of the published weights that it is of.

    The hash is that of the published file, which may be stored in half precision; or, for other
    weights, that of the ``model.safetensors`` that ``save_pretrained`` writes. The key is None
    then.
    """
    import torch

    keys = {cfg.sha256: key for key, cfg in weights_table().items()}
    found = ""
    for dtype in (torch.float16, torch.float32):
        try:
            found = hashlib.sha256(state_bytes(state, dtype)).hexdigest()
        except InputError:  # beyond float16
            continue
        if found in keys:
            break
    return found, keys.get(found)


# Checks -------------------------------------------------------------------------------------------


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as lower-case hexadecimal."""
    with readable(path), Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(folder: str | Path, **options: Any) -> str:
    """Return one hash of a model folder's weights and options, as hexadecimal digits.

    It tells with which weights and options something was made. The package's version in
    ``config.json``, the file's line ends and the order of the options make no difference.

    Args:
        folder: what ``save_pretrained`` wrote.
        options: what is given in place of the stored options.

    Raises:
        MissingFileError: the folder lacks a file.
        InputError: its ``config.json`` is damaged.
    """
    config = read_config(folder)
    config["options"] = {**config["options"], **options}
    return _fingerprint(sha256_of(existing_file(Path(folder) / WEIGHTS_NAME)), config)


def _fingerprint(sha256: str, config: Mapping[str, Any]) -> str:
    content = {"weights": sha256, "model": config["model"], "options": config["options"]}
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def verify(path: str | Path, cfg: WeightsCfg, *, remedy: str | None = None) -> None:
    """Refuse a file that is not the published one.

    Args:
        path: the weights.
        cfg: what they should be.
        remedy: what to do about another file; by default what helps with an installed one.

    Raises:
        MissingFileError: there is no such file.
        InputError: its size or hash is not that of the table; both are named, with the remedy.
    """
    path = existing_file(path)
    size, sha256 = path.stat().st_size, sha256_of(path)
    if sha256 != cfg.sha256:
        cut = f"truncated to {size} of {cfg.size} bytes"
        raise InputError(
            f"{path} is {cut if size < cfg.size else 'not the published file'}: sha256 expected "
            f"{cfg.sha256}, found {sha256}; {remedy or _remedy(path)}"
        )


def verify_config(
    config: Mapping[str, Any], cfg: WeightsCfg, path: str | Path, *, remedy: str | None = None
) -> None:
    """Refuse a config that is not the published one: other options give other results.

    Raises:
        InputError: the model or an option differs; ``path`` and ``remedy`` are in the message.
    """
    if _fingerprint(cfg.sha256, config) != cfg.fingerprint:
        raise InputError(
            f"{path} has another model or other options than the published ones; "
            f"{remedy or _remedy(Path(path))}"
        )


def _remedy(path: Path) -> str:
    return (
        "delete it and install the package again; or, if you mean to use these weights, "
        f"load their folder by its path: {path.parent}"
    )
