"""Hugging Face's image folders: `metadata.jsonl`, a row a file with `file_name` and its label.

Objects stand in `objects` as columns: `bbox`, of `[x, y, width, height]` in pixels, and the class
of each. Files in folders called as splits are in these; each is named like a file in the rows:
`metadata.jsonl/test`.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import SPLIT_NAMES, SPLIT_OF
from autofocus.data.formats.object_row import ObjectRow, finite_numbers, refuse_classes_of_images
from autofocus.data.formats.pixels import (
    ImageSizes,
    are_fractions,
    fractions_read,
    image_details,
)
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues, short_value
from autofocus.data.rows.records import (
    DetectionRecord,
    ImageRecord,
    MulticlassRecord,
    MultilabelRecord,
    ObjectsRecord,
)
from autofocus.errors import DataError

_FILE_NAME = "metadata.jsonl"
_LABEL_KEYS = ("label", "labels", "class", "category")
_CLASS_KEYS = ("categories", "category", "labels", "label", "class")
_NUM_PEEKED = 200


class ImageFolder(Format):
    """Images with `metadata.jsonl` beside them."""

    name = "imagefolder"
    counts_pixels = True

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is such a file, a split of one, or a folder with one."""
        file = _file(path)
        if not file.is_file():
            return False
        return any("file_name" in row for _, row in islice(_rows(file), 1) if row is not None)

    def splits(self, path: Path) -> dict[str, Path]:
        """Return the splits that files lie in by the names of their folders."""
        file = _file(path)
        return {} if path.parent == file or not self.is_source(path) else _splits_in(file)

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return detection where rows have objects, else what the labels look like."""
        for _, row in islice(_rows_of(path), _NUM_PEEKED):
            if row is not None and isinstance(row.get("objects"), dict):
                return [DetectionRecord]
            label = None if row is None else _label(row, options)
            fitting = [t for t in (MulticlassRecord, MultilabelRecord) if t.fits(label)]
            if fitting:
                return [*fitting]
        return []

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row a line.

        Raises:
            DataError: If the task wants objects and there are none, or one class and there are.
        """
        file = _file(path)
        rows = list(_rows_of(path))
        for number, row in rows:
            if row is None:
                yield _no_row(file, number)
        sound = [(number, row) for number, row in rows if row is not None]
        if any(isinstance(row.get("objects"), dict) for _, row in sound):
            refuse_classes_of_images(record_type, file)
            yield from _read_objects(file, sound, record_type, options)
            return
        if issubclass(record_type, ObjectsRecord):
            raise DataError(f"{file}: has no column 'objects'. Name another task with --task.")
        for number, row in sound:
            values = {"image_url": row.get("file_name"), "label": _label(row, options)}
            yield RawRow(str(file), str(file.parent), number, values)


def _file(path: Path) -> Path:
    if path.is_dir():
        return path / _FILE_NAME
    return path if path.name == _FILE_NAME or path.name not in SPLIT_NAMES else path.parent


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the lines' numbers and their rows, None for what is no row."""
    if file.name != _FILE_NAME:
        return
    with open(file, encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, row if isinstance(row, dict) else None


def _rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the rows of a split; of a whole that has splits those to train on."""
    file = _file(path)
    split = path.name if path.parent == file else next(iter(_splits_in(file)), None)
    for number, row in _rows(file):
        if split is None or row is None or _split_of(row) == split:
            yield number, row


def _splits_in(file: Path) -> dict[str, Path]:
    found = {_split_of(row) for _, row in _rows(file) if row is not None}
    return {split: file / split for split in SPLIT_NAMES if split in found and "train" in found}


def _split_of(row: Mapping[str, Any]) -> str | None:
    return SPLIT_OF.get(str(row.get("file_name")).partition("/")[0].lower())


def _label(row: Mapping[str, Any], options: ReadOptions) -> Any:
    names = (options.label_column, *_LABEL_KEYS)
    return next((row[name] for name in names if name in row), None)


def _read_objects(
    file: Path,
    rows: list[tuple[int, dict[str, Any]]],
    record_type: type[ImageRecord],
    options: ReadOptions,
) -> Iterator[RawRow | Issue]:
    numbers = (
        number for _, row in rows for box, _ in _objects(row) for number in _numbers(box) or ()
    )
    in_fractions = are_fractions(numbers, options)
    if in_fractions and options.coordinates is None:
        yield fractions_read(file)
    sizes = ImageSizes(options)
    for line, item in rows:
        image_url = str(item.get("file_name") or "")
        issues = RowIssues(str(file), line)
        pixels = sizes.find(file.parent, image_url, None, "file_name", issues)
        if pixels is None:
            yield RawRow(str(file), str(file.parent), line, None, tuple(issues.issues))
            continue
        row = ObjectRow(record_type, str(file), pixels.as_fractions() if in_fractions else pixels)
        row.issues.line = line
        for i, (box, name) in enumerate(_objects(item)):
            _read_object(box, name, f"objects.bbox[{i}]", row)
        details = image_details(image_url, pixels.upright_size)
        yield row.finish(file.parent, image_url, details)


def _objects(row: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return the boxes and classes of a row; None for a class that is not there."""
    objects = row.get("objects")
    if not isinstance(objects, dict):
        return []
    boxes = objects.get("bbox")
    classes = next((objects[key] for key in _CLASS_KEYS if key in objects), None)
    boxes, classes = (given if isinstance(given, list) else [] for given in (boxes, classes))
    return [(box, classes[i] if i < len(classes) else None) for i, box in enumerate(boxes)]


def _numbers(box: Any) -> list[float] | None:
    return finite_numbers(box) if isinstance(box, list) and len(box) == 4 else None


def _read_object(box: Any, name: Any, path: str, row: ObjectRow) -> None:
    numbers = _numbers(box)
    if not isinstance(name, str | int) or name == "":
        row.lose("label.missing", path, "must have a class", short_value(name))
    elif numbers is None:
        rule = "must be four finite numbers [x, y, width, height]"
        row.lose("coordinate.type", path, rule, short_value(box))
    else:
        x, y, width, height = numbers
        row.add_box(path, str(name), (x, y, x + width, y + height), short_value(box))


def _no_row(file: Path, line: int) -> Issue:
    return Issue(
        file=str(file),
        line=line,
        code="json.invalid",
        severity="error",
        message="must be a JSON object with file_name",
    )
