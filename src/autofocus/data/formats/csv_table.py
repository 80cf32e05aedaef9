"""CSV tables of images and their classes or boxes, beside the images or their folder.

A row is an image, `filename,labels`, or an object, `filename,label,xmin,ymin,xmax,ymax` in any of
the spellings of `csv_boxes`; classes may be columns of 0 and 1.

Several labels stand in one cell, separated by the first of `,` `;` `|` that occurs in any label
cell; only where none of them occurs does a space separate, and only for the multi-label task. A
cell may also be a list, `['a', 'b']`, as Python writes it.

A table with a column of splits is its rows by split, each named like a file in it: `data.csv/val`.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.csv_boxes import (
    BoxColumns,
    TableRow,
    find_box_columns,
    read_box_rows,
)
from autofocus.data.formats.layout import (
    SPLIT_NAMES,
    SPLIT_OF,
    entries_of,
    files_by_split,
    is_image,
)
from autofocus.data.formats.object_row import finite_numbers, refuse_classes_of_images
from autofocus.data.images.header import IMAGE_SUFFIXES
from autofocus.data.images.locate import normal_form
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, short_value
from autofocus.data.rows.records import (
    DetectionRecord,
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
_IMAGE_NAMES = (
    *("image_url", "filename", "file_name", "file", "image", "path", "image_path", "image_name"),
    *("image_id", "imageid", "img", "filepath", "file_path", "url"),
)
_LABEL_NAMES = (
    *("label", "labels", "class", "classes", "category", "tags"),
    *("class_name", "label_name", "labelname", "category_name", "choice", "choices"),
)
_SPLIT_NAMES = ("split", "subset", "set", "partition", "ml_use")
_SEPARATORS = (",", ";", "|")
_FLAGS = {"0": False, "0.0": False, "false": False, "": False, "1": True, "1.0": True, "true": True}
_NUM_BOX = 4
_LIST = re.compile(r"""\[\s*(?:(?:'[^']*'|"[^"]*")[\s,]*)*\]""")
_ITEM = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_OBJECT = re.compile(r"\[?\s*\{")


class CsvTable(Format):
    """A table of images and their classes."""

    name = "csv"
    counts_pixels = True

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

    def columns(self, path: Path) -> list[str]:
        """Return the names of a table's columns."""
        file = _only_table(path)
        return next(_lines(file if _is_table(file) else file.parent), [])

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return boxes where columns hold them, else what the label cells look like.

        A `,` `;` or `|` in one says multi-label; so do words that stand both together and alone,
        and several labels of one image. Anything else with spaces may be names of two words, and
        a single 1 in each row one class: both types are returned.

        Raises:
            DataError: If it looks like a row an object, but no columns are known as a box.
        """
        table = _read_table(path, options)
        if table.boxes is not None:
            return [DetectionRecord]
        if table.lists:
            return [MultilabelRecord]
        if table.classes:
            is_one_each = all(len(names) == 1 for names in map(table.classes_of, table.entries))
            return [MulticlassRecord, MultilabelRecord] if is_one_each else [MultilabelRecord]
        cells = [entry.label for entry in table.entries]
        if any(len({entry.label for entry in rows}) > 1 for rows in table.by_image().values()):
            _refuse_unknown_boxes(table)
            return [MultilabelRecord]
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
        """Yield a row an image, in the order in which the table names them first.

        Raises:
            DataError: If the file is no such table or does not say what the task wants.
        """
        table = _read_table(path, options)
        wanted = [] if options.group_column is None else [options.group_column]
        at = _column(table.columns, wanted)
        groups = {} if at is None else {entry.line: entry.cells[at] for entry in table.entries}
        for row in _raw_rows(path, table, record_type, options):
            if isinstance(row, RawRow) and row.values is not None and row.line in groups:
                row.values["group"] = groups[row.line]
            yield row


@dataclass(frozen=True)
class _Table:
    """A table's rows.

    Attributes:
        file: The file.
        columns: Names of the columns.
        entries: Its rows.
        lost: Rows that cannot be used.
        boxes: Columns of boxes; None where a row is an image.
        classes: Columns of 0 and 1, by the class that each stands for; {} where a cell names it.
        lists: Classes by line, where cells are lists of them; {} elsewhere.
    """

    file: Path
    columns: list[str]
    entries: list[TableRow]
    lost: list[RawRow]
    boxes: BoxColumns | None = None
    classes: dict[str, int] = field(default_factory=dict)
    lists: dict[int, list[str]] = field(default_factory=dict)

    def by_image(self) -> dict[str, list[TableRow]]:
        """Return the rows of each image, in the order in which images first come."""
        found: dict[str, list[TableRow]] = {}
        for entry in self.entries:
            found.setdefault(entry.image, []).append(entry)
        return found

    def classes_of(self, entry: TableRow) -> list[str]:
        """Return the classes in a row's list, else those whose columns hold a 1."""
        if self.lists:
            return self.lists[entry.line]
        return [name for name, at in self.classes.items() if _FLAGS[_plain(entry.cells[at])]]


def _raw_rows(
    path: Path, table: _Table, record_type: type[ImageRecord], options: ReadOptions
) -> Iterator[RawRow | Issue]:
    if table.boxes is not None:
        refuse_classes_of_images(record_type, table.file)
        yield from table.lost
        images = [
            (_image_url(image, table.file.parent, options), entries)
            for image, entries in table.by_image().items()
        ]
        yield from read_box_rows(table.file, table.boxes, images, record_type, options)
        return
    if issubclass(record_type, ObjectsRecord):
        raise DataError(
            f"{path}: a CSV without columns such as xmin, ymin, xmax, ymax holds classes of "
            "images. This task needs a JSONL file."
        )
    yield from table.lost
    separator = _separator([entry.label for entry in table.entries]) or " "
    for image, entries in table.by_image().items():
        label, issues = _label_of(table, entries, record_type, separator)
        image_url = _image_url(image, table.file.parent, options)
        values = None if issues else {"image_url": image_url, "label": label}
        line = entries[0].line
        yield RawRow(str(table.file), str(table.file.parent), line, values, tuple(issues))


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
        said = {SPLIT_OF.get(cells[at].strip().lower()) for cells in lines if len(cells) > at}
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
        image_at = _column(header, (options.image_column, *_IMAGE_NAMES))
        label_at = _column(header, (options.label_column, *_LABEL_NAMES))
        if image_at is None:
            raise _no_column(header, file, "--image-column")
        table = _Table(file, header, [], [], find_box_columns(header, label_at is not None))
        for cells in _rows_of(lines, table, split):
            label = "" if label_at is None else cells[label_at].strip()
            entry = TableRow(lines.line_num, cells[image_at].strip(), label, cells)
            table.entries.append(entry)
    except csv.Error as error:
        raise DataError(f"{file}:{lines.line_num}: must be CSV: {error}.") from error
    if label_at is not None and table.boxes is None:
        table.lists.update(_lists_in(table, header[label_at]))
    if label_at is not None or table.boxes is not None:
        return table
    group_at = None if options.group_column is None else _column(header, [options.group_column])
    table.classes.update(_flag_columns(table, image_at, group_at))
    if not table.classes:
        raise _no_column(header, file, "--target-column")
    return table


def _rows_of(lines: "_csv.Reader", table: _Table, split: str | None) -> Iterator[list[str]]:
    """Yield the rows of a split, None for all, and keep in `table` those that are lost."""
    split_at = 0 if split is None else _split_column(table.columns) or 0
    for cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(table.columns):
            issue = _wrong_width(table.file, lines.line_num, cells, len(table.columns))
            table.lost.append(RawRow(str(table.file), "", lines.line_num, None, (issue,)))
            continue
        said = split if split is None else SPLIT_OF.get(cells[split_at].strip().lower())
        if said == split:
            yield cells
        elif said is None and split == "train":
            table.lost.append(_no_split(table.file, lines.line_num, cells[split_at]))


def _lists_in(table: _Table, column: str) -> dict[int, list[str]]:
    """Return the classes by line where cells are lists of them; {} where they are not.

    Raises:
        DataError: If a cell holds JSON objects, in which commas separate no classes.
    """
    for entry in table.entries:
        if _OBJECT.match(entry.label):
            raise DataError(
                f"{table.file}:{entry.line}: {column} must be a class or several, got "
                f"{short_value(entry.label)}. JSON in a cell, as Label Studio writes it, is not "
                "read as it stands. Export it as COCO or YOLO."
            )
    cells = [entry for entry in table.entries if entry.label]
    if not cells or not all(_LIST.fullmatch(entry.label) for entry in cells):
        return {}
    return {
        entry.line: [one or two for one, two in _ITEM.findall(entry.label)]
        for entry in table.entries
    }


def _flag_columns(table: _Table, *others: int | None) -> dict[str, int]:
    """Return the columns all of whose cells are 0 or 1, by name; {} where they tell nothing."""
    rows = [entry.cells for entry in table.entries]
    known = (*others, _split_column(table.columns))
    found = {
        name.strip(): at
        for at, name in enumerate(table.columns)
        if name.strip() and at not in known and all(_plain(cells[at]) in _FLAGS for cells in rows)
    }
    flags = [_FLAGS[_plain(cells[at])] for at in found.values() for cells in rows]
    # One column of nothing but ones is who labelled, or the like.
    is_constant = len(found) == 1 and len(rows) > 1 and all(flags)
    return found if any(flags) and not is_constant else {}


def _plain(cell: str) -> str:
    return cell.strip().lower()


def _refuse_unknown_boxes(table: _Table) -> None:
    """Raise DataError where images have several rows and rows as many numbers as a box has."""
    numeric = [
        name
        for at, name in enumerate(table.columns)
        if finite_numbers(entry.cells[at].strip() for entry in table.entries) is not None
    ]
    if len(numeric) >= _NUM_BOX:
        raise DataError(
            f"{table.file}: looks like a row an object, with the numbers {', '.join(numeric)}. "
            "Name the columns of boxes xmin, ymin, xmax, ymax (or x, y, width, height, or xcenter, "
            "ycenter, width, height); for the classes of whole images alone, name the task."
        )


def _label_of(
    table: _Table, entries: Sequence[TableRow], record_type: type[ImageRecord], separator: str
) -> tuple[Any, list[Issue]]:
    """Return an image's label, and the issue when its rows give it several where it has one."""
    if table.classes or table.lists:
        names = list(dict.fromkeys(n for entry in entries for n in table.classes_of(entry)))
        texts = names or [""]
        separator = "\n"  # in no name: a column is one class
    else:
        texts = list(dict.fromkeys(entry.label for entry in entries))
    labels = [record_type.label_of_text(text, separator) for text in texts]
    if all(isinstance(label, list) for label in labels):
        return list(dict.fromkeys(name for label in labels for name in label)), []
    if len(labels) == 1:
        return labels[0], []
    issue = Issue(
        file=str(table.file),
        line=entries[-1].line,
        code="csv.labels_differ",
        severity="error",
        value=short_value(texts),
        message=f"must give {entries[0].image} one class",
        hint="An image of several is for the multi-label task.",
    )
    return None, [issue]


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


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    plain = [name.strip().lower() for name in header]
    return next((plain.index(name.lower()) for name in names if name.lower() in plain), None)


def _no_column(header: Sequence[str], file: Path, flag: str) -> DataError:
    found = ", ".join(repr(short_value(name)) for name in header) or "nothing"
    return DataError(
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
    """Return `name` from the table's folder, or from `images` beside the table if it is there.

    A name without an image's end is that of the one file that has such an end.
    """
    start = options.image_root or folder
    places = [name] if options.image_root is not None else [name, f"images/{name}"]
    ends = [""] if not name or is_image(name) else ["", *sorted(IMAGE_SUFFIXES)]
    tried = (place + end for place in places for end in ends if name)
    return next((url for url in tried if (start / normal_form(url, start)).is_file()), name)
