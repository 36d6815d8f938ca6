"""The Hugging Face hub: model folders that come from it and go there.

The client, huggingface_hub, does transfer, cache, locks, mirrors and tokens, and heeds its usual
settings (``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_TOKEN`` …). What it gives is
checked here before anything uses it. It is imported only when a file is not on this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fusionzoo._version import __version__
from fusionzoo.errors import FileError, FusionZooError, InputError, MissingFileError
from fusionzoo.weights.files import (
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    check_safetensors,
    read_config,
)
from fusionzoo.weights.table import WeightsCfg, verify, verify_config

HUB_PREFIX = "hf://"

_CLIENT: dict[str, Any] = {"library_name": "fusionzoo", "library_version": __version__}
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")


class HubAddress(NamedTuple):
    """A repository of the hub, ``hf://owner/name``, and which version of it."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{HUB_PREFIX}{self.repository}{at}"


@dataclass(frozen=True)
class HubAccess:
    """How the hub is asked; by default as its own settings say.

    Attributes:
        cache_dir: the cache folder.
        token: an access token; ``False`` for none.
        local_files_only: use the cache alone.
    """

    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False


def parse_address(text: str) -> HubAddress:
    """Read ``owner/name``, ``hf://owner/name`` or either with ``@revision``.

    Raises:
        InputError: it is none of these.
    """
    repository, at, revision = text.removeprefix(HUB_PREFIX).partition("@")
    wrong = (
        not _REPOSITORY.fullmatch(repository)
        or ".." in text
        or "--" in repository
        or (at and not _REVISION.fullmatch(revision))
    )
    if wrong:
        raise InputError(
            f"{text!r} is no model on the hub; write {HUB_PREFIX}owner/name, or "
            f"{HUB_PREFIX}owner/name@revision for a branch, tag or commit"
        )
    return HubAddress(repository, revision or None)


# From the hub -------------------------------------------------------------------------------------


def cached_file(cfg: WeightsCfg) -> Path | None:
    """Return where the hub's cache holds a published file, if it does; asks no server."""
    if not cfg.hub_repo:
        return None
    from huggingface_hub import try_to_load_from_cache

    config, file = (
        try_to_load_from_cache(cfg.hub_repo, name, revision=cfg.hub_revision)
        for name in (CONFIG_NAME, WEIGHTS_NAME)
    )
    # A file that the hub is known not to have gives an object of the client's own.
    return Path(file) if isinstance(config, str) and isinstance(file, str) else None


def published_folder(cfg: WeightsCfg, access: HubAccess) -> Path:
    """Return the folder of a published model in the hub's cache; it is fetched if need be.

    The table's hash is what is trusted, whatever the repository and its tags say. What is cached
    is used without asking the hub, and fetched again if it is damaged.

    Raises:
        MissingFileError, FileError: it cannot be had.
        InputError: what the hub offers is not what was published.
    """
    assert cfg.hub_repo, cfg.file
    address = HubAddress(cfg.hub_repo, cfg.hub_revision)
    try:
        return _verified(cfg, _snapshot(address, access, local_files_only=True))
    except (MissingFileError, InputError):
        if access.local_files_only or _is_offline():
            raise
    return _verified(cfg, _snapshot(address, access, force_download=True))


def _verified(cfg: WeightsCfg, folder: Path) -> Path:
    remedy = (
        "the repository may have been changed, or a mirror (HF_ENDPOINT) altered it. Update "
        f"fusionzoo; if that does not help, delete {folder.parents[1]}"
    )
    verify(folder / WEIGHTS_NAME, cfg, remedy=remedy)
    verify_config(read_config(folder), cfg, folder / CONFIG_NAME, remedy=remedy)
    return folder


def shared_folder(address: HubAddress, access: HubAccess) -> Path:
    """Return the folder of anyone's model in the hub's cache; it is fetched if need be.

    No hash is known beforehand. The newest version is asked for, unless the revision is a commit
    that the cache holds.

    Raises:
        MissingFileError, FileError: it cannot be had.
        InputError: it is not in this package's format.
    """
    return _snapshot(address, access, local_files_only=access.local_files_only)


