"""Pairs of image files below root folders: which there are, under what names, with what masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fusionzoo.pairing import (
    IMAGE_ENDINGS,
    Pair,
    PairError,
    Problem,
    find_images,
    folder_of,
    is_pattern,
    pair_up,
)
from fusionzoo.remote import as_path

__all__ = ["Pair", "PairError", "Problem", "find_pairs", "scan_pairs"]

Folder = str | os.PathLike[str]


def find_pairs(
    roots: Folder | Sequence[Folder], ir_dir: str = "ir", vi_dir: str = "vi"
) -> list[Pair]:
    """The pairs of one or several root folders, sorted by name within each root.

    Two files are a pair if their paths below ``root/ir_dir`` and ``root/vi_dir`` are the same up
    to the ending: ``ir/night/01.png`` and ``vi/night/01.JPG`` are the pair ``night/01``. Hidden
    files and files without an image ending are passed over. ``ir_dir`` and ``vi_dir`` may be
    patterns with one ``*`` in place of the name, such as ``"*_ir.png"`` and ``"*_vi.png"``: see
    :mod:`fusionzoo.pairing`. If a name occurs in several roots, all names get the root's folder
    name in front, with as many parent folders as it takes to tell the roots apart
    (``tno/train/01``). Roots may differ in what their folders are called:
    with ``ir_dir="pet|spect"`` the first of these counts that a root has.

    Raises:
        PairError: a ValueError that lists every missing folder, missing partner and double name.
    """
    pairs, problems = scan_pairs(roots, ir_dir, vi_dir)
    if problems:
        raise PairError(problems)
    return pairs


def scan_pairs(
    roots: Folder | Sequence[Folder],
    ir_dir: str = "ir",
    vi_dir: str = "vi",
    mask_dir: str | None = None,
) -> tuple[list[Pair], list[Problem]]:
    """As :func:`find_pairs`, but what is wrong is given back beside the whole pairs.

    Files below ``root/mask_dir``, if given and if there is such a folder, become the masks of
    the pairs of the same name; neither every pair nor every file there needs a partner.
    """
    folders = [
        as_path(root) for root in ([roots] if isinstance(roots, str | os.PathLike) else roots)
    ]
    by_root: list[tuple[Path, list[Pair]]] = []
    problems: list[Problem] = []
    resolved = [folder.resolve() for folder in folders]
    for number, root in enumerate(folders):
        if resolved[number] in resolved[:number]:
            problems.append(Problem(root, "is given twice", "give every root once"))
            continue
        ir_here, vi_here = _folder_there(root, ir_dir), _folder_there(root, vi_dir)
        pairs, wrong = _scan_root(root, ir_here, vi_here)
        problems += wrong
        if mask_dir is not None:
            pairs, wrong = _with_masks(pairs, root, ir_here, vi_here, mask_dir)
            problems += wrong
        by_root.append((resolved[number], pairs))
    names = [pair.name for _, pairs in by_root for pair in pairs]
    if len(set(names)) < len(names):
        labels = _short_labels([root for root, _ in by_root])
        return [
            replace(pair, name=f"{label}/{pair.name}")
            for label, (_, pairs) in zip(labels, by_root, strict=True)
            for pair in pairs
        ], problems
    return [pair for _, pairs in by_root for pair in pairs], problems


def _folder_there(root: Path, names: str) -> str:
    """The first of the names, divided by "|", that is a folder below the root."""
    alternatives = names.split("|")
    there = (name for name in alternatives if folder_of(root / name).is_dir())
    return next(there, alternatives[0])


def _scan_root(root: Path, ir_dir: str, vi_dir: str) -> tuple[list[Pair], list[Problem]]:
    if not root.is_dir():
        return [], [Problem(root, "no such folder", "check the root's path")]
    problems = []
    for option, place in (("ir_dir", root / ir_dir), ("vi_dir", root / vi_dir)):
        if not (folder := folder_of(place)).is_dir():
            have = ", ".join(sorted(child.name for child in root.iterdir() if child.is_dir()))
            remedy = f"set {option} to one of the folders there ({have or 'none'}) or fix the root"
            problems.append(Problem(folder, "no such folder", remedy))
    if problems:
        return [], problems
    pairs, problems = pair_up(root / ir_dir, root / vi_dir)
    if not pairs and not problems:
        endings = " ".join(sorted(IMAGE_ENDINGS))
        problems.append(
            Problem(root, f"holds no images in {ir_dir} and {vi_dir}", f"add {endings}")
        )
    return pairs, problems


def _with_masks(
    pairs: list[Pair], root: Path, ir_dir: str, vi_dir: str, mask_dir: str
) -> tuple[list[Pair], list[Problem]]:
    folder = root / mask_dir
    for images in (root / ir_dir, root / vi_dir):
        if not is_pattern(images) and folder.resolve().is_relative_to(images.resolve()):
            remedy = "set mask_dir to a folder of its own"
            return pairs, [Problem(folder, f"is, or lies in, {images}", remedy)]
    if not folder.is_dir():
        return pairs, []
    masks, problems = find_images(folder)
    pairs = [replace(pair, mask=masks.get(pair.name)) for pair in pairs]
    if masks and pairs and not any(pair.mask for pair in pairs):
        remedy = "give masks the names of their pairs, or set mask_dir to another folder"
        problems.append(Problem(folder, "holds no mask that is named as a pair is", remedy))
    return pairs, problems


def _short_labels(roots: list[Path]) -> list[str]:
    """The fewest last parts of each path that tell all of them apart."""
    for depth in range(1, max(len(root.parts) for root in roots) + 1):
        labels = ["/".join(root.parts[-depth:]).lstrip("/") for root in roots]
        if len(set(labels)) == len(labels):
            return labels
    raise AssertionError("roots are distinct")
