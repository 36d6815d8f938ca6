"""Draw pairs beside their fusion, one row a pair: infrared, visible, fused.

python examples/grid.py OUT.png IR VI [IR VI …] [--model lapnet …] [--width 320]
"""

import argparse

from fusionzoo import plot


def box(text):
    return tuple(map(int, text.split(",")))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("out")
parser.add_argument("pairs", nargs="+", metavar="IR VI")
parser.add_argument("--model", nargs="+", default=["lapnet"], help="one column for each")
parser.add_argument("--width", type=int, default=320, help="of one picture, in pixels")
parser.add_argument("--titles", action="store_true", help="write above each column what it is")
parser.add_argument("--crop", type=box, metavar="L,T,R,B", help="the part to draw, in pixels")
parser.add_argument("--zoom", type=box, metavar="L,T,R,B", help="a part to draw enlarged as well")
args = parser.parse_args()
if len(args.pairs) % 2:
    parser.error("give an infrared and a visible image for every row")

plot.grid(
    args.pairs[::2],
    args.pairs[1::2],
    args.model,
    titles=args.titles,
    width=args.width,
    crop=args.crop,
    zoom=args.zoom,
    path=args.out,
)
