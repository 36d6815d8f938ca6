"""Model cards in the format of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

# What an SPDX identifier is made of; anything else is a text about several licences.
_ONE_LICENCE = re.compile(r"[A-Za-z0-9.+-]+")


def licence_header(text: str) -> dict[str, str]:
    """Return what the header of a card says of a licence.

    The hub knows single licences by their SPDX identifiers in lower case.
    """
    if _ONE_LICENCE.fullmatch(text):
        return {"license": text.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
    return {"license": "other", "license_name": name}


def basic_card(
    config: Mapping[str, Any],
    *,
    title: str | None = None,
    paper: str | None = None,
    licence: str = "unknown",
    origin: str | None = None,
    tags: Iterable[str] = (),
    source: str = "path/to/this/folder",
) -> str:
    """Return a model card in the Hugging Face hub's format for a model folder.

    Args:
        config: as from ``make_config``.
        title: the paper's title.
        paper: the paper's address.
        licence: terms for the weights, an SPDX identifier where there is one.
        origin: where the weights come from, one or more sentences.
        tags: tags besides ``image-fusion`` and the model's name.
        source: what the card's example gives to ``fusionzoo.load``.
    """
    name = config["model"]
    header: dict[str, str | list[str]] = {
        **licence_header(licence),
        "library_name": "fusionzoo",
        "pipeline_tag": "image-to-image",
        "tags": list(dict.fromkeys(["image-fusion", name, *tags])),
    }
    lines = ["---"]
    for key, value in header.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {_yaml(item)}" for item in value)]
        else:
            lines.append(f"{key}: {_yaml(value)}")
    lines += ["---", "", f"# {name}", ""]
    if title:
        lines += [f"Weights for [{title}]({paper})." if paper else f"Weights for {title}.", ""]
    if origin:
        lines += [origin, ""]
    if licence != "unknown":
        lines += [f"Licence of the weights: {licence}.", ""]
    lines += [
        "```python",
        "import fusionzoo",
        "",
        f'model = fusionzoo.load("{source}")',
        'fused = model.fuse("ir.png", "vi.png")',
        "```",
        "",
    ]
    if config["options"]:
        lines += ["| option | value |", "|---|---|"]
        lines += [
            f"| `{key}` | `{json.dumps(value)}` |" for key, value in config["options"].items()
        ]
        lines.append("")
    lines += [f"Written by fusionzoo {config['fusionzoo_version']}.", ""]
    return "\n".join(lines)


def _yaml(text: str) -> str:
    # A JSON string is a YAML string; plain words need no quotes.
    return text if text.replace("-", "").replace(".", "").isalnum() else json.dumps(text)
