"""Tables with a row an object: the columns in which tools write boxes, and the numbers in them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from autofocus.data.formats.base import RawRow
from autofocus.data.formats.object_row import ObjectRow, finite_numbers
from autofocus.data.formats.pixels import (
    ImageSizes,
    LabelledPixels,
    are_fractions,
    fractions_read,
    image_details,
)
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues
from autofocus.data.rows.records import ImageRecord
from autofocus.errors import DataError

Corners = tuple[float, float, float, float]
Form = Literal["corners", "size", "centre", "list"]

_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("minx", "miny", "maxx", "maxy"),
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("topx", "topy", "bottomx", "bottomy"),
    ("xtl", "ytl", "xbr", "ybr"),
    ("startx", "starty", "endx", "endy"),
)
_PLACES = {
    "centre": (
        *(("xcenter", "ycenter"), ("xcentre", "ycentre"), ("centerx", "centery")),
        *(("centrex", "centrey"), ("cx", "cy"), ("xc", "yc"), ("xmid", "ymid")),
    ),
    "size": (
        *(("x", "y"), ("left", "top"), ("xmin", "ymin"), ("minx", "miny"), ("topx", "topy")),
        *(("x1", "y1"), ("x0", "y0")),
    ),
}
_SIZES = (("w", "h"), ("width", "height"))
_LISTS = ("bbox", "boundingbox", "box")
_PREFIXES = ("bbox", "box", "bb", "boundingbox", "")
_IMAGE_SIZES = (("imageheight", "imagewidth"), ("imgheight", "imgwidth"), ("height", "width"))
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[^\s,;\[\]()]+")


@dataclass(frozen=True)
class BoxColumns:
    """The columns of a table that say where objects are.

    Attributes:
        form: What their numbers are: corners, or the upper left corner or the centre and a size;
            "list" is a cell of four numbers, of which the values tell.
        at: Their places in a row.
        has_names: Whether another column names the class.
        size_at: Places of the image's (height, width); None without such columns.
    """

    form: Form
    at: tuple[int, ...]
    has_names: bool
    size_at: tuple[int, int] | None = None

    def given(self, cells: Sequence[str]) -> str:
        """Return the box as the row spells it, for messages; empty where the row has none."""
        return ", ".join(text for index in self.at if (text := cells[index].strip()))

    def numbers(self, cells: Sequence[str]) -> list[float] | None:
        """Return a row's four numbers, or None when they are not."""
        texts = [cells[index].strip() for index in self.at]
        if self.form == "list":
            texts = _NUMBER.findall(texts[0])
        numbers = finite_numbers(texts)
        return numbers if numbers is not None and len(numbers) == 4 else None

    def image_size(self, cells: Sequence[str]) -> tuple[int, int] | None:
        """Return the image's (height, width) in pixels as the row says it, or None."""
        numbers = finite_numbers([cells[index].strip() for index in self.size_at or ()])
        if not numbers or min(numbers) < 1:
            return None
        return int(numbers[0]), int(numbers[1])


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        line: Its line in the file.
        image: The image as the row names it.
        label: What its label column holds; empty without one.
        cells: All its cells.
    """

    line: int
    image: str
    label: str
    cells: Sequence[str]


def find_box_columns(header: Sequence[str], has_names: bool) -> BoxColumns | None:
    """Return the columns of boxes by their names, or None where there are none."""
    at = {_plain(name): index for index, name in reversed([*enumerate(header)])}

    def places(names: Iterable[str]) -> tuple[int, ...] | None:
        found = [
            next((at[prefix + name] for prefix in _PREFIXES if prefix + name in at), None)
            for name in names
        ]
        known = tuple(index for index in found if index is not None)
        return known if len(known) == len(found) else None

    for form, names in _spellings():
        if box := places(names):
            sizes = (tuple(at.get(name, -1) for name in pair) for pair in _IMAGE_SIZES)
            size_at = next(((h, w) for h, w in sizes if min(h, w) >= 0 and h not in box), None)
            return BoxColumns(form, box, has_names, size_at)
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _spellings() -> Iterator[tuple[Form, Sequence[str]]]:
    """Yield forms and names of their columns; of a table that has several the first counts."""
    for corners in _CORNERS:
        yield "corners", corners
    for place, size in product(_PLACES["centre"], _SIZES):
        yield "centre", (*place, *size)
    for place, size in product(_PLACES["size"], _SIZES):
        yield "size", (*place, *size)
    for name in _LISTS:
        yield "list", (name,)


def read_box_rows(
    file: Path,
    columns: BoxColumns,
    images: Sequence[tuple[str, Sequence[TableRow]]],
    record_type: type[ImageRecord],
    options: ReadOptions,
) -> Iterator[RawRow | Issue]:
    """Yield a row an image; an image whose only row has no box is a negative.

    Args:
        file: The table.
        columns: Its columns of boxes.
        images: `image_url` of each image, and the image's rows.
        record_type: Record type of the rows.
        options: Image root, maps, what coordinates are, and the class where no column names it.

    Raises:
        DataError: If the task wants outlines, or nothing tells what lists of four numbers are.
    """
    if record_type.object_shape == "outline":
        raise DataError(f"{file}: a table holds boxes; this task wants outlines.")
    numbers = (columns.numbers(row.cells) for _, rows in images for row in rows)
    in_fractions = are_fractions((n for four in numbers if four for n in four), options)
    if in_fractions and options.coordinates is None:
        yield fractions_read(file)
    sizes = ImageSizes(options)
    issues_of = [RowIssues(str(file), rows[0].line) for _, rows in images]
    pixels_of = [
        sizes.find(file.parent, url, columns.image_size(rows[0].cells), "image", issues)
        for (url, rows), issues in zip(images, issues_of, strict=True)
    ]
    counted_on = [p.as_fractions() if p is not None and in_fractions else p for p in pixels_of]
    form = _form(file, columns, images, counted_on)
    for (url, rows), upright, pixels, issues in zip(
        images, pixels_of, counted_on, issues_of, strict=True
    ):
        if upright is None or pixels is None:
            yield RawRow(str(file), str(file.parent), rows[0].line, None, tuple(issues.issues))
            continue
        image = ObjectRow(record_type, str(file), pixels)
        image.issues.issues += issues.issues
        for row in rows:
            _read_row(row, columns, form, image, options.class_name)
        done = image.finish(file.parent, url, image_details(url, upright.upright_size))
        yield replace(done, line=rows[0].line)


def _read_row(
    row: TableRow, columns: BoxColumns, form: Form, image: ObjectRow, class_name: str
) -> None:
    image.issues.line = row.line
    given = columns.given(row.cells)
    if not given:
        return
    numbers = columns.numbers(row.cells)
    name = row.label if columns.has_names else class_name
    if numbers is None:
        image.lose("coordinate.type", "box", "must be four finite numbers", given)
    elif not name:
        image.lose("label.missing", "label", "is missing")
    else:
        image.add_box("box", name, corners_of(form, numbers), given)


def _form(
    file: Path,
    columns: BoxColumns,
    images: Sequence[tuple[str, Sequence[TableRow]]],
    pixels_of: Sequence[LabelledPixels | None],
) -> Form:
    if columns.form != "list":
        return columns.form
    boxes = [
        (numbers, None if pixels is None else pixels.size)
        for (_, rows), pixels in zip(images, pixels_of, strict=True)
        for row in rows
        if (numbers := columns.numbers(row.cells)) is not None
    ]
    form = form_of_lists(boxes)
    if form is None and boxes:
        raise DataError(
            f"{file}: its lists of four numbers may be left, top, right, bottom or left, top, "
            "width, height: both fit every image. Put them into four columns of these names."
        )
    return form or "corners"


def corners_of(form: Form, numbers: Sequence[float]) -> Corners:
    """Return left, top, right, bottom of four numbers."""
    x, y, width, height = numbers
    if form == "size":
        return x, y, x + width, y + height
    if form == "centre":
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return x, y, width, height


def form_of_lists(
    boxes: Sequence[tuple[Sequence[float], tuple[float, float] | None]],
) -> Form | None:
    """Return whether lists are corners or a corner and a size, None where nothing tells.

    Args:
        boxes: Four numbers and the image's (height, width) in their units, None if not known.
    """
    # A box that ends before it begins is a size; one that a size takes out of the image, corners.
    if any(b[2] <= b[0] or b[3] <= b[1] for b, _ in boxes):
        return "size"
    for (x, y, width, height), size in boxes:
        if size is not None and (x + width > size[1] * 1.01 or y + height > size[0] * 1.01):
            return "corners"
    return None
