"""Rows of SageMaker Ground Truth, whose classes are numbers that metadata beside them names.

"kind": 1, "kind-metadata": {"class-name": "can"}
"kinds": [0, 2], "kinds-metadata": {"class-map": {"0": "can", "2": "cup"}}
"box": {"annotations": [{"class_id": 0, "left": 10, "top": 20, "width": 30, "height": 40}],
        "image_size": [{"width": 400, "height": 300}]}, "box-metadata": {"class-map": …}
"""

from typing import Any

from autofocus.data.rows.values import to_number

_PLACE = ("left", "top", "width", "height")


def metadata_key(label_column: str) -> str:
    """Return the key of the metadata of a label column."""
    return f"{label_column}-metadata"


def named(row: dict[str, Any], label_column: str) -> dict[str, Any]:
    """Return a row with the label that its metadata names, as published rows have it.

    What is not as above stays as it is: reading the row says what is wrong with it.
    """
    metadata = row.get(metadata_key(label_column))
    if not isinstance(metadata, dict):
        return row
    label = row.get(label_column)
    names = metadata.get("class-map")
    names = names if isinstance(names, dict) else {}
    if isinstance(label, list):
        return {**row, label_column: [_name(number, names) for number in label]}
    if isinstance(label, dict):
        return {**row, label_column: _objects(label, names)}
    return {**row, label_column: metadata.get("class-name", label)}


def _name(number: Any, names: dict[str, Any]) -> Any:
    return names.get(str(number), number)


def _objects(label: dict[str, Any], names: dict[str, Any]) -> Any:
    try:
        (size,) = label["image_size"]
        width, height = float(size["width"]), float(size["height"])
        return [_object(item, names, width, height) for item in label["annotations"]]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return label


def _object(
    item: dict[str, Any], names: dict[str, Any], width: float, height: float
) -> dict[str, Any]:
    """Return an object in fractions of its image; what is no number is left for its reader."""
    found = {"label": _name(item["class_id"], names)}
    numbers = [to_number(item[key]) for key in _PLACE]
    x, y, w, h = (number if number is not None else float("nan") for number in numbers)
    corners = (x / width, y / height, (x + w) / width, (y + h) / height)
    return found | dict(zip(("topX", "topY", "bottomX", "bottomY"), corners, strict=True))
