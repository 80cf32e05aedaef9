"""The slow path: one parsed row checked by hand, so that every issue in it is named.

Returns the canonical record when there is one: what is tolerable is put right and reported, what
is not costs the object, and a row all of whose objects are lost is skipped, never made a negative.
"""

from typing import Any

from autofocus.data.rows.issues import Issue, RowIssues, short_value
from autofocus.data.rows.records import ImageDetails, ImageRecord
from autofocus.data.rows.values import read_text
from autofocus.data.rows.wire import IMAGE_FORMATS, MAX_PIXELS, WIRES, group_name, parse_pixels

_MAX_KEYS_SHOWN = 8
_COCO_KEYS = {"images", "annotations", "categories"}


def check_row(
    row: Any,
    record_type: type[ImageRecord],
    image_column: str,
    label_column: str,
    file: str,
    line: int | None,
    group_column: str | None = None,
) -> tuple[ImageRecord | None, list[Issue]]:
    """Check a parsed row.

    Args:
        row: The line's JSON: normally a dict.
        record_type: The record that the task wants.
        image_column: Name of the column with the image's place.
        label_column: Name of the column with the label.
        file: Name for messages.
        line: Line in `file`, or None.
        group_column: Name of the column, or field of `image_details`, with the group.

    Returns:
        The canonical record, or None when nothing of the row can be used, and all its issues.
    """
    issues = RowIssues(file, line)
    if not isinstance(row, dict) or row.keys() >= _COCO_KEYS:
        found = "a whole COCO file" if isinstance(row, dict) else short_value(row)
        issues.error("row.type", "", "must be one JSON object {…} a line", found)
        return None, issues.issues
    image_url = _read_url(row, image_column, issues)
    details = None
    if "image_details" not in (image_column, label_column):
        details = _read_details(row.get("image_details"), issues)
    label = None
    if row.get(label_column) is None:
        issues.error(
            "label.missing", label_column, "is missing", hint=_keys_hint(row, "--target-column")
        )
    else:
        label = WIRES[record_type].read(row[label_column], label_column, issues)
    if image_url is None or label is None:
        return None, issues.issues
    record = record_type(
        image_url=image_url,
        image_details=details,
        label=label,  # type: ignore[call-arg]
        group=None if group_column is None else _read_group(row, group_column, issues),
    )
    return record, issues.issues


def _read_url(row: dict[str, Any], column: str, issues: RowIssues) -> str | None:
    url = row.get(column)
    if url is None:
        issues.error(
            "image_url.missing", column, "is missing", hint=_keys_hint(row, "--image-column")
        )
        return None
    if not isinstance(url, str):
        issues.error("image_url.type", column, "must be a path or URL (text)", short_value(url))
        return None
    if not url:
        issues.error("image_url.empty", column, "must name an image", "")
        return None
    return read_text(url, column, issues)


def _read_group(row: dict[str, Any], column: str, issues: RowIssues) -> str | None:
    details = row.get("image_details")
    values = [row.get(column), details.get(column) if isinstance(details, dict) else None]
    for i, value in enumerate(values):
        if isinstance(value, dict | list):
            rule, hint = "must be text or a number", "Ignored; the image may be by itself."
            issues.warning("group.type", column, rule, short_value(value), hint)
            values[i] = None
    return group_name(*values)


def _keys_hint(row: dict[str, Any], flag: str) -> str:
    keys = [str(short_value(key)) for key in row]
    if not keys:
        return "The row has no keys."
    more = ", …" if len(keys) > _MAX_KEYS_SHOWN else ""
    found = ", ".join(keys[:_MAX_KEYS_SHOWN]) + more
    return f"The row has the keys: {found}; name the column with {flag}."


def _read_details(details: Any, issues: RowIssues) -> ImageDetails | None:
    if details is None:
        return None
    if not isinstance(details, dict):
        issues.warning(
            "details.type",
            "image_details",
            "must be an object {…}",
            short_value(details),
            "Ignored.",
        )
        return None
    return ImageDetails(
        format=_read_format(details.get("format"), issues),
        width=_read_pixels(details.get("width"), "image_details.width", issues),
        height=_read_pixels(details.get("height"), "image_details.height", issues),
    )


def _read_format(value: Any, issues: RowIssues) -> str | None:
    if value is None or (isinstance(value, str) and value.lower() in IMAGE_FORMATS):
        return value
    issues.warning(
        "details.format",
        "image_details.format",
        f"must be one of {', '.join(IMAGE_FORMATS)}",
        short_value(value),
        "Ignored; the file's own header counts.",
    )
    return None


def _read_pixels(value: Any, path: str, issues: RowIssues) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and (size := parse_pixels(value)):
        return size
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PIXELS:
        return value
    issues.warning(
        "details.size",
        path,
        'must be a number of pixels such as 400 or "400px"',
        short_value(value),
        "Ignored; the image's own size counts.",
    )
    return None
