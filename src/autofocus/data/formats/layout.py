"""Layouts that formats share: names of splits, image files, folders that mirror each other."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from autofocus.data.images.header import IMAGE_SUFFIXES
from autofocus.errors import DataError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}

_WORD = re.compile("[a-z]+")


def split_in_name(name: str) -> str | None:
    """Return the split in a name such as `instances_train2017`, or None."""
    words = set(_WORD.findall(name.lower()))
    return next((split for split, names in SPLIT_NAMES.items() if words & {*names}), None)


def files_by_split(folder: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Return a folder's files by the splits that their names speak of; {} without training.

    Raises:
        DataError: If two files speak of one split.
    """
    found: dict[str, Path] = {}
    for file in files:
        split = split_in_name(file.stem)
        if split in found:
            raise DataError(
                f"{folder}: {found[split]} and {file} are both of the split {split!r}; name one."
            )
        if split is not None:
            found[split] = file
    return found if "train" in found else {}


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the subfolders named as splits; {} without one for training."""
    entries = entries_by_name(folder)
    found = {
        split: entries[name]
        for split, names in SPLIT_NAMES.items()
        for name in reversed(names)
        if name in entries and entries[name].is_dir()
    }
    return found if "train" in found else {}


def entries_by_name(folder: Path) -> dict[str, Path]:
    """Return a folder's entries by name in lower case; of two the one spelled so wins."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return {name.lower(): folder / name for name in names}


def is_image(name: str) -> bool:
    """Return whether a file's name has an image's end."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def walk_files(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """Yield a folder's files in the order of their names, hidden ones left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(names):
            # .DS_Store, Thumbs.db and the like are nobody's data.
            if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                yield Path(parent, name)


def walk_images(folder: Path) -> Iterator[Path]:
    """Yield the images anywhere below a folder in the order of their names."""
    return (file for file in walk_files(folder) if is_image(file.name))


def mirrored(folder: Path, name: str) -> Path | None:
    """Return the folder that mirrors an image folder, or None.

    `x/images/train` is mirrored by `x/labels/train` for the name "labels".
    """
    parts = folder.parts
    for at in range(len(parts) - 1, -1, -1):
        if parts[at].lower() == "images":
            other = Path(*parts[:at], name, *parts[at + 1 :])
            return other if other.is_dir() else None
    return None


def relative_url(file: Path, root: Path) -> str:
    """Return an image's URL: relative to `root` where it lies in it, else absolute."""
    absolute, start = os.path.abspath(file), os.path.abspath(root)
    if absolute.startswith(start.rstrip(os.sep) + os.sep):
        return Path(os.path.relpath(absolute, start)).as_posix()
    return absolute
