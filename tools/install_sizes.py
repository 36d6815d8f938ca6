"""What an installation takes on disk: of fusionzoo itself, and of what each extra adds to it.

python tools/install_sizes.py

Counts the files of the packages that are installed here and that pyproject.toml asks for, and of
what they need. An extra of which a package is not installed here is left out.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import tomllib
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def size_of(name: str) -> int:
    """Bytes of a package's files."""
    files = [file.locate() for file in distribution(name).files or ()]
    return sum(file.stat().st_size for file in map(Path, files) if file.is_file())


def needed(requirements: list[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Names of all packages that requirements lead to.

    Raises:
        PackageNotFoundError: one of ``requirements`` is not installed here.
    """
    found: set[str] = set()
    waiting = [(requirement, extras, True) for requirement in requirements]
    seen = set()
    while waiting:
        text, active, asked = waiting.pop()
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in {"", *active}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        try:
            brought = distribution(name).requires or []
        except PackageNotFoundError:
            if asked:
                raise
            continue  # optional for its asker
        found.add(name)
        key = (name, frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            waiting += [(one, frozenset(requirement.extras), False) for one in brought]
    return found


def main() -> int:
    """Print the table."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = needed(project["dependencies"])
    own = sum(
        file.stat().st_size
        for folder in ("fusionzoo", "checkpoints")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    )
    rows = [
        ("fusionzoo with all weights", own),
        ("with everything that it needs", own + sum(map(size_of, base))),
        ("of that, PyTorch", size_of("torch")),
    ]
    for extra, requirements in project["optional-dependencies"].items():
        if extra == "dev":
            continue
        others = [one for one in requirements if not one.startswith("fusionzoo[")]
        try:
            rows.append((f"more for `[{extra}]`", sum(map(size_of, needed(others) - base))))
        except PackageNotFoundError:
            continue
    print("| what | MB on disk |\n| --- | ---: |")
    print("\n".join(f"| {what} | {size / 1e6:.3g} |" for what, size in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
