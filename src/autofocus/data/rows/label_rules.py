"""The labels of rows that are lists, read by hand: class names, boxes, outlines.

A reader returns None after it has named everything that is wrong; that costs the object, and the
row when all its objects are lost.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from autofocus.data.rows.issues import RowIssues, short_value
from autofocus.data.rows.records import BoxLabel, PolygonLabel
from autofocus.data.rows.values import (
    ANOTHER_TASK,
    clip_frac,
    range_hint,
    read_coordinate,
    read_flag,
    read_name,
    to_number,
)

LabelT = TypeVar("LabelT")

_EDGES = ("topX", "topY", "bottomX", "bottomY")
_MIN_RING = 6  # three points


def read_classes(value: Any, path: str, issues: RowIssues) -> list[str] | None:
    """Return a row's class names, each once."""
    names = _read_list(value, path, issues, read_name)
    if names is None:
        return None
    distinct = list(dict.fromkeys(names))
    if len(distinct) < len(names):
        issues.warning(
            "label.repeated", path, "must name a class once", short_value(value), "Counted once."
        )
    return distinct


def read_boxes(value: Any, path: str, issues: RowIssues) -> list[BoxLabel] | None:
    """Return a detection row's objects; one that has only a polygon gets the box around it."""
    return _each_once(_read_list(value, path, issues, _read_box), path, issues)


def read_polygons(value: Any, path: str, issues: RowIssues) -> list[PolygonLabel] | None:
    """Return a segmentation row's objects; a box beside a polygon is ignored."""
    return _each_once(_read_list(value, path, issues, _read_polygon), path, issues)


def _each_once(items: list[LabelT] | None, path: str, issues: RowIssues) -> list[LabelT] | None:
    """Return objects each once: of two copies a detector can never find both."""
    if items is None:
        return None
    distinct = {msgspec.json.encode(item): item for item in reversed(items)}
    if len(distinct) < len(items):
        found = f"{len(items) - len(distinct)} of {len(items)} objects again"
        issues.warning("object.repeated", path, "must list an object once", found, "Counted once.")
    return list(reversed(distinct.values()))


def _read_list(
    value: Any,
    path: str,
    issues: RowIssues,
    read: Callable[[Any, str, RowIssues], LabelT | None],
) -> list[LabelT] | None:
    """Return a list's items that can be used, None when it has some and none can."""
    if not isinstance(value, list):
        hint = ANOTHER_TASK if isinstance(value, str) else ""
        issues.error("label.type", path, "must be a list", short_value(value), hint)
        return None
    read_items = (read(item, f"{path}[{i}]", issues) for i, item in enumerate(value))
    items = [item for item in read_items if item is not None]
    if value and not items:
        issues.error(
            "row.nothing_valid",
            path,
            "has no valid item",
            hint="The image is skipped, not made a negative.",
        )
        return None
    return items


def _read_box(value: Any, path: str, issues: RowIssues) -> BoxLabel | None:
    if not _is_object(value, path, issues):
        return None
    name = _read_label(value, path, issues)
    crowd = read_flag(value.get("isCrowd"), f"{path}.isCrowd", issues)
    corners = _read_corners(value, path, issues)
    if name is None or corners is None:
        return None
    top_x, top_y, bottom_x, bottom_y = corners
    return BoxLabel(
        label=name, top_x=top_x, top_y=top_y, bottom_x=bottom_x, bottom_y=bottom_y, is_crowd=crowd
    )


def _read_polygon(value: Any, path: str, issues: RowIssues) -> PolygonLabel | None:
    if not _is_object(value, path, issues):
        return None
    name = _read_label(value, path, issues)
    crowd = read_flag(value.get("isCrowd"), f"{path}.isCrowd", issues)
    rings = _read_rings(value, path, issues)
    if name is None or rings is None:
        return None
    return PolygonLabel(label=name, polygon=rings, is_crowd=crowd)


def _is_object(value: Any, path: str, issues: RowIssues) -> bool:
    if isinstance(value, dict):
        return True
    issues.error("object.type", path, "must be an object {…} with a label", short_value(value))
    return False


def _read_label(value: dict[str, Any], path: str, issues: RowIssues) -> str | None:
    if value.get("label") is None:
        keys = ", ".join(map(str, value)) or "none"
        issues.error(
            "label.missing", f"{path}.label", "is missing", hint=f"The object has the keys: {keys}."
        )
        return None
    return read_name(value["label"], f"{path}.label", issues)


def _read_corners(
    value: dict[str, Any], path: str, issues: RowIssues
) -> tuple[float, float, float, float] | None:
    present = [edge for edge in _EDGES if value.get(edge) is not None]
    if not present and "polygon" in value:
        return _corners_of_polygon(value, path, issues)
    if len(present) < len(_EDGES):
        keys = ", ".join(map(str, value)) or "none"
        for edge in _EDGES:
            if edge not in present:
                issues.error(
                    "coordinate.missing",
                    f"{path}.{edge}",
                    "is missing",
                    hint=f"The object has the keys: {keys}.",
                )
    read = {edge: read_coordinate(value[edge], f"{path}.{edge}", issues) for edge in present}
    return _check_order(read, path, issues)


