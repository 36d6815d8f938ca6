"""``python -m fusionzoo`` is the command ``fusionzoo``."""

from __future__ import annotations

import sys

from fusionzoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
