"""Which file of one place belongs to which file of another: the pairs of images on a disk.

A place is a folder or a pattern. In a folder, a file's name is its path below the folder without
the ending, so ``ir/night/01.png`` and ``vi/night/01.JPG`` are the pair ``night/01``. A pattern is
a path with one ``*``, which stands for the name, subfolders included: ``all/*_ir.png`` and
``all/*_vi.png`` pair ``all/night/01_ir.png`` with ``all/night/01_vi.png`` as ``night/01``. A
pattern without an image ending (``*_ir``, ``*_ir.*``) takes every image ending.

NumPy arrays and DICOM files (`ARRAY_ENDINGS`) count where a place holds no pictures at all, since
features, masks and the like often lie beside pictures; or where a pattern asks for them. Files of
raw values (`RAW_ENDINGS`) count only where a pattern asks for them.

Hidden files and folders, and files without an image ending, are passed over. Links to folders are
followed once. Nothing here opens a file or needs torch. A place may be a URL (`fusionzoo.remote`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fusionzoo.errors import InputError, MissingFileError
from fusionzoo.remote import RemotePath, as_path

__all__ = [
    "ARRAY_ENDINGS",
    "IMAGE_ENDINGS",
    "RAW_ENDINGS",
    "Pair",
    "PairError",
    "Problem",
    "find_images",
    "folder_of",
    "is_pattern",
    "pair_up",
]

#: File endings taken for images, in lower case; other files are left alone.
IMAGE_ENDINGS = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
        *(".pgm", ".ppm", ".pnm", ".jp2", ".gif"),
    )
)

#: Of files that hold images where nothing else does.
ARRAY_ENDINGS = frozenset((".npy", ".npz", ".dcm"))
#: Of files of raw values, without header.
RAW_ENDINGS = frozenset((".raw", ".bin", ".dat"))

_ANY_ENDING = IMAGE_ENDINGS | ARRAY_ENDINGS | RAW_ENDINGS
_SHOWN_PROBLEMS = 40

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Pair:
    """Two files that show the same scene, and the name by which results go.

    ``mask``: file with the mask of its targets, where masks were asked for and there is one.
    """

    name: str
    ir: Path
    vi: Path
    mask: Path | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file or folder, and what to do about it."""

    path: Path
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.remedy}"


