"""The Hugging Face hub: model folders that go there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusionzoo.weights._layout import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from fusionzoo.weights.hub import CLIENT, HubAccess, HubAddress
from fusionzoo.weights.hub_errors import LOG_IN, explained, is_offline
from fusionzoo.weights.reading import check_safetensors, read_config


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
        ValueError: no such address, or the folder holds no model; nothing has been sent then.
        FileExistsError: the tag is taken; nothing has been sent.
        PermissionError, ConnectionError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(folder)
    read_config(folder)
    check_safetensors(folder / WEIGHTS_NAME)
    address = HubAddress(repository)
    if is_offline():
        raise ConnectionError(f"{address}: HF_HUB_OFFLINE=1 forbids uploading; unset it")

    def ask(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except Exception as error:  # the classes differ between versions of the client
            reason = explained(error, address, HubAccess().cache)
            # A hub that keeps strangers out says that there is no such repository.
            if isinstance(reason, FileNotFoundError | PermissionError):
                reason = PermissionError(
                    f"{address}: no right to upload there with this token, or none; {LOG_IN}"
                )
            raise reason from error

    api = HfApi(token=token, **CLIENT)
    ask(api.create_repo, repository, private=private, exist_ok=True)
    if tag is not None and any(ref.name == tag for ref in ask(api.list_repo_refs, repository).tags):
        raise FileExistsError(
            f"{address} has a tag {tag} already, and users rely on what it names; raise the "
            "version in fusionzoo/_version.py, or give the entry another hub_revision"
        )
    kept = keep_card and ask(api.file_exists, repository, CARD_NAME)
    files = sorted(file for file in folder.iterdir() if file.is_file())
    # Not the client's upload_folder: it may spread files over several commits.
    commit = ask(
        api.create_commit,
        repository,
        [
            CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=str(file))
            for file in files
            if not (kept and file.name == CARD_NAME) and not file.name.startswith(".")
        ],
        commit_message=message or f"Upload {CONFIG_NAME} and {WEIGHTS_NAME}",
    )
    if tag is not None:
        ask(api.create_tag, repository, tag=tag, revision=commit.oid)
    return HubAddress(repository, commit.oid)
