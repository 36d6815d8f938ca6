"""What a card says of a weight file, from the table of weights and the folder's config."""

from __future__ import annotations

import json

from fusionzoo.results.config import Config
from fusionzoo.results.markdown import count, row, text_of
from fusionzoo.results.overviews import entry_of, paper_of
from fusionzoo.weights import WEIGHTS_NAME, WeightsCfg, weights_table
from fusionzoo.weights import read_config as read_model_config


def facts_table(config: Config, key: str) -> str:
    """The facts of published weights, and the options that the model is made with.

    Raises:
        ValueError: no such weights in the table.
        FileNotFoundError: their folder, beside the benchmark file, has no ``config.json``.
    """
    cfg = published(key)
    options = read_model_config(config.path.parent / key)["options"]
    facts = {
        "paper": paper_of(key),
        "inputs": ", ".join(entry_of(key).modalities_of(key)),
        "file": f"`{WEIGHTS_NAME}`, {count(cfg.size, 'B')} ({cfg.size:,} bytes)",
        "sha256": f"`{cfg.sha256}`",
        "parameters": f"{cfg.parameters:,}",
        "origin": cfg.origin,
        "training data": cfg.training_data,
        "licence of the weights": cfg.weights_licence,
        "licence of the code": cfg.code_licence,
        "commit of the training": f"`{cfg.commit}`" if cfg.commit else "",
        "place on the hub": f"`{cfg.hub_repo}` at `{cfg.hub_revision}`" if cfg.hub_repo else "",
        "options": ", ".join(f"`{name}` {json.dumps(value)}" for name, value in options.items()),
    }
    lines = row("", "") + row("---", "---")
    for name, fact in facts.items():
        if fact:
            lines += row(name, fact)
    return text_of(lines)


def published(key: str) -> WeightsCfg:
    """The entry of published weights.

    Raises:
        ValueError: no such weights in the table.
    """
    cfg = weights_table().get(key)
    if cfg is None:
        raise ValueError(
            f"there are no published weights called {key!r}; add them to the table with "
            f"`python -m fusionzoo.weights {key}`"
        )
    return cfg
