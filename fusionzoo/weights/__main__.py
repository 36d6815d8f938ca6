"""The maintainers' command: ``python -m fusionzoo.weights KEY`` after checkpoints/KEY changed."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

from fusionzoo.weights.table import MEASURED, WeightsCfg, update_weights_table


def main() -> None:
    """Bring one entry of the packaged table in line with its file, and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m fusionzoo.weights",
        description="Bring the table of published weights in line with checkpoints/KEY.",
    )
    parser.add_argument("key", metavar="KEY", help="model or model.tag")
    parser.add_argument("--folder", type=Path, help="default: checkpoints/KEY")
    for fact in fields(WeightsCfg):
        if fact.name not in MEASURED:
            option = "--" + fact.name.replace("_", "-")
            parser.add_argument(option, default=argparse.SUPPRESS, help="default: as it is now")
    arguments = vars(parser.parse_args())
    key, folder = arguments.pop("key"), arguments.pop("folder")
    try:
        entry = update_weights_table(key, folder, **arguments)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print(json.dumps({key: asdict(entry)}, indent=2))


if __name__ == "__main__":
    main()
