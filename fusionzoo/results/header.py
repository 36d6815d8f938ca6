"""The YAML header of a card, in the format that the Hugging Face hub reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fusionzoo.results.config import MAIN, Config
from fusionzoo.results.facts import published
from fusionzoo.results.figures import Figure
from fusionzoo.results.overviews import entry_of, title

_PIPELINE = "image-to-image"
_HEADER = re.compile(r"\A---\n.*?^---\n\n*", re.DOTALL | re.MULTILINE)
# What an SPDX identifier is made of; anything else is a text about several licences.
_ONE_LICENCE = re.compile(r"[A-Za-z0-9.+-]+")


def with_header(text: str, config: Config, figures: Sequence[Figure], key: str) -> str:
    """A card with its header made anew; one without gets it.

    Raises:
        ValueError: the card's key is not in the table of weights, or its header has no end.
    """
    import yaml

    body = _HEADER.sub("", text, count=1)
    if body.startswith("---\n"):
        raise ValueError("the header between two lines of --- has no end; add the second")
    # Lists and mappings without others in them go on one line.
    header = yaml.safe_dump(
        header_of(config, figures, key),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=1000,
    )
    return f"---\n{header}---\n\n{body}"


def header_of(config: Config, figures: Sequence[Figure], key: str) -> dict[str, Any]:
    """The header's content: licence and tags, and a ``model-index`` with the usual results.

    Raises:
        ValueError: no such weights in the table.
    """
    entry, task = entry_of(key), task_of(key)
    inputs = [name.lower() for name in entry.modalities_of(key)]
    header: dict[str, Any] = {
        **_licence(published(key).weights_licence),
        "library_name": "fusionzoo",
        "pipeline_tag": _PIPELINE,
        "tags": list(dict.fromkeys(["image-fusion", task, *inputs, entry.name])),
    }
    own = [
        figure
        for figure in figures
        if figure.model == key and figure.table == MAIN and figure.ours is not None
    ]
    if own:
        header["metrics"] = list(dict.fromkeys(figure.metric.lower() for figure in own))
        sets = dict.fromkeys(figure.set for figure in own)
        results = [
            {
                "task": {"type": _PIPELINE, "name": f"{task} image fusion".capitalize()},
                "dataset": _dataset(config, name, {f.pairs for f in own if f.set == name}),
                "metrics": [_metric(figure) for figure in own if figure.set == name],
            }
            for name in sets
        ]
        header["model-index"] = [{"name": key, "results": results}]
    return header


def task_of(key: str) -> str:
    """What weights are for: their tag, where that is one of the model's tasks, or the first."""
    tasks, tag = entry_of(key).tasks, key.partition(".")[2]
    return tag if tag in tasks else tasks[0]


def _licence(text: str) -> dict[str, str]:
    # The hub knows single licences by their SPDX identifiers in lower case.
    if _ONE_LICENCE.fullmatch(text):
        return {"license": text.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
    return {"license": "other", "license_name": name}


def _dataset(config: Config, name: str, pairs: set[int]) -> dict[str, str]:
    counts = " or ".join(map(str, sorted(pairs)))
    return {"type": name, "name": f"{title(config, name)}, {counts} pairs"}


def _metric(figure: Figure) -> dict[str, Any]:
    protocol = figure.protocol + (", stretched" if figure.stretch == "yes" else "")
    return {
        "type": figure.metric.lower(),
        "name": f"{figure.metric} ({protocol})",
        "value": figure.ours,
        "config": protocol,
    }