def _check_order(
    read: dict[str, float | None], path: str, issues: RowIssues
) -> tuple[float, float, float, float] | None:
    ordered = True
    for low_edge, high_edge in (("topX", "bottomX"), ("topY", "bottomY")):
        low, high = read.get(low_edge), read.get(high_edge)
        if low is None or high is None:
            ordered = False
        elif low >= high:
            ordered = False
            code = "box.inverted" if low > high else "box.empty"
            issues.error(
                code,
                path,
                f"must have {low_edge} < {high_edge}",
                f"{low_edge} {low:g} and {high_edge} {high:g}",
                "topX, topY is the upper left corner; y grows downwards.",
            )
    left, top, right, bottom = (read.get(edge) for edge in _EDGES)
    if not ordered or left is None or top is None or right is None or bottom is None:
        return None
    return left, top, right, bottom


def _corners_of_polygon(
    value: dict[str, Any], path: str, issues: RowIssues
) -> tuple[float, float, float, float] | None:
    rings = _read_rings(value, path, issues)
    if rings is None:
        return None
    issues.info("box.from_polygon", path, "has no box", hint="The box around its polygon is used.")
    x = [number for ring in rings for number in ring[::2]]
    y = [number for ring in rings for number in ring[1::2]]
    read = {"topX": min(x), "topY": min(y), "bottomX": max(x), "bottomY": max(y)}
    return _check_order({**read}, path, issues)


def _read_rings(value: dict[str, Any], path: str, issues: RowIssues) -> list[list[float]] | None:
    path = f"{path}.polygon"
    polygon = value.get("polygon")
    if polygon is None:
        hint = "It has a box: is this a detection task?" if "topX" in value else ""
        issues.error("polygon.missing", path, "is missing", hint=hint)
        return None
    if not isinstance(polygon, list):
        hint = "Masks (RLE) are not supported in rows." if isinstance(polygon, dict) else ""
        issues.error("polygon.type", path, _RINGS_RULE, short_value(polygon), hint)
        return None
    read = [_read_ring(ring, f"{path}[{i}]", issues) for i, ring in enumerate(polygon)]
    rings = [ring for ring in read if ring]
    if any(ring is None for ring in read):
        return None
    if not rings:
        issues.error(
            "polygon.few_points",
            path,
            "must have a ring of at least 3 points",
            short_value(polygon),
        )
        return None
    return rings


_RINGS_RULE = "must be a list of rings [[x1, y1, x2, y2, …], …]"


def _read_ring(ring: Any, path: str, issues: RowIssues) -> list[float] | None:
    """Return the ring's numbers, an empty list when it has no area, None when it is wrong."""
    if not isinstance(ring, list):
        hint = "Put one more [ ] around the numbers." if to_number(ring) is not None else ""
        issues.error("polygon.type", path, _RINGS_RULE, short_value(ring), hint)
        return None
    if len(ring) % 2:
        issues.error(
            "polygon.odd",
            path,
            "must have as many x as y",
            f"{len(ring)} numbers",
            "One coordinate is missing or too much.",
        )
        return None
    if len(ring) < _MIN_RING:
        issues.warning(
            "polygon.short_ring",
            path,
            "must have at least 3 points",
            f"{len(ring) // 2}",
            "A ring without area adds nothing; it is left out.",
        )
        return []
    return _read_points(ring, path, issues)


def _read_points(ring: list[Any], path: str, issues: RowIssues) -> list[float] | None:
    numbers = [to_number(value) for value in ring]
    wrong = [i for i, number in enumerate(numbers) if number is None or number - number != 0]
    if wrong:  # not a number, NaN or infinite: the coordinate's own reader says which
        read_coordinate(ring[wrong[0]], f"{path}[{wrong[0]}]", issues)
        return None
    clipped = [clip_frac(number) for number in numbers if number is not None]
    outside = [i for i, number in enumerate(clipped) if number is None]
    if outside:
        issues.error(
            "polygon.out_of_range",
            f"{path}[{outside[0]}]",
            "must be in [0, 1]",
            short_value(ring[outside[0]]),
            f"{len(outside)} of the ring's {len(ring)} numbers are outside. {range_hint(path)}",
        )
        return None
    _note_repairs(ring, numbers, clipped, path, issues)
    return [number for number in clipped if number is not None]


def _note_repairs(
    ring: list[Any],
    numbers: list[float | None],
    clipped: list[float | None],
    path: str,
    issues: RowIssues,
) -> None:
    """Report repairs once a ring, not once a number."""
    texts = [i for i, value in enumerate(ring) if isinstance(value, str)]
    if texts:
        issues.warning(
            "coordinate.text",
            f"{path}[{texts[0]}]",
            "must be a number, not text",
            short_value(ring[texts[0]]),
            f"{len(texts)} such in this ring were read as numbers.",
        )
    moved = [i for i in range(len(ring)) if numbers[i] != clipped[i]]
    if moved:
        issues.warning(
            "coordinate.clipped",
            f"{path}[{moved[0]}]",
            "must be in [0, 1]",
            short_value(ring[moved[0]]),
            f"{len(moved)} such in this ring were moved to the edge.",
        )
