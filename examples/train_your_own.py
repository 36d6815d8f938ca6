"""Train on a folder of pairs, here windows of the example pair, and fuse with the result.

Writes pairs/ and runs/ to the folder in which it is called.
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image

import fusionzoo

here = Path(__file__).parent

# Your own folder looks like this: pairs/ir/NAME.png beside pairs/vi/NAME.png.
for side in ("ir", "vi"):
    folder = Path("pairs", side)
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(here / f"{side}.png") as image:
        for n, left in enumerate(range(0, 201, 40)):
            image.crop((left, 60, left + 120, 180)).save(folder / f"{n}.png")

# On a command line this is `fusionzoo fit --config didfuse ...`.
command = """
    fit --config didfuse --weights didfuse --data.root pairs --data.holdout 1
    --data.crop_size 64 --data.batch_size 4 --data.pairs_per_epoch 16
    --trainer.max_epochs 3 --trainer.check_val_every_n_epoch 1 --trainer.default_root_dir runs
"""
subprocess.run([sys.executable, "-m", "fusionzoo", *command.split()], check=True)

run = max(Path("runs").glob("version_*"), key=lambda path: path.stat().st_mtime)
model = fusionzoo.load(run / "pretrained")
model.fuse(here / "ir.png", here / "vi.png").save("fused.png")
print(f"{run / 'pretrained'} made fused.png")
