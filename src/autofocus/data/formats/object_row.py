"""One image's objects on their way into a row, checked in the units of their source.

What is wrong with an object is said in the source's own words and numbers, and costs the object;
an image all of whose objects are lost is lost too, never made a negative.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autofocus.data.formats.base import RawRow
from autofocus.data.formats.pixels import LabelledPixels
from autofocus.data.rows.issues import RowIssues, Scalar
from autofocus.data.rows.records import ImageRecord
from autofocus.data.rows.values import clip_frac, to_number
from autofocus.errors import DataError

# Text with six decimals may be this far outside without anybody having meant it.
ROUNDING = 1e-5


def refuse_classes_of_images(record_type: type[ImageRecord], path: Path) -> None:
    """Raise DataError for a task that wants one class an image, not objects in it."""
    if record_type.object_shape is None:
        raise DataError(
            f"{path}: says where objects are, not which one class an image has. "
            "Name another task with --task."
        )


def finite_numbers(values: Iterable[Any]) -> list[float] | None:
    """Return the values as floats, or None when one is no finite number."""
    numbers = [to_number(value) for value in values]
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    return finite if len(finite) == len(numbers) else None


class ObjectRow:
    """Collects an image's objects.

    Args:
        record_type: Record type of the row.
        file: File that says where the objects are, for messages.
        pixels: Pixels that coordinates count on; None when they are fractions.
    """

    def __init__(
        self, record_type: type[ImageRecord], file: str, pixels: LabelledPixels | None = None
    ) -> None:
        self.issues = RowIssues(file, None)
        self._record_type = record_type
        self._is_outlined = record_type.object_shape == "outline"
        self._pixels = pixels or LabelledPixels((1, 1))
        self._height, self._width = self._pixels.size
        self._rule = (
            f"must lie within the image of {self._width} x {self._height} pixels"
            if self._pixels.size != (1, 1)
            else "must be in [0, 1]"
        )
        self._labels: list[Any] = []
        self._num_objects = 0

    def add_box(
        self, path: str, name: str, corners: Sequence[float], given: Scalar, is_crowd: bool = False
    ) -> None:
        """Add an object of which only the box is known.

        Args:
            path: Place in the file, for messages.
            name: Its class.
            corners: Left, top, right, bottom.
            given: The box as the source spells it, for messages.
            is_crowd: Whether it is a crowd.
        """
        self._num_objects += 1
        if self._is_outlined:
            hint = "A box is no outline: is this a detection task?"
            self.issues.error("polygon.missing", path, "must have an outline", hint=hint)
        elif fractions := self._read_box(path, corners, given):
            self._keep(name, is_crowd, self._pixels.box_upright(fractions))

    def add_outline(self, path: str, name: str, rings: Any, is_crowd: bool = False) -> None:
        """Add an object of which the outline is known.

        Args:
            path: Place in the file, for messages.
            name: Its class.
            rings: `[[x1, y1, x2, y2, …], …]`; whatever else it is, is named.
            is_crowd: Whether it is a crowd.
        """
        # Boxes alone are read without numpy, which is half of the start-up of a check.
        from autofocus.data.formats.rings import read_rings

        self._num_objects += 1
        read = read_rings(rings, (self._height, self._width), self._rule, path, self.issues)
        if read is None:
            return
        read = [self._pixels.ring_upright(ring) for ring in read]
        if self._is_outlined:
            self._labels.append({"label": name, "isCrowd": is_crowd, "polygon": read})
            return
        x = [number for ring in read for number in ring[::2]]
        y = [number for ring in read for number in ring[1::2]]
        self._keep(name, is_crowd, (min(x), min(y), max(x), max(y)))

    def lose(
        self, code: str, path: str, message: str, value: Scalar = None, hint: str = ""
    ) -> None:
        """Count an object that cannot be used, and say why."""
        self.count_lost()
        self.issues.error(code, path, message, value, hint)

    def count_lost(self) -> None:
        """Count an object that cannot be used, of which an issue is there already."""
        self._num_objects += 1

    def finish(
        self, base_dir: str | Path, image_url: str, details: dict[str, Any] | None = None
    ) -> RawRow:
        """Return the row; without values when there were objects and all of them are lost."""
        file = self.issues.file
        label = self._record_type.label_of_objects(self._labels)
        values: dict[str, Any] | None = {"image_url": image_url, "label": label}
        if values is not None and details is not None:
            values["image_details"] = details
        if self._num_objects and not self._labels:
            hint = "The image is skipped, not made a negative."
            self.issues.line = None
            self.issues.error("row.nothing_valid", image_url, "has no valid object", hint=hint)
            values = None
        return RawRow(file, str(base_dir), None, values, tuple(self.issues.issues))

    def _keep(self, name: str, is_crowd: bool, box: tuple[float, float, float, float]) -> None:
        edges = zip(("topX", "topY", "bottomX", "bottomY"), box, strict=True)
        self._labels.append({"label": name, "isCrowd": is_crowd, **dict(edges)})

    def _read_box(
        self, path: str, corners: Sequence[float], given: Scalar
    ) -> tuple[float, float, float, float] | None:
        left, top, right, bottom = corners
        if left > right or top > bottom:
            rule = "must have its left edge left of the right one, and the upper above the lower"
            self.issues.error("box.inverted", path, rule, given, "y grows downwards.")
            return None
        given_fracs = (
            left / self._width,
            top / self._height,
            right / self._width,
            bottom / self._height,
        )
        clipped = [number for frac in given_fracs if (number := clip_frac(frac)) is not None]
        if len(clipped) < len(given_fracs):
            hint = f"{self._how_far(given_fracs)} Were images resized after they were labelled?"
            self.issues.error("coordinate.out_of_range", path, self._rule, given, hint)
            return None
        left, top, right, bottom = clipped
        if left >= right or top >= bottom:
            self.issues.error("box.empty", path, "must have a width and a height above 0", given)
            return None
        if max(abs(a - b) for a, b in zip(given_fracs, clipped, strict=True)) > ROUNDING:
            self.issues.warning("coordinate.clipped", path, self._rule, given, "Moved to the edge.")
        return left, top, right, bottom

    def _how_far(self, fractions: Sequence[float]) -> str:
        worst = max(max(-frac, frac - 1) for frac in fractions)
        return f"It reaches {worst:.1%} beyond."
