"""Which task rows look like, from the shape of their labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from autofocus.data.rows.issues import IssueLog
from autofocus.data.rows.jsonl import JsonlFile, parse_line, read_blocks
from autofocus.data.rows.records import (
    DetectionRecord,
    ImageRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
)

_NUM_ROWS = 1000


def guess_from_rows(files: Sequence[JsonlFile], label_column: str) -> list[type[ImageRecord]]:
    """Return what most of the first rows look like: one type, or several when it is unclear.

    Rows with boxes and polygons fit both tasks; rows whose labels are all empty lists fit three.
    """
    votes: Counter[tuple[type[ImageRecord], ...]] = Counter()
    for label in islice(_labels(files, label_column), _NUM_ROWS):
        votes[_fitting(label)] += 1
    votes.pop((), None)
    # An empty list fits anything but a single class: it only counts when there is nothing else.
    clear = Counter({types: num for types, num in votes.items() if types != _ANY_LIST})
    best = (clear or votes).most_common(1)
    return list(best[0][0]) if best else []


_ANY_LIST = (MultilabelRecord, DetectionRecord, InstanceSegmentationRecord)


def _fitting(label: Any) -> tuple[type[ImageRecord], ...]:
    if isinstance(label, str) or (isinstance(label, int) and not isinstance(label, bool)):
        return (MulticlassRecord,)
    if not isinstance(label, list):
        return ()
    if not label:
        return _ANY_LIST
    if not isinstance(label[0], dict):
        return (MultilabelRecord,)
    has_box, has_polygon = "topX" in label[0], "polygon" in label[0]
    types = ((DetectionRecord, has_box), (InstanceSegmentationRecord, has_polygon))
    return tuple(record_type for record_type, fits in types if fits)


def _labels(files: Sequence[JsonlFile], label_column: str) -> Iterator[Any]:
    silent = IssueLog()
    for file in files:
        for _, _, block in read_blocks(file, silent):
            for line in block.split(b"\n"):
                try:
                    row = parse_line(line)
                except ValueError:
                    continue  # the check itself reports it
                if isinstance(row, dict):
                    yield row.get(label_column)
