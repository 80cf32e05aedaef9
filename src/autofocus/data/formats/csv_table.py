"""CSV tables of images and their classes: `filename,labels`, beside the images or their folder.

Several labels stand in one cell, separated by the first of `,` `;` `|` that occurs in any label
cell; only where none of them occurs does a space separate, and only for the multi-label task.

A table with a column of splits is its rows by split, each named like a file in it: `data.csv/val`.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import SPLIT_NAMES, entries_of, files_by_split
from autofocus.data.images.locate import normal_form
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

if TYPE_CHECKING:
    import _csv

_SUFFIXES = (".csv", ".tsv")
_IMAGE_NAMES = ("image_url", "filename", "file_name", "file", "image", "path", "image_path")
_LABEL_NAMES = ("label", "labels", "class", "classes", "category", "tags")
_SPLIT_NAMES = ("split", "subset", "set", "partition", "ml_use")
_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_SEPARATORS = (",", ";", "|")
# As exports of TensorFlow's object detection have them, with a row an object.
_BOX_NAMES = {"xmin", "ymin", "xmax", "ymax"}


class CsvTable(Format):
    """A table of images and their classes."""

    name = "csv"

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a table, a split of one, or a folder with tables."""
        if path.is_dir():
            return bool(_tables(path))
        return _is_table(path) or (_is_table(path.parent) and path.name in SPLIT_NAMES)

    def splits(self, path: Path) -> dict[str, Path]:
        """Return the splits that a table's column says, else a folder's tables called as splits.

        Raises:
            DataError: If a table is no text.
        """
        tables = _tables(path) if path.is_dir() else [path] if _is_table(path) else []
        if len(tables) == 1:
            return _splits_said(tables[0])
        try:
            return files_by_split(path, tables)
        except DataError:  # what lies beside may be the data; reading tables asks which is meant
            return {}

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
    return [file for file in entries_of(folder) if _is_table(file)]


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def _only_table(path: Path) -> Path:
    if not path.is_dir():
        return path
    tables = _tables(path)
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise DataError(f"{path}: has several tables ({names}); name one of them.")
    return tables[0]


def _splits_said(file: Path) -> dict[str, Path]:
    """Return the splits that the rows of a table are in; {} where no column says it."""
    lines = _lines(file)
    at = _split_column(next(lines, []))
    if at is None:
        return {}
    try:
        said = {_SPLITS.get(cells[at].strip().lower()) for cells in lines if len(cells) > at}
    except csv.Error:  # reading says where
        return {}
    return (
        {split: file / split for split in SPLIT_NAMES if split in said} if "train" in said else {}
    )


def _split_column(header: Sequence[str]) -> int | None:
    plain = [name.strip().lower() for name in header]
    return next((plain.index(name) for name in _SPLIT_NAMES if name in plain), None)


def _read_table(path: Path, options: ReadOptions) -> _Table:
    file = _only_table(path)
    split: str | None
    if _is_table(file.parent):
        file, split = file.parent, file.name
    else:
        # As elsewhere, a whole that has splits is what to train on.
        split = next(iter(_splits_said(file)), None)
    lines = _lines(file)
    try:
        header: list[str] = next(lines, [])
        table = _Table(file, header, [], [])
        image_at = _column(header, (options.image_column, *_IMAGE_NAMES), file, "--image-column")
        label_at = _column(header, (options.label_column, *_LABEL_NAMES), file, "--target-column")
        split_at = 0 if split is None else _split_column(header) or 0
        for cells in lines:
            if not any(cells):
                continue
            if len(cells) != len(header):
                issue = _wrong_width(file, lines.line_num, cells, len(header))
                table.lost.append(RawRow(str(file), "", lines.line_num, None, (issue,)))
                continue
            if (
                split is not None
                and (said := _SPLITS.get(cells[split_at].strip().lower())) != split
            ):
                if said is None and split == "train":
                    table.lost.append(_no_split(file, lines.line_num, cells[split_at]))
                continue
            image, label = cells[image_at].strip(), cells[label_at].strip()
            table.entries.append(_Entry(lines.line_num, image, label))
    except csv.Error as error:
        raise DataError(f"{file}:{lines.line_num}: must be CSV: {error}.") from error
    return table


def _lines(file: Path) -> "_csv.Reader":
    text = _read_text(file)
    return csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))


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


def _no_split(file: Path, line: int, said: str) -> RawRow:
    issue = Issue(
        file=str(file),
        line=line,
        code="csv.split",
        severity="error",
        value=short_value(said),
        message="must be train, validation or test",
        hint="The row takes part in nothing.",
    )
    return RawRow(str(file), "", line, None, (issue,))


def _separator(cells: Sequence[str]) -> str | None:
    return next((mark for mark in _SEPARATORS if any(mark in cell for cell in cells)), None)


def _image_url(name: str, folder: Path, options: ReadOptions) -> str:
    """Return `name` from the table's folder, or from `images` beside the table if it is there."""
    if options.image_root is None and not (folder / normal_form(name, folder)).is_file():
        inner = f"images/{name}"
        if name and (folder / normal_form(inner, folder)).is_file():
            return inner
    return name
