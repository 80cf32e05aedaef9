"""The rows of YOLO's label files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from autofocus.data.formats.base import RawRow
from autofocus.data.formats.image_sizes import ImageSizes, image_details
from autofocus.data.formats.layout import is_image, mirrored, place, walk_files
from autofocus.data.formats.object_row import ObjectRow, finite_numbers, refuse_classes_of_images
from autofocus.data.formats.yolo import Layout, images_of, label_file
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues, Severity, shown
from autofocus.data.rows.records import ImageRecord
from autofocus.errors import DataError

_BOX_NUMBERS = 5
_HOW_NAMED = "Name the classes in data.yaml, or in classes.txt, one a line."


def read_layout(
    layout: Layout, record_type: type[ImageRecord], options: ReadOptions
) -> Iterator[RawRow | Issue]:
    """Yield a row an image; one with an empty label file, or none, is a negative.

    Raises:
        DataError: If no image has a label file: then they lie elsewhere.
    """
    refuse_classes_of_images(record_type, layout.place)
    images = list(images_of(layout))
    labels = [label_file(image) for image in images]
    if images and not any(file.is_file() for file in labels):
        raise DataError(
            f"{layout.place}: none of {len(images)} images has a label file; the first was looked "
            f"for at {labels[0]}. Labels lie in 'labels' beside 'images', or beside each image."
        )
    if not layout.names:
        yield _issue(layout.place, "class.no_names", "warning", "has no class names", _HOW_NAMED)
    sizes = ImageSizes(options)
    for image, file in zip(images, labels, strict=True):
        yield _read_image(image, file, layout, record_type, sizes)
    yield from _labels_without_image(layout, {*labels})


def _read_image(
    image: Path, file: Path, layout: Layout, record_type: type[ImageRecord], sizes: ImageSizes
) -> RawRow:
    image_url = place(image, layout.root)
    header = sizes.header(layout.root, image_url)
    size = None if header is None else image_details(image_url, (header.height, header.width))
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        row = ObjectRow(record_type, str(file))
        hint = "The image is taken as one without objects."
        row.issues.info("labels.missing", "", "is not there", hint=hint)
        return row.finish(layout.root, image_url, size)
    except (OSError, UnicodeDecodeError) as error:
        issues = RowIssues(str(file), None)
        issues.error("labels.unreadable", "", f"must be text: {error}")
        return RawRow(str(file), str(layout.root), None, None, tuple(issues.issues))
    row = ObjectRow(record_type, str(file))
    for number, line in enumerate(lines, 1):
        if line.strip():
            row.issues.line = number
            words = line.split()
            _read_line(words[:_BOX_NUMBERS] if layout.has_key_points else words, layout.names, row)
    row.issues.line = None
    return row.finish(layout.root, image_url, size)


def _read_line(words: list[str], names: Mapping[int, str], row: ObjectRow) -> None:
    given = shown(" ".join(words))
    numbers = finite_numbers(words)
    if numbers is None or len(numbers) < _BOX_NUMBERS:
        rule = "must be 'class x y width height', or 'class x1 y1 x2 y2 x3 y3 …'"
        row.lose("row.type", "", rule, given)
        return
    name = _name(numbers[0], names)
    if name is None:
        rule = f"must begin with the number of a class, 0 to {max(names, default=0)}"
        row.lose("category_id.unknown", "", rule, given, _HOW_NAMED)
    elif len(numbers) == _BOX_NUMBERS:
        x, y, width, height = numbers[1:]
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        row.add_box("box", name, corners, given)
    else:
        row.add_outline("outline", name, [numbers[1:]])


def _name(number: float, names: Mapping[int, str]) -> str | None:
    if number != int(number) or number < 0:
        return None
    return names.get(int(number)) if names else str(int(number))


def _labels_without_image(layout: Layout, known: set[Path]) -> Iterator[Issue]:
    """Name the label files without an image; a list of images leaves some out on purpose."""
    for folder in layout.places:
        labels = mirrored(folder, "labels") if folder.is_dir() else None
        for file in walk_files(labels) if labels is not None else ():
            is_label = file.suffix == ".txt" and not is_image(file.name)
            if is_label and file not in known and file.name != "classes.txt":
                hint = "The image of that name is missing."
                yield _issue(file, "image.missing", "error", "must belong to an image", hint)


def _issue(file: Path, code: str, severity: Severity, message: str, hint: str) -> Issue:
    return Issue(file=str(file), code=code, severity=severity, message=message, hint=hint)
