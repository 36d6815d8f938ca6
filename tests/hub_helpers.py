"""What the tests of the hub share: small models, and the client set to ask the local server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from cli_helpers import environment
from hub_server import HubServer

import fusionzoo
from fusionzoo import weights

FACTS = {"origin": "a test", "training_data": "none", "weights_licence": "MIT"}
#: Published in the tests, and in no folder of checkpoints.
KEY = "didfuse.far"
NAME = f"fusionzoo/{KEY}"


def small_model(seed: int = 0) -> fusionzoo.module.FusionModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fusionzoo.create_model("didfuse", channels=4, rule="average")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.network.state_dict(), other.network.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def flipped(data: bytes) -> bytes:
    """The same number of bytes, the last of which differs: still a safetensors file."""
    return data[:-1] + bytes([data[-1] ^ 1])


def publish(server: HubServer, folder: Path, table: Path, seed: int = 0) -> weights.WeightsCfg:
    """Put a model on the hub and into a table of published weights, not on this machine."""
    made = small_model(seed).save_pretrained(folder)
    cfg = weights.update_weights_table(KEY, made, table=table, **FACTS)
    server.add(NAME, files_of(made), tag=cfg.hub_revision)
    return cfg


def use_server(monkeypatch: pytest.MonkeyPatch, server: HubServer, home: Path) -> Path:
    """Point the client in this process to a server, with a cache of its own; gives the cache.

    The client reads its environment when it is imported, so that setting variables is too late
    here. Tests that start a process set those: :func:`client_environment`.
    """
    from huggingface_hub import constants, file_download

    cache = home / "hub"
    settings = {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(home / "token"),
    }
    for name, value in settings.items():
        # Not every version of the client has all of them, and some have them twice.
        monkeypatch.setattr(constants, name, value, raising=False)
        if hasattr(file_download, name):
            monkeypatch.setattr(file_download, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits before it retries
    return cache


def client_environment(server: HubServer, home: Path, **more: str) -> dict[str, str]:
    """For a process that asks a server, as a user would set it."""
    env = {k: v for k, v in environment().items() if not k.startswith(("HF_", "HUGGING", "FUSION"))}
    return {
        **env,
        "HF_ENDPOINT": server.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "*",
        **more,
    }


def blobs(cache: Path, name: str = NAME) -> list[Path]:
    """Every file of a repository in the cache."""
    folder = cache / f"models--{name.replace('/', '--')}"
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def damage(folder: Path, change=flipped, file: str = weights.WEIGHTS_NAME) -> Path:
    """Change a cached file where it really lies."""
    path = Path(os.path.realpath(folder / file))
    path.write_bytes(change(path.read_bytes()))
    return path
