"""Image folders: one folder a class, its images anywhere below it."""

import os
from collections.abc import Iterator
from pathlib import Path

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import is_image, walk_files
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, short_value
from autofocus.data.rows.records import ImageRecord, MulticlassRecord, ObjectsRecord
from autofocus.errors import DataError

# Folders that other formats put beside each other; none of them is a class.
_NOT_CLASSES = frozenset(
    {"images", "image", "imgs", "jpegimages", "annotations", "labels", "masks", "imagesets"}
)


class ClassFolders(Format):
    """A folder a class, with its images anywhere below it."""

    name = "folder"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a folder of class folders."""
        return path.is_dir() and any(True for _ in _class_folders(path))

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return multi-class classification."""
        return [MulticlassRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, classes and files in the order of their names.

        Raises:
            DataError: If the task wants more than a class an image.
        """
        if issubclass(record_type, ObjectsRecord):
            raise DataError(
                f"{path}: a folder a class says which class an image has, not where its "
                "objects are. This task needs a JSONL file."
            )
        for stray in walk_files(path, recursive=False):
            if is_image(stray.name):
                yield _issue(
                    path, stray, "image.no_class", "must be in a class's folder", "Ignored."
                )
        for folder in _class_folders(path):
            for file in walk_files(folder):
                if not is_image(file.name):
                    yield _issue(
                        path,
                        file,
                        "file.no_image",
                        "should be an image",
                        "Its name has no image's end.",
                    )
                    continue
                label = record_type.label_of_text(folder.name, None)
                values = {"image_url": file.relative_to(path).as_posix(), "label": label}
                yield RawRow(str(path), str(path), None, values)


def _class_folders(path: Path) -> Iterator[Path]:
    """Yield the subfolders that have an image somewhere below them."""
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for name in names:
        if name.startswith(".") or name.lower() in _NOT_CLASSES:
            continue
        if any(is_image(file.name) for file in walk_files(path / name)):
            yield path / name


def _issue(root: Path, file: Path, code: str, message: str, hint: str) -> Issue:
    return Issue(
        file=str(root),
        code=code,
        severity="warning",
        value=short_value(file.relative_to(root).as_posix()),
        message=message,
        hint=hint,
    )
