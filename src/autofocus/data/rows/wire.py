"""How each record's label is read, and the fast path: published rows, decoded by msgspec.

A row that does not fit is not wrong yet: `rules.py` re-reads it by hand, accepts what is tolerable
and names what is not. A row that fits must give the same record on both paths.
"""

import functools
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec

from autofocus.data.rows.ground_truth import metadata_key
from autofocus.data.rows.issues import RowIssues
from autofocus.data.rows.label_rules import read_boxes, read_classes, read_polygons
from autofocus.data.rows.records import (
    BoxLabel,
    DetectionRecord,
    Frac,
    ImageDetails,
    ImageRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
    Name,
    PolygonLabel,
)
from autofocus.data.rows.values import read_name

# As `image_details.format` may say; images themselves may also be GIF or WebP.
IMAGE_FORMATS = ("jpg", "jpeg", "png", "jpe", "jfif", "bmp", "tif", "tiff")

MAX_PIXELS = 999_999

_PIXELS = re.compile(r"([1-9][0-9]{0,5}) ?(?:px)?", re.ASCII)

# Typed data sets of whole numbers as labels are common; a class name is their string.
WireName = Name | int
WireGroup = str | int | float | bool | None
WireFlag = bool | Annotated[int, msgspec.Meta(ge=0, le=1)]
WireRing = Annotated[list[Frac], msgspec.Meta(min_length=6)]


class WireBox(msgspec.Struct, rename="camel", gc=False):
    """An object of a detection row."""

    label: WireName
    top_x: Frac
    top_y: Frac
    bottom_x: Frac
    bottom_y: Frac
    is_crowd: WireFlag = False


class WirePolygon(msgspec.Struct, rename="camel", gc=False):
    """An object of an instance segmentation row."""

    label: WireName
    polygon: Annotated[list[WireRing], msgspec.Meta(min_length=1)]
    is_crowd: WireFlag = False


@dataclass(frozen=True)
class WireRules:
    """Reading of one record type's label.

    Attributes:
        label_type: Type of the label column.
        are_sound: Whether labels that decoded also keep the rules between their fields.
        to_label: Map from the decoded to the canonical label.
        names: All class names in the given labels, decoded or canonical, one an object.
        read: The slow path: the canonical label of a value, or None after naming what is wrong.
    """

    label_type: Any
    are_sound: Callable[[Iterable[Any]], bool]
    to_label: Callable[[Any], Any]
    names: Callable[[Iterable[Any]], Iterable[str | int]]
    read: Callable[[Any, str, RowIssues], Any]


def build_row_type(
    record_type: type[ImageRecord],
    image_column: str,
    label_column: str,
    group_column: str | None = None,
) -> type[msgspec.Struct]:
    """Return the struct that rows of `record_type` with these column names decode into."""
    fields: list[Any] = [("image_url", Name), ("label", WIRES[record_type].label_type)]
    if "image_details" not in (image_column, label_column):
        fields.append(("image_details", _details_type(group_column) | None, None))
    rename = {"image_url": image_column, "label": label_column}
    if group_column is not None:
        fields.append(("group", WireGroup, None))
        rename["group"] = group_column
    fields.append(("metadata", Any, None))
    beside = metadata_key(label_column)
    # A column that the user names so is no metadata.
    rename["metadata"] = "" if beside in rename.values() else beside
    return msgspec.defstruct("WireRow", fields, rename=rename, gc=False)


def are_sound(record_type: type[ImageRecord], rows: Iterable[Any]) -> bool:
    """Return whether decoded rows keep the rules that msgspec does not check."""
    return WIRES[record_type].are_sound(map(_LABEL, rows))


def are_named_beside(rows: Iterable[Any]) -> bool:
    """Return whether metadata beside the label of a decoded row may say what it means."""
    return any(map(_METADATA, rows))


def to_record(record_type: type[ImageRecord], row: Any) -> ImageRecord:
    """Return the canonical record of a decoded, sound row."""
    details = getattr(row, "image_details", None)
    return record_type(
        image_url=row.image_url,
        label=WIRES[record_type].to_label(row.label),  # type: ignore[call-arg]
        image_details=None if details is None else _to_details(details),
        group=group_name(getattr(row, "group", None), getattr(details, "group", None)),
    )


def group_name(of_row: Any, of_details: Any) -> str | None:
    """Return the group that a row names, or else its details; None where both are empty."""
    value = of_details if of_row is None else of_row
    # Lone surrogates cannot be written.
    text = "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()
    return text.strip() or None


