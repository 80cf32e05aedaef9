"""Masks whose pixels are numbers of classes where objects should be numbered: told, or read so.

What tells them from numbers of objects: parts of one number lie far apart, and an image has numbers
without the smaller ones, while few numbers recur over many images.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path

from autofocus.data.formats.layout import entries_by_name
from autofocus.data.rows.issues import Issue

# Values of masks that say inside and outside only.
BINARY = {1, 255, 65535}
# What many masks of 8 bits paint around objects.
_BORDER = 255
# Beside masks of classes lies what their numbers or colours mean.
_TABLES = ("labelmap.csv", "labelmap.txt", "class_dict.csv")
_BACKGROUND = {"background", "_background_", "bg", "unlabeled", "unlabelled", "void"}

_MAX_PARTS = 20  # that are looked at of one number in one image
_LEAST_PART = 0.1  # of the largest, which smaller ones are specks of
# Of numbers in an image: objects that others hide in part are in pieces too, but not far apart.
_MUCH_APART, _LEAST_APART = 0.3, 3
# Of images: objects are numbered from 1 on, or by what needs more than 8 bits.
_MUCH_SKIPPED, _LEAST_SKIPPED = 0.5, 3
_MOST_CLASSES = 255

Box = tuple[float, float, float, float]


class ClassSigns:
    """Counts what tells masks of classes from masks of objects."""

    def __init__(self) -> None:
        self._images_of: Counter[int] = Counter()
        self._num_apart = self._num_skipped = self._num_images = 0

    def add(self, outlines: Mapping[int, Sequence[Sequence[float]]]) -> None:
        """Count a mask: rings `[x1, y1, …]` in pixels by number."""
        numbers = {*outlines} - ({_BORDER} if len(outlines) > 1 else set())
        self._images_of.update(numbers)
        self._num_images += bool(numbers)
        self._num_skipped += max(numbers, default=0) != len(numbers)
        self._num_apart += sum(_are_apart(outlines[number]) for number in numbers)

    def are_classes(self) -> bool:
        """Return whether the numbers are of classes, as it seems."""
        if {*self._images_of} <= BINARY:
            return False
        num_pairs = self._images_of.total()
        if self._num_apart >= max(_LEAST_APART, _MUCH_APART * num_pairs):
            return True
        do_recur = num_pairs >= 2 * len(self._images_of) > 2
        is_skipped = self._num_skipped >= max(_LEAST_SKIPPED, _MUCH_SKIPPED * self._num_images)
        return do_recur and is_skipped and max(self._images_of) <= _MOST_CLASSES


def _are_apart(rings: Sequence[Sequence[float]]) -> bool:
    """Return whether large parts lie further from each other than half the smaller one's length."""
    boxes = [_box(ring) for ring in islice(rings, _MAX_PARTS)]
    least = _LEAST_PART * max(map(_area, boxes))
    return any(
        2 * _gap(one, other) > min(_length(one), _length(other))
        for one, other in combinations([box for box in boxes if _area(box) >= least], 2)
    )


def _box(ring: Sequence[float]) -> Box:
    return min(ring[::2]), min(ring[1::2]), max(ring[::2]), max(ring[1::2])


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _length(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _gap(one: Box, other: Box) -> float:
    horizontal = max(one[0], other[0]) - min(one[2], other[2])
    return max(horizontal, max(one[1], other[1]) - min(one[3], other[3]), 0.0)


def class_table(folder: Path) -> Path | None:
    """Return the table of classes that lies beside masks, or None."""
    entries = entries_by_name(folder)
    return next((entries[name] for name in _TABLES if name in entries), None)


def class_names(folder: Path) -> dict[int, str]:
    """Return the classes' names by number, where a table lists them from the background on."""
    table = class_table(folder)
    if table is None:
        return {}
    lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    names = [re.split("[,;:\t]", line)[0].strip() for line in lines if line[:1] not in ("", "#")]
    start = next((at for at, name in enumerate(names) if name.lower() in _BACKGROUND), len(names))
    return dict(enumerate(names[start:]))


def classes_seen(place: Path) -> Issue:
    """Return the issue of masks that number classes, as it seems."""
    return Issue(
        file=str(place),
        code="mask.classes",
        severity="warning",
        message="numbers classes, as it seems, where a mask should number objects",
        hint="All parts of a class became one object. '--masks classes' makes each an object of "
        "its class, '--masks objects' says that all is well.",
    )
