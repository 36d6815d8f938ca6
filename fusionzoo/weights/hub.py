"""The Hugging Face hub: model folders that come from it.

The client, huggingface_hub, does transfer, cache, locks, mirrors and tokens, and heeds its usual
settings (``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_TOKEN`` …). What it gives is
checked here before anything uses it. It is imported only when a file is not on this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fusionzoo._version import __version__
from fusionzoo.weights._layout import CONFIG_NAME, PICKLES, WEIGHTS_NAME
from fusionzoo.weights.hub_errors import NotCachedError, RefusedError, explained, is_offline
from fusionzoo.weights.reading import check_safetensors, read_config
from fusionzoo.weights.table import WeightsCfg, sha256_of, verify, verify_config

HUB_PREFIX = "hf://"
CLIENT = {"library_name": "fusionzoo", "library_version": __version__}

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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

    @property
    def cache(self) -> Path:
        """The cache folder in use."""
        from huggingface_hub import constants

        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser()


def parse_address(text: str) -> HubAddress:
    """Read ``owner/name``, ``hf://owner/name`` or either with ``@revision``.

    Raises:
        ValueError: it is none of these.
    """
    repository, at, revision = text.removeprefix(HUB_PREFIX).partition("@")
    wrong = (
        not _REPOSITORY.fullmatch(repository)
        or ".." in text
        or "--" in repository
        or (at and not _REVISION.fullmatch(revision))
    )
    if wrong:
        raise ValueError(
            f"{text!r} is no model on the hub; write {HUB_PREFIX}owner/name, or "
            f"{HUB_PREFIX}owner/name@revision for a branch, tag or commit"
        )
    return HubAddress(repository, revision or None)


def cached_file(cfg: WeightsCfg) -> Path | None:
    """Return where the hub's cache holds a published file, if it does; asks no server."""
    if not cfg.hub_repo:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(cfg.hub_repo, name, revision=cfg.hub_revision)
        for name in (CONFIG_NAME, WEIGHTS_NAME)
    ]
    return Path(found[1]) if all(isinstance(path, str) for path in found) else None


def published_folder(cfg: WeightsCfg, access: HubAccess) -> Path:
    """Return the folder of a published model in the hub's cache; it is fetched if need be.

    The table's hashes are what is trusted, whatever the repository and its tags say. What is
    cached is used without asking the hub.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError, OSError: it cannot be had.
        ValueError: what the hub offers is not what was published.
    """
    address = HubAddress(cfg.hub_repo, cfg.hub_revision)
    remedy = (
        f"{address} may have been changed, or a mirror (HF_ENDPOINT) altered it: it is not used. "
        f"Update fusionzoo; if that does not help, delete {_repository_cache(address, access)}"
    )

    def check(folder: Path, fresh: bool) -> None:
        verify(folder / WEIGHTS_NAME, cfg, remedy=remedy)
        verify_config(read_config(folder), cfg, folder / CONFIG_NAME, remedy=remedy)

    try:
        folder = _fetch(address, replace(access, local_files_only=True))
        check(folder, False)
        return folder
    except NotCachedError:
        if access.local_files_only:
            raise
        return _checked_folder(address, access, check)
    except RefusedError:
        raise
    except ValueError as problem:
        return _fetched_again(address, access, check, problem)


def shared_folder(address: HubAddress, access: HubAccess) -> Path:
    """Return the folder of anyone's model in the hub's cache; it is fetched if need be.

    No hash is known beforehand, except that a large file is cached under its own. The newest
    version is asked for, unless the revision is a commit that the cache holds.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError, OSError: it cannot be had.
        ValueError: it is damaged, pickled or not in this package's format.
    """
    return _checked_folder(address, access, _check_intact)


_Check = Callable[[Path, bool], None]


def _checked_folder(address: HubAddress, access: HubAccess, check: _Check) -> Path:
    try:
        folder = _fetch(address, access)
        check(folder, False)
        return folder
    except RefusedError:
        raise
    except ValueError as problem:
        return _fetched_again(address, access, check, problem)


def _fetched_again(
    address: HubAddress, access: HubAccess, check: _Check, problem: ValueError
) -> Path:
    """Replace what is damaged in the cache, once."""
    away = f"or delete {_repository_cache(address, access)} to be rid of it"
    if access.local_files_only or is_offline():
        raise ValueError(
            f"{problem} (allow the network, and it is fetched again; {away})"
        ) from problem
    try:
        folder = _fetch(address, access, force=True)
    except OSError as error:
        raise type(error)(f"{problem} It could not be fetched again: {error} ({away})") from error
    check(folder, True)
    return folder


def _fetch(address: HubAddress, access: HubAccess, force: bool = False) -> Path:
    config = _download(address, CONFIG_NAME, access, force)
    # A repository of another kind is refused before its weights come.
    _readable_config(config.parent, address)
    # Both files must be of one commit, whoever uploads in between.
    commit = config.parent.name
    same = address._replace(revision=commit) if _COMMIT.fullmatch(commit) else address
    return _download(same, WEIGHTS_NAME, access, force).parent


def _readable_config(folder: Path, address: HubAddress) -> None:
    try:
        read_config(folder)
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from error


def _download(address: HubAddress, name: str, access: HubAccess, force: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(
            address.repository,
            name,
            revision=address.revision,
            cache_dir=access.cache,
            token=access.token,
            local_files_only=access.local_files_only or is_offline(),
            force_download=force,
            **CLIENT,
        )
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):
            raise _not_offered(address, name, access) from error
        raise _explained(error, address, access) from error
    except Exception as error:  # the classes differ between versions of the client
        raise _explained(error, address, access) from error
    return Path(path)


def _explained(error: Exception, address: HubAddress, access: HubAccess) -> Exception:
    return explained(error, address, access.cache, local_only=access.local_files_only)


def _not_offered(address: HubAddress, name: str, access: HubAccess) -> RefusedError:
    from huggingface_hub import HfApi

    try:
        files = HfApi(token=access.token, **CLIENT).list_repo_files(
            address.repository, revision=address.revision
        )
    except Exception:  # only for a better message
        files = []
    pickles = sorted(file for file in files if file.endswith(PICKLES))
    if pickles and WEIGHTS_NAME not in files:
        return RefusedError(
            f"{address} offers pickles only ({', '.join(pickles[:4])}), which can run code when "
            "opened and are refused; ask its owner for an upload by fusionzoo.push_to_hub"
        )
    return RefusedError(
        f"{address} has no {name}, so it is no model of fusionzoo; a repository must hold what "
        f"fusionzoo.push_to_hub uploads: {CONFIG_NAME} and {WEIGHTS_NAME}"
    )


def _check_intact(folder: Path, fresh: bool) -> None:
    """Refuse a cached file that has changed, or is no safetensors file."""
    file = folder / WEIGHTS_NAME
    # Links lead to a file named after its content; one further on the name may mean other things.
    named = Path(os.readlink(file)).name if file.is_symlink() else ""
    if not fresh and _SHA256.fullmatch(named) and sha256_of(file) != named:
        raise ValueError(f"{file} is damaged: its sha256 is not {named} any more.")
    check_safetensors(file)


def _repository_cache(address: HubAddress, access: HubAccess) -> Path:
    return access.cache / f"models--{address.repository.replace('/', '--')}"
