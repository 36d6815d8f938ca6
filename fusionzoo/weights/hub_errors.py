"""What the hub client's errors mean, and what to do about them."""

from __future__ import annotations

import errno

# What a folder that cannot be written, or is full, gives; network trouble has other numbers.
_DISK = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOENT,
    errno.EISDIR,
}
LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or give token="


class NotCachedError(FileNotFoundError):
    """The file is not in the cache, and asking the hub is forbidden."""


class RefusedError(ValueError):
    """What the repository has is of no use, and fetching it again would not help."""


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids asking the hub."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def explained(
    error: Exception, address: object, cache: object, *, local_only: bool = False
) -> Exception:
    """Return an error of this package's kind for one that the hub client raised.

    Args:
        error: what the client raised; network errors are of many classes there.
        address: what was asked for.
        cache: the cache folder in use.
        local_only: the caller had forbidden the network.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = constants.ENDPOINT
    silent = local_only or is_offline()
    if silent and isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        why = "local_files_only=True" if local_only else "HF_HUB_OFFLINE=1"
        return NotCachedError(
            f"{address} is not in the cache {cache}, and {why} forbids fetching it; allow the "
            "network once, or copy the files from another machine and load their folder"
        )
    if isinstance(error, HFValidationError):
        return RefusedError(f"{address} is no valid address on the hub: {error}")
    if isinstance(error, LocalEntryNotFoundError | ValueError):  # a wrapper: what is inside tells
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, LocalTokenNotFoundError):
        return PermissionError(f"{address} needs a token, and there is none; {LOG_IN}")
    if isinstance(error, GatedRepoError):
        return PermissionError(f"{address} is gated: accept its terms on {hub}, then {LOG_IN}")
    if isinstance(error, RepositoryNotFoundError):
        return FileNotFoundError(
            f"{address}: {hub} has no such repository, or it is private; check the name, and for "
            f"a private one {LOG_IN}"
        )
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(f"{address}: the repository has no such revision; check its tags")
    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            return PermissionError(f"{address}: {hub} denies access ({status}); {LOG_IN}")
        return ConnectionError(
            f"{address}: {hub} answered {status}; try again later, or set HF_ENDPOINT to a mirror"
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        return type(error)(
            f"{address} cannot be stored in the cache {cache} ({error.strerror}); give cache_dir=, "
            "or set HF_HOME or HF_HUB_CACHE, to a folder that can be written and has room",
        )
    return ConnectionError(
        f"{address} could not be transferred from or to {hub} ({_first_line(error)}); check the "
        "connection, a proxy and HF_ENDPOINT, and try again"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
