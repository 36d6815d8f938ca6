"""Every published weight of the installed wheel fuses, offline, what is stored in tests/golden.

Run by the interpreter of an environment that holds the wheel and what it depends on, nothing else.
"""

import socket
import sys
from pathlib import Path


def refuse(*_, **__):
    raise OSError("no network in this test")


socket.socket.connect = refuse

import fusionzoo  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))
from golden import problem  # noqa: E402

if "site-packages" not in fusionzoo.__file__:
    sys.exit(f"{fusionzoo.__file__} is not of an installed wheel")
from fusionzoo.demo.examples import example_pairs  # noqa: E402

keys = fusionzoo.list_models(pretrained=True)
problems = [found for key in keys if (found := problem(key))]
if not example_pairs():
    problems.append("the wheel has no example pairs")
if problems or not keys:
    sys.exit("\n".join(problems) or "the wheel has no weights")
print(f"{', '.join(keys)}: load from the wheel and give the golden outputs")
