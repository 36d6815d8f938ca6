"""Draw twelve fixed test pairs with their fusion, to compare models by eye.

python examples/contact_sheet.py --data DATA -o OUT [--model KEY …]

OUT is a folder, for one sheet a model (OUT/KEY.png), or a file such as all.png, for one sheet with
a column for each model. contact_sheet.yaml names the pairs.
"""

import argparse
from pathlib import Path

import yaml

import fusionzoo
from fusionzoo import plot
from fusionzoo.data import find_pairs
from fusionzoo.models import MODELS

PAIRS = Path(__file__).with_suffix(".yaml")


def fixed_pairs(data):
    """Label, infrared and visible file of each pair; says at once everything that is missing."""
    found, missing = [], []
    for folder, names in yaml.safe_load(PAIRS.read_text(encoding="utf-8")).items():
        there = {}
        if (data / folder).is_dir():
            there = {pair.name: pair for pair in find_pairs(data / folder)}
        for name in names:
            if name in there:
                label = f"{folder.partition('/')[0]} {name}"
                found.append((label, there[name].ir, there[name].vi))
            else:
                missing.append(f"{data / folder}: no pair {name}")
    if missing:
        raise SystemExit("\n".join([*missing, f"give --data the folder that {PAIRS.name} means"]))
    return found


def infrared_visible():
    return [
        key
        for key in fusionzoo.list_models(pretrained=True)
        if MODELS[key.partition(".")[0]].modalities_of(key)[0] == "infrared"
    ]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="folder that holds the test sets")
parser.add_argument("-o", "--out", type=Path, required=True, help="folder, or one image file")
parser.add_argument("--model", nargs="+", metavar="KEY", help="all infrared-visible ones if none")
parser.add_argument("--width", type=int, default=320, help="of one picture, in pixels")
args = parser.parse_args()

keys = args.model or infrared_visible()
labels, ir, vi = zip(*fixed_pairs(args.data), strict=True)
if args.out.suffix:
    sheets = {args.out: keys}
else:
    args.out.mkdir(parents=True, exist_ok=True)
    sheets = {args.out / f"{key}.png": [key] for key in keys}
for path, models in sheets.items():
    plot.grid(ir, vi, models, names=labels, width=args.width, path=path)
    print(path)
