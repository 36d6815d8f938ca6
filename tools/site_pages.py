"""Hooks of MkDocs: pages of the site that are made from other files, and links between all of them.

The cards of the models, the changelog and the guide for contributors are pages without a copy in
docs/. The API reference lists every public module. Links of a page are those of the file that it
is made from, so that they work on GitHub; here they are turned into links of the site, or to the
repository where the site has no such page.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# MkDocs runs this file by its path, and looks for modules elsewhere.
sys.path.append(str(Path(__file__).parent))
from leaderboard_plot import leaderboard_svg

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fusionzoo"
#: Where the leaderboard's picture goes.
PLOT = "<!-- plot: leaderboard -->"
REPOSITORY = "https://github.com/fusionzoo/fusionzoo"
#: Packages that the reference leaves out: commands have their --help, models their cards.
NOT_LISTED = ("cli", "models")

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def sources() -> dict[str, str]:
    """Page or picture of the site -> the file of the repository that it is made from."""
    found = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
    for card in sorted((ROOT / "checkpoints").glob("*/README.md")):
        found[f"models/{card.parent.name}.md"] = card.relative_to(ROOT).as_posix()
        for picture in sorted(card.parent.glob("*.png")):
            found[f"models/{card.parent.name}/{picture.name}"] = picture.relative_to(
                ROOT
            ).as_posix()
    for picture in sorted((ROOT / "examples").glob("*.png")):
        found[f"examples/{picture.name}"] = picture.relative_to(ROOT).as_posix()
    return found


def public_modules() -> dict[str, Path]:
    """Modules that users import, in the order of the reference -> their files.

    Packages below fusionzoo that have public names (``__all__``) are all among them.
    """
    packages = [path.parent.name for path in sorted(PACKAGE.glob("*/__init__.py"))]
    found = {"fusionzoo": PACKAGE / "__init__.py", "fusionzoo.module": PACKAGE / "module.py"}
    for name in packages:
        if name not in NOT_LISTED:
            found[f"fusionzoo.{name}"] = PACKAGE / name / "__init__.py"
    found |= {f"fusionzoo.{name}": PACKAGE / f"{name}.py" for name in ("speed", "errors")}
    return {module: path for module, path in found.items() if public_names(path)}


def public_names(path: Path) -> list[str]:
    """What the ``__all__`` of a file lists, or without one its public classes."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
    return [node.name for node in body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]


def reference() -> str:
    """The directives of the API reference."""
    return "\n".join(
        f"::: {module}\n    options:\n      members: [{', '.join(public_names(path))}]\n"
        for module, path in public_modules().items()
    )


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out pages that are not there, and add the cards."""
    docs = Path(config.docs_dir)
    made = sources()
    cards = [
        {page.removeprefix("models/").removesuffix(".md"): page}
        for page in made
        if page.startswith("models/") and page.endswith(".md")
    ]
    config.nav = _existing(config.nav or [], docs, made)
    for part in config.nav:
        if "Models" in part:
            part["Models"] += cards
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that are made from other files."""
    for page, source in sources().items():
        path = ROOT / source
        if path.suffix == ".md":
            file = File.generated(config, page, content=path.read_text(encoding="utf-8"))
        else:
            file = File.generated(config, page, abs_src_path=str(path))
        files.append(file)
    files.append(File.generated(config, "leaderboard.svg", content=leaderboard_svg()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site, and list the public modules."""
    if page.file.src_uri == "api.md":
        return f"{markdown}\n\n{reference()}"
    markdown = markdown.replace(PLOT, "![VIF, Qabf and time](leaderboard.svg)")
    return with_site_links(markdown, page.file.src_uri)


def with_site_links(markdown: str, page: str) -> str:
    """The text of a page with links that work on the site."""
    made = sources()
    origin = PurePosixPath(made.get(page, f"docs/{page}"))
    pages = {source: name for name, source in made.items()}

    def site(found: re.Match[str]) -> str:
        target, mark, anchor = found[2].partition("#")
        if not target or ":" in target:
            return found[0]
        path = os.path.normpath(origin.parent / target)
        if path.startswith("docs/"):
            to = path.removeprefix("docs/")
        elif path in pages:
            to = pages[path]
        # A card may be named before its weights are published.
        elif (ROOT / path).exists() or path.startswith("checkpoints/"):
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            return f"{found[1]}{REPOSITORY}/{kind}/main/{path}{mark}{anchor}{found[3]}"
        else:
            return found[0]  # MkDocs reports it
        there = os.path.relpath(to, PurePosixPath(page).parent)
        return f"{found[1]}{there}{mark}{anchor}{found[3]}"

    # Code is left as it is.
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        part if number % 2 else _LINK.sub(site, part) for number, part in enumerate(parts)
    )


def _existing(nav: list[Any], docs: Path, made: dict[str, str]) -> list[Any]:
    kept = []
    for entry in nav:
        ((name, target),) = entry.items()
        if isinstance(target, list):
            kept.append({name: _existing(target, docs, made)})
        elif (docs / target).is_file() or target in made:
            kept.append(entry)
    return kept
