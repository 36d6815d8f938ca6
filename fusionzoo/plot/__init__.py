"""Pictures that compare models by eye; they need matplotlib (``pip install 'fusionzoo[plot]'``).

from fusionzoo import plot

plot.grid("ir.png", "vi.png", ["didfuse", "coconet"], path="compared.png")
"""

from fusionzoo.plot.grids import grid

__all__ = ["grid"]
