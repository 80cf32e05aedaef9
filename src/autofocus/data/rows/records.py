"""Typed records: one line of a JSONL training or validation file, for each of the four tasks.

These are the *canonical* rows that the rest of the system sees. Wire names (`topX`, `isCrowd`)
appear only as aliases; column names other than `image_url` and `label` are the reader's concern
(`data/rows/jsonl.py`). Coordinates are fractions of the image's width or height, origin top left.
Source: the published data schema, `reference/data-schema.ko.txt`.

A record type also says what formats and checks must know of its label, so that none of them asks
which task it is; `data/rows/wire.py` has how the label is read.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec

Frac = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class ImageDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Format and size of an image as its row has them; the decoded image has the last word."""

    format: str | None = None
    width: int | None = None  # pixels; rows may say 400, "400" or "400px"
    height: int | None = None


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Columns of rows of all tasks. Unknown keys are ignored: labelling tools add columns.

    Attributes:
        image_url: Place of the image.
        image_details: Format and size as the row has them.
        group: What the image belongs to: a camera, a patient, a source photo; None where the row
            does not say it, and the image is by itself.
        object_shape: What a format that says where objects are reads of each for this record; None
            for a record that such formats cannot fill.
        min_classes: Classes that data must have for a model to learn to tell anything.
    """

    image_url: Name
    image_details: ImageDetails | None = None
    group: Name | None = None

    object_shape: ClassVar[Literal["box", "outline"] | None] = None
    min_classes: ClassVar[int] = 1

    @classmethod
    def fits(cls, label: Any) -> bool:
        """Return whether a label, as JSON has it, looks like one of this record."""
        raise NotImplementedError

    @classmethod
    def teaches(cls, label: Any) -> bool:
        """Return whether there is something to learn from a label, decoded or canonical."""
        return True

    @classmethod
    def label_of_text(cls, text: str, separator: str | None) -> Any:
        """Return the label that a table's cell or a folder's name means, as JSON has it.

        Args:
            text: The cell or the name.
            separator: What stands between several classes; None where the text is one.
        """
        raise NotImplementedError

    @classmethod
    def label_of_names(cls, names: list[str]) -> Any:
        """Return the label that an image's classes make, as JSON has it."""
        return names

    @classmethod
    def label_of_objects(cls, objects: list[dict[str, Any]]) -> list[Any]:
        """Return the label that objects make, as JSON has both; only where `object_shape` is."""
        return objects

    def after(self, earlier: Self) -> Self:
        """Return the record that stands for two rows of one image: the later one."""
        return self


class MulticlassRecord(ImageRecord, frozen=True, kw_only=True):
    """An image of exactly one class."""

    label: Name

    min_classes: ClassVar[int] = 2

    @classmethod
    def fits(cls, label: Any) -> bool:
        """Return whether it is text or a whole number."""
        return isinstance(label, str) or (isinstance(label, int) and not isinstance(label, bool))

    @classmethod
    def label_of_text(cls, text: str, separator: str | None) -> str | None:
        """Return the text, whatever separates others; None when it is empty."""
        return text or None

    @classmethod
    def label_of_names(cls, names: list[str]) -> Any:
        """Return the only class; None without one, several as they are: the check names both."""
        return names[0] if len(names) == 1 else names or None


class MultilabelRecord(ImageRecord, frozen=True, kw_only=True):
    """An image of any number of classes, none included."""

    label: list[Name]

    object_shape: ClassVar[Literal["box", "outline"] | None] = "box"

    @classmethod
    def fits(cls, label: Any) -> bool:
        """Return whether it is a list of anything but objects."""
        return isinstance(label, list) and not (label and isinstance(label[0], dict))

    @classmethod
    def label_of_text(cls, text: str, separator: str | None) -> list[str]:
        """Return the classes between separators."""
        if separator is None:
            return [text]
        return [name for part in text.split(separator) if (name := part.strip())]

    @classmethod
    def label_of_objects(cls, objects: list[dict[str, Any]]) -> list[Any]:
        """Return the classes of the objects, each once."""
        return list(dict.fromkeys(item["label"] for item in objects))


class BoxLabel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object: corners (left, top) and (right, bottom), fractions in [0, 1]."""

    label: Name
    top_x: Frac
    top_y: Frac
    bottom_x: Frac
    bottom_y: Frac
    is_crowd: bool = False


class ObjectsRecord(ImageRecord, frozen=True, kw_only=True):
    """An image with objects that have places in it.

    Attributes:
        label: Objects, each with the name of its class in `label`.
        place_key: Key of an object's JSON by which this record is told from others.
    """

    label: Sequence[Any]

    place_key: ClassVar[str]

    @classmethod
    def fits(cls, label: Any) -> bool:
        """Return whether it is a list, empty or of objects with a place of this record's kind."""
        if not isinstance(label, list):
            return False
        return not label or (isinstance(label[0], dict) and cls.place_key in label[0])

    @classmethod
    def teaches(cls, label: Any) -> bool:
        """Return whether it has an object that is no crowd."""
        return not all(item.is_crowd for item in label)

    def after(self, earlier: Self) -> Self:
        """Return a record of the objects of both."""
        # The same line twice must not put two boxes on one object.
        added = [item for item in self.label if item not in earlier.label]
        return type(self)(
            image_url=self.image_url,
            image_details=self.image_details or earlier.image_details,
            group=self.group or earlier.group,
            label=[*earlier.label, *added],
        )


class DetectionRecord(ObjectsRecord, frozen=True, kw_only=True):
    """An image with boxes; an empty list is an image known to contain no object."""

    label: list[BoxLabel]

    object_shape: ClassVar[Literal["box", "outline"] | None] = "box"
    place_key: ClassVar[str] = "topX"


class PolygonLabel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object: one or more rings `[x1, y1, x2, y2, …]` of fractions; overlaps are holes."""

    label: Name
    polygon: list[list[Frac]]
    is_crowd: bool = False


class InstanceSegmentationRecord(ObjectsRecord, frozen=True, kw_only=True):
    """An image with outlined objects."""

    label: list[PolygonLabel]

    object_shape: ClassVar[Literal["box", "outline"] | None] = "outline"
    place_key: ClassVar[str] = "polygon"


# The only place outside tasks/ that spells the four names.
RECORD_TYPES: dict[str, type[ImageRecord]] = {
    "image_classification": MulticlassRecord,
    "image_classification_multilabel": MultilabelRecord,
    "image_object_detection": DetectionRecord,
    "image_instance_segmentation": InstanceSegmentationRecord,
}
