"""Typed records: one line of a JSONL training or validation file, for each of the four tasks.

These are the *canonical* rows that the rest of the system sees. Wire names (`topX`, `isCrowd`)
appear only as aliases; column names other than `image_url` and `label` are the reader's concern
(`data/rows/jsonl.py`). Coordinates are fractions of the image's width or height, origin top left.
Source: the published data schema, `reference/data-schema.ko.txt`.
"""

from typing import Annotated

import msgspec

Frac = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class ImageDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Format and size of an image as its row has them; the decoded image has the last word."""

    format: str | None = None
    width: int | None = None  # pixels; rows may say 400, "400" or "400px"
    height: int | None = None


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Columns of rows of all tasks. Unknown keys are ignored: labelling tools add columns."""

    image_url: Name
    image_details: ImageDetails | None = None


class MulticlassRecord(ImageRecord, frozen=True, kw_only=True):
    """An image of exactly one class."""

    label: Name


class MultilabelRecord(ImageRecord, frozen=True, kw_only=True):
    """An image of any number of classes, none included."""

    label: list[Name]


class BoxLabel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object: corners (left, top) and (right, bottom), fractions in [0, 1]."""

    label: Name
    top_x: Frac
    top_y: Frac
    bottom_x: Frac
    bottom_y: Frac
    is_crowd: bool = False


class DetectionRecord(ImageRecord, frozen=True, kw_only=True):
    """An image with boxes; an empty list is an image known to contain no object."""

    label: list[BoxLabel]


class PolygonLabel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object: one or more rings `[x1, y1, x2, y2, …]` of fractions; overlaps are holes."""

    label: Name
    polygon: list[list[Frac]]
    is_crowd: bool = False


class InstanceSegmentationRecord(ImageRecord, frozen=True, kw_only=True):
    """An image with outlined objects."""

    label: list[PolygonLabel]


# The only place outside tasks/ that spells the four names.
RECORD_TYPES: dict[str, type[ImageRecord]] = {
    "image_classification": MulticlassRecord,
    "image_classification_multilabel": MultilabelRecord,
    "image_object_detection": DetectionRecord,
    "image_instance_segmentation": InstanceSegmentationRecord,
}
