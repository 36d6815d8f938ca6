"""The maintainers' command: ``python -m fusionzoo.weights KEY`` after checkpoints/KEY changed.

With ``--publish`` it uploads checkpoints/KEY to the hub instead, tagged as the table says.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

from fusionzoo.weights import table
from fusionzoo.weights._layout import CONFIG_NAME, WEIGHTS_NAME
from fusionzoo.weights.hub import HubAddress
from fusionzoo.weights.reading import read_config
from fusionzoo.weights.table import MEASURED, WeightsCfg, update_weights_table
from fusionzoo.weights.upload import upload_folder


def main() -> None:
    """Bring one entry of the packaged table in line with its file and print it, or publish it."""
    parser = argparse.ArgumentParser(
        prog="python -m fusionzoo.weights",
        description="Bring the table of published weights in line with checkpoints/KEY.",
    )
    parser.add_argument("key", metavar="KEY", help="model or model.tag")
    parser.add_argument("--folder", type=Path, help="default: checkpoints/KEY")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="leave the table, and upload the folder to its repository on the hub with its tag",
    )
    for fact in fields(WeightsCfg):
        if fact.name not in MEASURED:
            option = "--" + fact.name.replace("_", "-")
            parser.add_argument(option, default=argparse.SUPPRESS, help="default: as it is now")
    arguments = vars(parser.parse_args())
    key, folder = arguments.pop("key"), arguments.pop("folder")
    to_hub = arguments.pop("publish")
    if to_hub and arguments:
        parser.error("--publish takes no facts: change the table first, and commit it")
    try:
        if to_hub:
            print(publish(key, folder))
            return
        entry = update_weights_table(key, folder, **arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(json.dumps({key: asdict(entry)}, indent=2))


def publish(
    key: str, folder: str | Path | None = None, *, token: str | bool | None = None
) -> HubAddress:
    """Upload a folder of checkpoints to its place on the hub, if it is what the table says.

    Raises:
        ValueError: no such entry, no place on the hub, or other weights or options.
        OSError: as :func:`upload_folder`; a tag that is there already is not moved.
    """
    cfg = table.weights_table().get(key)
    if cfg is None or not cfg.hub_repo or not cfg.hub_revision:
        raise ValueError(f"{key!r} has no hub_repo and hub_revision in the table of weights")
    folder = Path(table._CHECKOUT / key if folder is None else folder)
    remedy = f"bring the table in line first: python -m fusionzoo.weights {key}"
    table.verify(folder / WEIGHTS_NAME, cfg, remedy=remedy)
    table.verify_config(read_config(folder), cfg, folder / CONFIG_NAME, remedy=remedy)
    return upload_folder(
        folder,
        cfg.hub_repo,
        message=f"{key}, fusionzoo {cfg.hub_revision}",
        token=token,
        tag=cfg.hub_revision,
    )


if __name__ == "__main__":
    main()
