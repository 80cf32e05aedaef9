"""COCO: one JSON file with `images`, `annotations` and `categories`, or several, one a split."""

import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import split_in_name
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue
from autofocus.data.rows.records import DetectionRecord, ImageRecord, InstanceSegmentationRecord
from autofocus.errors import DataError

_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_OUTLINE = re.compile(rb'"segmentation"\s*:\s*(\[\s*\[|\{)')


class Coco(Format):
    """COCO: `images`, `annotations` and `categories` in one JSON file, or in one a split."""

    name = "coco"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a COCO file or a folder with one, there or in `annotations`."""
        return bool(_files(path)) if path.is_dir() else _is_coco(path)

    def splits(self, path: Path) -> dict[str, Path]:
        """Return a folder's files by the splits that their names speak of.

        Raises:
            DataError: If two files speak of one split.
        """
        found: dict[str, Path] = {}
        for file in _files(path) if path.is_dir() else ():
            split = split_in_name(file.stem)
            if split in found:
                raise DataError(
                    f"{path}: {found[split]} and {file} are both of the split {split!r}; name one."
                )
            if split is not None:
                found[split] = file
        return found if "train" in found else {}

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return boxes alone where no object has an outline, else both."""
        with open(_only_file(path), "rb") as stream, _mapped(stream.fileno()) as data:
            has_outlines = _OUTLINE.search(data) is not None
        return [DetectionRecord, InstanceSegmentationRecord] if has_outlines else [DetectionRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, in the order of the file; one without annotations is a negative.

        Raises:
            DataError: If there are several files, the file is no COCO, or two classes share a name.
        """
        # The reader takes numpy with it: `data check` of plain rows starts without.
        from autofocus.data.formats.coco_rows import read_file

        return read_file(_only_file(path), record_type, options)


def _only_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = _files(path)
    if len(files) > 1:
        names = ", ".join(str(file) for file in files)
        raise DataError(f"{path}: has several COCO files ({names}); name one of them.")
    return files[0]


def _files(folder: Path) -> Sequence[Path]:
    """Return the COCO files of a folder; those called `instances` leave out keypoints and stuff."""
    places = (folder, folder / "annotations")
    names = sorted(file for place in places if place.is_dir() for file in place.glob("*.json"))
    instances = [file for file in names if file.stem.lower().startswith("instances")]
    return [file for file in instances or names if _is_coco(file)]


def _is_coco(file: Path) -> bool:
    if file.suffix.lower() != ".json" or not file.is_file() or not file.stat().st_size:
        return False
    with open(file, "rb") as stream, _mapped(stream.fileno()) as data:
        return all(data.find(key) >= 0 for key in _KEYS)


def _mapped(handle: int) -> mmap.mmap:
    return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
