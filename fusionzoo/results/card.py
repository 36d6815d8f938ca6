"""The first text of a model card: facts from the tables, results between markers."""

from __future__ import annotations

from fusionzoo.models import MODELS
from fusionzoo.results.config import MAIN, Config
from fusionzoo.results.documents import END
from fusionzoo.weights import basic_card, weights_table
from fusionzoo.weights import read_config as read_model_config


def card_template(config: Config, key: str) -> str:
    """A card for published weights, to be edited by hand; its tables are filled by the benchmark.

    The header is that of the Hugging Face hub's cards. The folder beside the benchmark file gives
    the options, the table of weights the rest.

    Raises:
        ValueError: no such weights in the table.
        FileNotFoundError: their folder is not beside the benchmark file.
    """
    cfg = weights_table().get(key)
    if cfg is None:
        raise ValueError(f"there are no published weights called {key!r}; add them to the table")
    model = MODELS[key.partition(".")[0]]
    facts = {
        "origin": cfg.origin,
        "training data": cfg.training_data,
        "licence of the weights": cfg.weights_licence,
        "licence of the code": cfg.code_licence,
        "parameters": f"{cfg.parameters:,}",
        "sha256": f"`{cfg.sha256}`",
    }
    if cfg.commit:
        facts["commit"] = f"`{cfg.commit}`"
    text = basic_card(
        read_model_config(config.path.parent / key),
        title=model.title,
        paper=model.paper,
        licence=cfg.weights_licence,
        tags=model.tasks,
    ).replace("path/to/this/folder", key)
    lines = ["## Weights", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {fact} |" for name, fact in facts.items()]
    tables = dict.fromkeys([MAIN, *(run.table for run in config.runs if run.model == key)])
    for table in tables:
        lines += ["", f"## {table.capitalize()}", "", f"<!-- table: {table} {key} -->", END]
    return text + "\n" + "\n".join(lines) + "\n"
