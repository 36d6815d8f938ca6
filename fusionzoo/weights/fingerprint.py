"""Which weights, with which options, something was made with: one hash over both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fusionzoo.weights._layout import WEIGHTS_NAME
from fusionzoo.weights.reading import read_config
from fusionzoo.weights.table import local_file, sha256_of, weights_table

_DIGITS = 16


def fingerprint(folder: str | Path, **options: Any) -> str:
    """The first digits of a SHA-256 over a model folder's weights and options.

    The package's version in ``config.json`` and the order of the options make no difference.

    Args:
        folder: what ``save_pretrained`` wrote.
        options: what is given in place of the stored options.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: its ``config.json`` is damaged.
    """
    config = read_config(folder)
    content = {
        "weights": sha256_of(Path(folder) / WEIGHTS_NAME),
        "model": config["model"],
        "options": {**config["options"], **options},
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def packaged_folder(key: str) -> Path | None:
    """The folder of published weights on this machine; None if they are not here."""
    cfg = weights_table().get(key)
    file = local_file(cfg) if cfg else None
    return file and file.parent
