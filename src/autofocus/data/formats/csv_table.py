"""CSV tables of images and their classes: `filename,labels`, beside the images or their folder.

Several labels stand in one cell, separated by the first of `,` `;` `|` that occurs in any label
cell; only where none of them occurs does a space separate, and only for the multi-label task.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, short_value
from autofocus.data.rows.records import (
    ImageRecord,
    MulticlassRecord,
    MultilabelRecord,
    ObjectsRecord,
)
from autofocus.data.rows.text import name_binary, sniff_encoding
from autofocus.errors import DataError

_SUFFIXES = (".csv", ".tsv")
_IMAGE_NAMES = ("image_url", "filename", "file_name", "file", "image", "path", "image_path")
_LABEL_NAMES = ("label", "labels", "class", "classes", "category", "tags")
_SEPARATORS = (",", ";", "|")
# As exports of TensorFlow's object detection have them, with a row an object.
_BOX_NAMES = {"xmin", "ymin", "xmax", "ymax"}


class CsvTable(Format):
    """A table of images and their classes."""

    name = "csv"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a table or a folder with exactly one."""
        if path.is_file():
            return path.suffix.lower() in _SUFFIXES
        return path.is_dir() and len(_tables(path)) == 1

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return the record types that the label cells look like.

        A `,` `;` or `|` in one says multi-label; so do words that stand both together and alone.
        Anything else with spaces may be names of two words: both types are returned.

        Raises:
            DataError: If the columns say that there is a row an object.
        """
        table = _read_table(path, options)
        columns = {name.strip().lower() for name in table.columns}
        if columns >= _BOX_NAMES:
            raise DataError(
                f"{table.file}: has columns of boxes ({', '.join(sorted(_BOX_NAMES))}), of which a "
                "CSV is not read. Export the data as COCO, VOC or YOLO; for the classes of whole "
                "images alone, name the task."
            )
        cells = [entry.label for entry in table.entries]
        if _separator(cells) is not None:
            return [MultilabelRecord]
        with_spaces = [cell.split() for cell in cells if " " in cell]
        if not with_spaces and all(cells):
            return [MulticlassRecord]
        alone = set(cells)
        if with_spaces and all(word in alone for words in with_spaces for word in words):
            return [MultilabelRecord]
        return [MulticlassRecord, MultilabelRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row a line of the table.

        Raises:
            DataError: If the file is no such table or the task wants more than classes.
        """
        if issubclass(record_type, ObjectsRecord):
            raise DataError(f"{path}: a CSV holds classes of images. This task needs a JSONL file.")
        table = _read_table(path, options)
        yield from table.lost
        separator = _separator([entry.label for entry in table.entries]) or " "
        for entry in table.entries:
            label = record_type.label_of_text(entry.label, separator)
            image_url = _image_url(entry.image, table.file.parent, options)
            yield RawRow(
                str(table.file),
                str(table.file.parent),
                entry.line,
                {"image_url": image_url, "label": label},
            )


@dataclass(frozen=True)
class _Entry:
    line: int
    image: str
    label: str


@dataclass(frozen=True)
class _Table:
    file: Path
    columns: list[str]
    entries: list[_Entry]
    lost: list[RawRow]


def _tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)


def _read_table(path: Path, options: ReadOptions) -> _Table:
    file = _tables(path)[0] if path.is_dir() else path
    lines = csv.reader(
        io.StringIO(text := _read_text(file), newline=""), delimiter=_delimiter(text)
    )
    try:
        header = next(lines, [])
        table = _Table(file, header, [], [])
        image_at = _column(header, (options.image_column, *_IMAGE_NAMES), file, "--image-column")
        label_at = _column(header, (options.label_column, *_LABEL_NAMES), file, "--target-column")
        for cells in lines:
            if not any(cells):
                continue
            if len(cells) != len(header):
                issue = _wrong_width(file, lines.line_num, cells, len(header))
                table.lost.append(RawRow(str(file), "", lines.line_num, None, (issue,)))
                continue
            image, label = cells[image_at].strip(), cells[label_at].strip()
            table.entries.append(_Entry(lines.line_num, image, label))
    except csv.Error as error:
        raise DataError(f"{file}:{lines.line_num}: must be CSV: {error}.") from error
    return table


def _read_text(file: Path) -> str:
    data = file.read_bytes()
    if what := name_binary(data):
        raise DataError(f"{file}: must be CSV, but is {what}.")
    try:
        return data.decode(sniff_encoding(data) or "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}:{line}: must be UTF-8; save it again as UTF-8.") from error


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max((",", ";", "\t"), key=header.count)


def _column(header: Sequence[str], names: Sequence[str], file: Path, flag: str) -> int:
    plain = [name.strip().lower() for name in header]
    for name in names:
        if name.lower() in plain:
            return plain.index(name.lower())
    found = ", ".join(repr(short_value(name)) for name in header) or "nothing"
    raise DataError(
        f"{file}:1: must begin with column names such as filename,labels; found {found}. "
        f"Name the column with {flag}."
    )


def _wrong_width(file: Path, line: int, cells: Sequence[str], width: int) -> Issue:
    return Issue(
        file=str(file),
        line=line,
        code="csv.columns",
        severity="error",
        value=short_value(list(cells)),
        message=f"must have {width} cells",
        hint="A cell with the separator in it needs double quotes.",
    )


def _separator(cells: Sequence[str]) -> str | None:
    return next((mark for mark in _SEPARATORS if any(mark in cell for cell in cells)), None)


def _image_url(name: str, folder: Path, options: ReadOptions) -> str:
    """Return `name` from the table's folder, or from `images` beside the table if it is there."""
    if options.image_root is None and not (folder / name).is_file():
        inner = f"images/{name}"
        if name and (folder / inner).is_file():
            return inner
    return name
