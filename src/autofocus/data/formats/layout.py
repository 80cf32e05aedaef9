"""Layouts that formats share: names of splits, image files, folders that mirror each other."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from autofocus.data.images.header import IMAGE_SUFFIXES
from autofocus.errors import DataError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}

SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}

# Photos of cameras, phones and clinics that are not read.
_UNREAD_SUFFIXES = frozenset(
    {
        *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
        *(".dcm", ".dicom"),
    }
)

_WORD = re.compile("[a-z]+")

# What systems leave beside data, besides hidden files: .DS_Store, ._a.jpg, .ipynb_checkpoints.
_LITTER = frozenset(
    {
        *("thumbs.db", "desktop.ini", "@eadir", "#recycle", "@recycle", "$recycle.bin"),
        *("__macosx", "lost+found", "system volume information"),
    }
)


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
    return {entry.name.lower(): entry for entry in entries_of(folder)}


def entries_of(folder: Path) -> list[Path]:
    """Return a folder's entries in the order of their names, litter left out; [] without one."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [folder / name for name in names if not _is_litter(name)]


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def is_image(name: str) -> bool:
    """Return whether a file's name has an image's end."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_unread_photo(name: str) -> bool:
    """Return whether a file's name has the end of a photo that is not read."""
    return os.path.splitext(name)[1].lower() in _UNREAD_SUFFIXES


def walk_files(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """Yield a folder's files in the order of their names, litter left out.

    Links to folders are followed, but not into a folder that they lie in.
    """
    real_above: dict[str, tuple[str, ...]] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        above = (*real_above.pop(parent, ()), os.path.realpath(parent))
        inner = {name: os.path.join(parent, name) for name in sorted(folders)}
        folders[:] = [
            name
            for name, path in inner.items()
            if recursive and not _is_litter(name) and not _is_loop(path, above)
        ]
        real_above.update((inner[name], above) for name in folders)
        for name in sorted(names):
            if not _is_litter(name):
                yield Path(parent, name)


def _is_loop(path: str, above: Collection[str]) -> bool:
    return os.path.islink(path) and os.path.realpath(path) in above


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
    """Return an image's URL: relative to `root` where it lies in it, else absolute.

    A link that leads out of `root` was laid by whoever put the folder together: unlike a row's,
    it is trusted, which an absolute URL says.
    """
    absolute, start = os.path.abspath(file), os.path.abspath(root).rstrip(os.sep) + os.sep
    if not absolute.startswith(start) or _leads_out(absolute, start):
        return absolute
    return Path(absolute[len(start) :]).as_posix()


def _leads_out(path: str, start: str) -> bool:
    inner = path[len(start) :].split(os.sep)
    if not any(os.path.islink(start + os.sep.join(inner[: at + 1])) for at in range(len(inner))):
        return False
    return not os.path.realpath(path).startswith(os.path.realpath(start).rstrip(os.sep) + os.sep)
