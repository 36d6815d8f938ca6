"""Draw pairs beside their fusion, one row a pair: infrared, visible, fused.

python examples/grid.py OUT.png IR VI [IR VI …] [--model didfuse] [--width 320]
"""

import argparse

from PIL import Image

import fusionzoo
from fusionzoo.inference import save_image


def row(model, ir, vi, width):
    ir, vi = Image.open(ir), Image.open(vi)
    images = [ir.convert("RGB"), vi.convert("RGB"), model.fuse(ir, vi).convert("RGB")]
    height = round(width * vi.height / vi.width)
    strip = Image.new("RGB", (3 * width + 8, height), "white")
    for column, image in enumerate(images):
        scaled = image.resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(scaled, (column * (width + 4), 0))
    return strip


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("out")
parser.add_argument("pairs", nargs="+", metavar="IR VI")
parser.add_argument("--model", default="didfuse")
parser.add_argument("--width", type=int, default=320, help="of one picture, in pixels")
args = parser.parse_args()
if len(args.pairs) % 2:
    parser.error("give an infrared and a visible image for every row")

model = fusionzoo.load(args.model)
pairs = zip(args.pairs[::2], args.pairs[1::2], strict=True)
rows = [row(model, ir, vi, args.width) for ir, vi in pairs]
sheet = Image.new("RGB", (rows[0].width, sum(r.height + 4 for r in rows) - 4), "white")
top = 0
for strip in rows:
    sheet.paste(strip, (0, top))
    top += strip.height + 4
save_image(args.out, sheet)