class PairError(InputError):
    """Everything that is wrong with a dataset, in one error.

    Attributes:
        problems: all of them; the message shows the first ones.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)  # so that the error can be pickled

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{count} problem{'s' * (count > 1)} with the image pairs:"]
        lines += [f"  {problem}" for problem in self.problems[:_SHOWN_PROBLEMS]]
        if count > _SHOWN_PROBLEMS:
            lines.append(f"  ... and {count - _SHOWN_PROBLEMS} more")
        return "\n".join(lines)


def pair_up(ir: Place, vi: Place) -> tuple[list[Pair], list[Problem]]:
    """Pair the images of two places by their names.

    A file that fits both places belongs to the one whose pattern has more text: with ``*.png``
    and ``*_vi.png``, ``a_vi.png`` is visible.

    Args:
        ir: folder or pattern of the infrared images, or of what takes their place.
        vi: folder or pattern of the visible images, or of what takes their place.

    Returns:
        The pairs sorted by name, and all that is wrong: folders that cannot be listed, names that
        occur twice in one place, files without partner. Both are empty where there are no images.

    Raises:
        MissingFileError: the folder of a place does not exist.
        InputError: a pattern has more than one ``*``.
    """
    places = (_Place.of(ir), _Place.of(vi))
    (ir_files, problems), (vi_files, more) = (_images_of(place) for place in places)
    problems += [problem for problem in more if problem not in problems]
    _part(ir_files, vi_files, places)
    for files, partners, other in (
        (ir_files, vi_files, places[1]),
        (vi_files, ir_files, places[0]),
    ):
        for name in sorted(files.keys() - partners.keys()):
            remedy = f"add {other.path_of(name)} or remove this file"
            problems.append(Problem(files[name], "has no partner", remedy))
    names = sorted(ir_files.keys() & vi_files.keys())
    return [Pair(name, ir_files[name], vi_files[name]) for name in names], problems


def find_images(place: Place) -> tuple[dict[str, Path], list[Problem]]:
    """Return the images of one place by their names, and what is wrong there.

    Raises:
        MissingFileError: the folder of the place does not exist.
        InputError: a pattern has more than one ``*``.
    """
    return _images_of(_Place.of(place))


def is_pattern(place: Place) -> bool:
    """Whether this is a pattern: it holds a ``*``, and no file or folder is really called so."""
    return "*" in os.fspath(place) and not os.path.exists(place)


def folder_of(place: Place) -> Path:
    """Return the folder below which the images of a place lie; it need not exist.

    Raises:
        InputError: a pattern has more than one ``*``.
    """
    return _Place.of(place).folder


@dataclass(frozen=True)
class _Place:
    """A folder, and how the paths of its images look: text before and after the name."""

    folder: Path
    before: str = ""
    after: str = ""
    ending: str = ""  # empty: every image ending

    @classmethod
    def of(cls, place: Place) -> _Place:
        if not is_pattern(place):
            return cls(as_path(place))
        path = as_path(place)
        parts = path.parts
        first = next(number for number, part in enumerate(parts) if "*" in part)
        pattern = "/".join(parts[first:]).removesuffix(".*")
        if pattern.count("*") != 1:
            raise InputError(
                f"{place}: write one * in a pattern, in place of the pair's name, as in *_ir.png"
            )
        ending = Path(pattern).suffix
        if ending.lower() not in _ANY_ENDING:
            ending = ""
        before, after = pattern.removesuffix(ending).split("*")
        return cls(type(path)(*parts[:first]), before, after, ending.lower())

    def name_of(self, path: Path) -> str | None:
        """The name of an image below the folder, None where its path does not fit."""
        if self.ending not in ("", path.suffix.lower()):
            return None
        if not self.ending and path.suffix.lower() in RAW_ENDINGS:
            return None
        stem = path.relative_to(self.folder).with_suffix("").as_posix()
        end = len(stem) - len(self.after)
        if not (stem.startswith(self.before) and stem.endswith(self.after)):
            return None
        name = stem[len(self.before) : end]
        # A name is a path below the results' folder as well, and must not lead out of it.
        usable = not {"", ".", ".."} & set(name.split("/"))
        return name if usable and len(self.before) <= end else None

    def path_of(self, name: str) -> str:
        """What an image of this name would be called."""
        path = self.folder / f"{self.before}{name}{self.after}{self.ending}"
        return str(path) if self.ending else f"{path} (any image ending)"


def _images_of(place: _Place) -> tuple[dict[str, Path], list[Problem]]:
    if not place.folder.is_dir():
        raise MissingFileError(f"{place.folder}: no such folder; check the path")
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    walked = [(place.name_of(path), path) for path in _walk(place.folder, problems)]
    named = [(name, path) for name, path in walked if name is not None]
    pictures = [(name, path) for name, path in named if path.suffix.lower() in IMAGE_ENDINGS]
    for name, path in pictures or named:
        if name in files:
            what = f"has the same name as {files[name].name}"
            problems.append(Problem(path, what, "keep one of the two"))
        else:
            files[name] = path
    return files, problems


def _walk(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """Image files at any depth; what cannot be looked into is added to the problems."""
    if isinstance(folder, RemotePath):
        for path in folder.files():
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix.lower() in _ANY_ENDING and not hidden:
                yield path
        return
    visited: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        if (real := os.path.realpath(here)) in visited:  # a link that leads back
            continue
        visited.add(real)
        try:
            with os.scandir(here) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            what = f"cannot be looked into ({error.strerror})"
            problems.append(Problem(here, what, "make it readable, or remove it"))
            continue
        subfolders = []
        for child in children:
            path = here / child.name
            is_image = path.suffix.lower() in _ANY_ENDING
            try:
                if child.name.startswith("."):
                    continue
                if child.is_dir():
                    subfolders.append(path)
                elif is_image and (child.is_file() or not os.path.exists(path)):
                    yield path  # a link to nothing too: whoever opens it says so
                elif is_image:
                    # Opening a FIFO or a device may wait for ever.
                    problems.append(Problem(path, "is no regular file", "remove it"))
            except OSError as error:  # such as a link in a circle
                what = f"cannot be looked at ({error.strerror})"
                problems.append(Problem(path, what, "make it readable, or remove it"))
        waiting += reversed(subfolders)


def _part(ir: dict[str, Path], vi: dict[str, Path], places: tuple[_Place, _Place]) -> None:
    """Leave a file that fits both places to the one whose pattern has more text."""
    first, second = (len(place.before + place.after + place.ending) for place in places)
    if first == second:
        return
    loose, tight = (ir, vi) if first < second else (vi, ir)
    taken = set(tight.values())
    for name in [name for name, path in loose.items() if path in taken]:
        del loose[name]