@functools.lru_cache(maxsize=4096)
def parse_pixels(text: str) -> int | None:
    """Return the number in "400px" or "400", or None when it is no size in pixels."""
    match = _PIXELS.fullmatch(text.strip())
    return int(match[1]) if match else None


@functools.cache
def _details_type(group_column: str | None) -> Any:
    """Return the type of `image_details` of a sound row.

    Sizes such as "400px" are looked up in a table of 9,999: a regular expression would cost more
    than all the rest of the row.
    """
    size = Literal[tuple(f"{number}px" for number in range(1, 10_000))]  # type: ignore[valid-type]
    pixels_type = size | Annotated[int, msgspec.Meta(ge=1, le=MAX_PIXELS)] | None
    names = Literal[(*IMAGE_FORMATS, *(name.upper() for name in IMAGE_FORMATS))]  # type: ignore[valid-type]
    fields: list[Any] = [
        ("format", names | None, None),
        ("width", pixels_type, None),
        ("height", pixels_type, None),
    ]
    if group_column is not None:
        fields.append(("group", WireGroup, None))
    rename = {"group": group_column or ""}
    return msgspec.defstruct("WireDetails", fields, rename=rename, gc=False)


def _to_details(details: Any) -> ImageDetails:
    width, height = details.width, details.height
    return ImageDetails(
        format=details.format,
        width=parse_pixels(width) if isinstance(width, str) else width,
        height=parse_pixels(height) if isinstance(height, str) else height,
    )


def _are_labels_distinct(labels: Iterable[list[str | int]]) -> bool:
    # Two sums run in C: a third of the time of a loop that compares row by row.
    rows = [names for names in labels if len(names) > 1]
    return sum(map(len, rows)) == sum(map(len, map(set, rows)))


def _are_boxes_sound(labels: Iterable[list[WireBox]]) -> bool:
    # Plain loops here and below: half the time of all() over a generator.
    for boxes in labels:
        for box in boxes:
            if box.top_x >= box.bottom_x or box.top_y >= box.bottom_y:
                return False
        # One number of each tells most rows; whole objects are compared where two share it.
        if len({box.top_x for box in boxes}) < len(boxes) and _is_one_repeated(boxes):
            return False
    return True


def _are_polygons_sound(labels: Iterable[list[WirePolygon]]) -> bool:
    for polygons in labels:
        for polygon in polygons:
            for ring in polygon.polygon:
                if len(ring) % 2:
                    return False
        starts = {polygon.polygon[0][0] for polygon in polygons}
        if len(starts) < len(polygons) and _is_one_repeated(polygons):
            return False
    return True


def _is_one_repeated(objects: Sequence[msgspec.Struct]) -> bool:
    return len({*map(msgspec.json.encode, objects)}) < len(objects)


def _to_boxes(boxes: list[WireBox]) -> list[BoxLabel]:
    return [
        BoxLabel(
            label=str(box.label),
            top_x=box.top_x,
            top_y=box.top_y,
            bottom_x=box.bottom_x,
            bottom_y=box.bottom_y,
            is_crowd=bool(box.is_crowd),
        )
        for box in boxes
    ]


def _to_polygons(polygons: list[WirePolygon]) -> list[PolygonLabel]:
    return [
        PolygonLabel(
            label=str(polygon.label), polygon=polygon.polygon, is_crowd=bool(polygon.is_crowd)
        )
        for polygon in polygons
    ]


def _object_names(labels: Iterable[list[Any]]) -> Iterable[str | int]:
    return map(_LABEL, chain.from_iterable(labels))


_LABEL, _METADATA = operator.attrgetter("label"), operator.attrgetter("metadata")

WIRES: dict[type[ImageRecord], WireRules] = {
    MulticlassRecord: WireRules(
        label_type=WireName,
        are_sound=lambda labels: True,
        to_label=str,
        names=lambda labels: labels,
        read=read_name,
    ),
    MultilabelRecord: WireRules(
        label_type=list[WireName],
        are_sound=_are_labels_distinct,
        to_label=lambda names: list(dict.fromkeys(map(str, names))),  # 3 and "3" are one
        names=chain.from_iterable,
        read=read_classes,
    ),
    DetectionRecord: WireRules(
        label_type=list[WireBox],
        are_sound=_are_boxes_sound,
        to_label=_to_boxes,
        names=_object_names,
        read=read_boxes,
    ),
    InstanceSegmentationRecord: WireRules(
        label_type=list[WirePolygon],
        are_sound=_are_polygons_sound,
        to_label=_to_polygons,
        names=_object_names,
        read=read_polygons,
    ),
}