def _snapshot(address: HubAddress, access: HubAccess, **how: bool) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(name: str, revision: str | None) -> Path:
        folder = _ask(
            address,
            snapshot_download,
            address.repository,
            revision=revision,
            allow_patterns=name,
            cache_dir=access.cache_dir,
            token=access.token,
            **how,
            **_CLIENT,
        )
        if not Path(folder, name).is_file():
            raise MissingFileError(
                f"{address} has no {name}; a repository must hold what fusionzoo.push_to_hub "
                f"uploads: {CONFIG_NAME} and {WEIGHTS_NAME} (pickled weights are refused)"
            )
        return Path(folder)

    # A repository of another kind is refused before its weights come; and the weights are of
    # the config's commit, which the folder is named after, whoever uploads in between.
    folder = fetch(CONFIG_NAME, address.revision)
    try:
        read_config(folder)
    except InputError as error:
        raise InputError(f"{address}: {error}") from error
    return fetch(WEIGHTS_NAME, folder.name)


# To the hub ---------------------------------------------------------------------------------------


def upload_folder(
    folder: str | Path,
    repository: str,
    *,
    message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    keep_card: bool = False,
    tag: str | None = None,
) -> HubAddress:
    """Upload a folder that ``save_pretrained`` wrote, as one commit on the main branch.

    Args:
        folder: config, weights, card, and whatever else lies in it.
        repository: ``owner/name``; made if need be.
        message: the commit's.
        private: whether a new repository is; by default the owner's setting decides.
        token: an access token that may write; by default the one that the client has stored.
        keep_card: leave a card that the repository has already.
        tag: give the commit this tag. Tags are not moved.

    Returns:
        The repository at the new commit.

    Raises:
        MissingFileError, InputError: the folder holds no model; nothing has been sent then.
        FileError: the tag is taken, and nothing has been sent; or the hub refuses, or cannot be
            reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(folder)
    read_config(folder)
    check_safetensors(folder / WEIGHTS_NAME)
    address = HubAddress(repository)
    api = HfApi(token=token, **_CLIENT)
    _ask(address, api.create_repo, repository, private=private, exist_ok=True)
    if tag and any(ref.name == tag for ref in _ask(address, api.list_repo_refs, repository).tags):
        raise FileError(
            f"{address} has a tag {tag} already, and users rely on what it names; raise the "
            "version in fusionzoo/_version.py, or give the entry another hub_revision"
        )
    kept = keep_card and _ask(address, api.file_exists, repository, CARD_NAME)
    # Not the client's upload_folder: it may spread files over several commits.
    commit = _ask(
        address,
        api.create_commit,
        repository,
        [
            CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=str(file))
            for file in sorted(folder.iterdir())
            if file.is_file()
            and not file.name.startswith(".")
            and not (kept and file.name == CARD_NAME)
        ],
        commit_message=message or f"Upload {CONFIG_NAME} and {WEIGHTS_NAME}",
    )
    if tag:
        _ask(address, api.create_tag, repository, tag=tag, revision=commit.oid)
    return HubAddress(repository, commit.oid)


# What both share ----------------------------------------------------------------------------------


def _is_offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _ask(address: HubAddress, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call the client; what it says of a failure is told in one line, with a sentence of ours."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return function(*args, **options)
    except FusionZooError:
        raise
    except Exception as error:  # the classes differ between versions of the client
        missing = (FileNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)
        kind = MissingFileError if isinstance(error, missing) else FileError
        said = " ".join(str(error).split()) or type(error).__name__
        raise kind(
            f"{address}: {said} (Check the name, the connection, HF_ENDPOINT and HF_HUB_OFFLINE; "
            "private and gated repositories need `hf auth login` or HF_TOKEN; the cache, "
            "HF_HUB_CACHE, must be writable)"
        ) from error
