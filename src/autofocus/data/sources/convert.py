"""`autofocus data convert`: any source, cleaned, as JSON Lines that train anywhere.

Unusable rows are left out and listed with their reasons in `dropped.jsonl`; nothing is lost in
silence. With `absolute`, coordinates in pixels become the fractions that rows must have.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from autofocus.data.images.fetch import LocateError, open_bytes
from autofocus.data.images.files import ImageFiles
from autofocus.data.images.header import read_header
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, IssueLog, short_value
from autofocus.data.rows.jsonl import Schema, write_jsonl
from autofocus.data.rows.records import ImageRecord, ObjectsRecord
from autofocus.data.rows.values import to_number
from autofocus.data.rows.wire import parse_pixels
from autofocus.data.sources.find import find_source, find_splits
from autofocus.data.sources.mltable import write_mltable
from autofocus.data.sources.read import Data, read_found
from autofocus.errors import DataError, ImageError
from autofocus.runtime import Track, no_progress, whole_file

DROPPED_NAME = "dropped.jsonl"

_EDGES = ("topX", "topY", "bottomX", "bottomY")
# The folder names of the published examples.
_MLTABLE_NAMES = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Written:
    """A split that was written.

    Attributes:
        split: "train", "validation" or "test".
        path: The JSONL file.
        num_rows: Rows that were read.
        num_records: Images that were written.
        issues: Issues of its rows.
    """

    split: str
    path: Path
    num_rows: int
    num_records: int
    issues: IssueLog


def convert_to_jsonl(
    source: str | Path,
    record_type: type[ImageRecord],
    options: ReadOptions,
    folder: Path,
    mltable: bool = False,
    absolute: bool = False,
    track: Track = no_progress,
) -> list[Written]:
    """Write a source's usable rows as `folder/train.jsonl`, and its other splits beside it.

    Image URLs become relative to `folder` where the images lie in it, else absolute paths; remote
    ones stay as they are.

    Args:
        source: Anything that `read_data` reads.
        record_type: Record type of its rows.
        options: Columns, image root and maps; `on_invalid` is taken as "skip".
        folder: Folder to write to.
        mltable: Also write an MLTable folder a split.
        absolute: Coordinates are pixels and are divided by the image's size.
        track: Progress display.

    Raises:
        DataError: If nothing in a split can be used or a file of the source would be overwritten.
    """
    if absolute and not issubclass(record_type, ObjectsRecord):
        raise DataError("--absolute is about boxes and polygons; rows of this task have none.")
    options = replace(options, on_invalid="skip")
    splits: dict[str, Path | str] = {**find_splits(source)} or {"train": source}
    found = {split: find_source(path, options, record_type) for split, path in splits.items()}
    for split, part in found.items():
        if absolute and not part.files:
            raise DataError(f"{part.place}: --absolute is about JSON Lines; leave it out.")
        _refuse_overwriting(folder / f"{split}.jsonl", [file.path for file in part.files])
    dropped = folder / DROPPED_NAME
    written = []
    with whole_file(dropped) as sink:
        for split, part in found.items():
            log = IssueLog(sink, only_errors=True)
            schema = _schema(record_type, options, absolute)
            data = read_found(part, schema, options, log, track)
            written.append(_write_split(split, data, folder, mltable))
    if not dropped.stat().st_size:
        dropped.unlink()
    return written


class AbsoluteSchema(Schema):
    """Rows whose coordinates are pixels; they are divided by the image's size, then checked.

    The size is the image file's own, or what `image_details` says where there is no file.
    """

    def __init__(self, record_type: type[ImageRecord], options: ReadOptions) -> None:
        names = (options.image_column, options.label_column, options.group_column)
        super().__init__(record_type, *names)
        # Problems with the file itself are reported when the row's image is looked for.
        self._files = ImageFiles(options, IssueLog())

    def decode_block(self, block: bytes, num_lines: int) -> list[Any] | None:
        """Return None: every row is read by hand."""
        return None

    def decode_line(self, line: bytes) -> Any | None:
        """Return None: every row is read by hand."""
        return None

    def check(
        self, row: Any, file: str, line: int | None
    ) -> tuple[ImageRecord | None, list[Issue]]:
        """Divide a parsed row's coordinates by the image's size, then check it."""
        objects = row.get(self.label_column) if isinstance(row, dict) else None
        if not isinstance(objects, list) or _are_fractions(objects):
            return super().check(row, file, line)
        size = self._size(row, file)
        if size is None:
            issue = Issue(
                file=file,
                line=line,
                path=self.image_column,
                code="image.no_size",
                severity="error",
                value=short_value(row.get(self.image_column)),
                message="must be an image that is there, or have image_details",
                hint="Without its size, pixels cannot become fractions.",
            )
            return None, [issue]
        scaled = [_scale(item, *size) for item in objects]
        return super().check({**row, self.label_column: scaled}, file, line)

    def _size(self, row: dict[str, Any], file: str) -> tuple[int, int] | None:
        """Return (height, width) in pixels, or None when nothing says it."""
        try:
            base_dir = os.path.dirname(os.path.abspath(file))
            place = self._files.locate(base_dir, str(row.get(self.image_column)))
            header = read_header(open_bytes(place))
        except (LocateError, ImageError):
            details = row.get("image_details")
            said = details if isinstance(details, dict) else {}
            height, width = (parse_pixels(str(said.get(side))) for side in ("height", "width"))
            return None if height is None or width is None else (height, width)
        return header.height, header.width


def _schema(record_type: type[ImageRecord], options: ReadOptions, absolute: bool) -> Schema:
    if absolute:
        return AbsoluteSchema(record_type, options)
    names = (options.image_column, options.label_column, options.group_column)
    return Schema(record_type, *names)


def _refuse_overwriting(target: Path, sources: list[str]) -> None:
    if any(os.path.abspath(path) == os.path.abspath(target) for path in sources):
        raise DataError(f"{target}: is the file to convert; name another folder with -o.")


def _write_split(split: str, data: Data[Any], folder: Path, mltable: bool) -> Written:
    path = folder / f"{split}.jsonl"
    num_records = write_jsonl(path, _placed(data, folder))
    if mltable:
        table = folder / f"{_MLTABLE_NAMES[split]}-mltable-folder"
        write_jsonl(table / path.name, _placed(data, table))
        write_mltable(table, path.name)
    return Written(split, path, data.num_rows, num_records, data.issues)


def _placed(data: Data[Any], folder: Path) -> Iterator[ImageRecord]:
    """Yield the records with image URLs that hold for a JSONL file in `folder`."""
    root = os.path.abspath(folder)
    for record, location in zip(data.records, data.locations, strict=True):
        # A URL that a map led to a local folder says more than that folder's path.
        is_url = "://" in record.image_url and not record.image_url.lower().startswith("file:")
        url = record.image_url if is_url else _relative(location, root)
        yield msgspec.structs.replace(record, image_url=url)


def _relative(location: str, root: str) -> str:
    if "://" in location:
        return location
    path = Path(location)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _are_fractions(objects: list[Any]) -> bool:
    """Return whether no number can be pixels; rows that are right already stay as they are."""
    numbers = [
        number
        for item in objects
        if isinstance(item, dict)
        for value in _coordinates(item)
        if (number := to_number(value)) is not None
    ]
    return all(number <= 1 for number in numbers)


def _coordinates(item: dict[str, Any]) -> Iterator[Any]:
    yield from (item[edge] for edge in _EDGES if edge in item)
    polygon = item.get("polygon")
    for ring in polygon if isinstance(polygon, list) else ():
        yield from ring if isinstance(ring, list) else ()


def _scale(item: Any, height: int, width: int) -> Any:
    """Return an object with its coordinates divided; what is no number is left for the check."""
    if not isinstance(item, dict):
        return item
    scaled = dict(item)
    for edge, side in zip(_EDGES, (width, height, width, height), strict=True):
        if edge in item:
            scaled[edge] = _divide(item[edge], side)
    polygon = item.get("polygon")
    if isinstance(polygon, list):
        scaled["polygon"] = [_scale_ring(ring, height, width) for ring in polygon]
    return scaled


def _scale_ring(ring: Any, height: int, width: int) -> Any:
    if not isinstance(ring, list):
        return ring
    return [_divide(value, height if i % 2 else width) for i, value in enumerate(ring)]


def _divide(value: Any, side: int) -> Any:
    number = to_number(value)
    return value if number is None else number / side
