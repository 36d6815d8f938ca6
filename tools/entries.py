"""The table of published weights, ``fusionzoo/weights.json``: an entry is brought in line."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

from fusionzoo._version import __version__
from fusionzoo.errors import InputError
from fusionzoo.files import write_whole
from fusionzoo.weights import (
    WEIGHTS_NAME,
    WeightsCfg,
    fingerprint,
    read_safetensors,
    sha256_of,
    weights_table,
)

# Fields that nobody types by hand.
MEASURED = ("file", "sha256", "fingerprint", "size", "parameters")
# What batch norm keeps beside its parameters; a file does not tell the two apart.
_NOT_PARAMETERS = ("running_mean", "running_var")


def update_entry(
    key: str,
    folder: str | Path,
    *,
    table: str | Path,
    **facts: str | None,
) -> WeightsCfg:
    """Bring a key's entry in line with its file; hash, size and parameters are measured.

    Args:
        key: ``"model"`` or ``"model.tag"``.
        folder: what ``save_pretrained`` wrote.
        table: the file, as ``fusionzoo/weights.json``; it may be missing.
        facts: the entry's other fields; those left out are kept from the entry as it is now.
            Without ``hub_repo`` that is ``fusionzoo/<key>``; changed weights or options get this
            version's tag as their ``hub_revision``.

    Returns:
        The new entry, which has been written to the table.

    Raises:
        MissingFileError: no weights, or no config, in the folder.
        InputError: a fact is no field of ``WeightsCfg``, is measured, or is needed and missing.
    """
    free = [f.name for f in fields(WeightsCfg) if f.name not in MEASURED]
    for name in facts:
        if name not in free:
            why = "is measured from the file" if name in MEASURED else "is no field of WeightsCfg"
            raise InputError(f"{name!r} {why}; give any of {', '.join(free)}")

    file = Path(folder) / WEIGHTS_NAME
    state, _ = read_safetensors(file)

    path = Path(table)
    entries = {k: asdict(v) for k, v in weights_table(path).items()} if path.exists() else {}
    entry = entries.get(key, {})
    found = fingerprint(folder)
    if entry.get("hub_repo") is None:
        entry["hub_repo"] = f"fusionzoo/{key}"
    if entry.get("hub_revision") is None or entry.get("fingerprint") != found:
        entry["hub_revision"] = f"v{__version__}"
    entry.update(facts)
    entry.update(
        file=f"{key}/{WEIGHTS_NAME}",
        sha256=sha256_of(file),
        fingerprint=found,
        size=file.stat().st_size,
        parameters=sum(
            tensor.numel()
            for name, tensor in state.items()
            # Orders and flags are buffers, too: parameters are floating.
            if tensor.is_floating_point() and not name.endswith(_NOT_PARAMETERS)
        ),
    )
    missing = sorted({"origin", "training_data", "weights_licence"} - entry.keys())
    if missing:
        raise InputError(f"{key!r} is new in the table: also give {', '.join(missing)}")
    entries[key] = asdict(WeightsCfg(**entry))
    text = json.dumps(dict(sorted(entries.items())), indent=2, ensure_ascii=False) + "\n"
    write_whole(path, text.encode())
    return WeightsCfg(**entries[key])
