"""`autofocus data check`: what is in a source and everything that is wrong with it.

Rows are streamed: of a row nothing is kept but counts and a hash of its URL, so that memory does
not grow with the labels. Images are looked at only when asked for.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Literal

from autofocus.data.images.check import ImageCheck
from autofocus.data.options import ReadOptions
from autofocus.data.rows.duplicates import RepeatedUrls
from autofocus.data.rows.issues import Issue, IssueLog
from autofocus.data.rows.jsonl import RowBlock, Schema
from autofocus.data.rows.labels import similar_labels
from autofocus.data.rows.records import ImageRecord
from autofocus.data.rows.wire import WIRES
from autofocus.data.sources.find import Source
from autofocus.data.sources.read import read_rows
from autofocus.runtime import Track, no_progress

Depth = Literal["rows", "headers", "pixels"]

FEW_SAMPLES = 10
# The most frequent class has so many times the rarest one's samples.
IMBALANCE = 10

_URL, _LABEL = attrgetter("image_url"), attrgetter("label")


@dataclass(frozen=True)
class SourceReport:
    """Counts and issues of a checked source.

    Attributes:
        num_rows: Rows seen.
        num_valid: Rows that can be used; repeated images count each time.
        classes: Class name -> images (classification) or objects that have it, by name.
        issues: Everything that is wrong, and what is worth knowing.
        groups: What the group column names; empty where nobody asked.
        num_ungrouped: Usable rows of which it names nothing.
    """

    num_rows: int
    num_valid: int
    classes: dict[str, int]
    issues: IssueLog
    groups: frozenset[str] = frozenset()
    num_ungrouped: int = 0

    @classmethod
    def of_splits(cls, reports: Iterable["SourceReport"], issues: IssueLog) -> "SourceReport":
        """Return the sum of several reports that put their issues into one log."""
        parts = list(reports)
        counts: Counter[str | int] = Counter()
        for part in parts:
            counts.update(part.classes)
        num_rows, num_valid = sum(p.num_rows for p in parts), sum(p.num_valid for p in parts)
        groups = frozenset[str]().union(*(p.groups for p in parts))
        num_ungrouped = sum(p.num_ungrouped for p in parts)
        return cls(num_rows, num_valid, _by_name(counts), issues, groups, num_ungrouped)


def check_source(
    source: Source,
    record_type: type[ImageRecord],
    options: ReadOptions,
    depth: Depth = "headers",
    log: IssueLog | None = None,
    track: Track = no_progress,
) -> SourceReport:
    """Check all rows of a source and, unless `depth` is "rows", its images.

    Args:
        source: Source that `find_source` returned.
        record_type: Record type of its rows.
        options: Columns, image root and maps.
        depth: "rows" looks at no image, "headers" at files and their headers, "pixels" decodes.
        log: Takes the issues; a new one when None.
        track: Progress display.

    Raises:
        DataError: If the source cannot be read at all.
    """
    log = log or IssueLog()
    names_of = (options.image_column, options.label_column, options.group_column)
    schema = Schema(record_type, *names_of)
    images = None if depth == "rows" else ImageCheck(schema, options, depth == "pixels", log)
    names = WIRES[record_type].names
    counts: Counter[str | int] = Counter()
    groups: Counter[str | None] = Counter()
    urls = RepeatedUrls()
    num_rows = num_valid = 0
    teaches = False
    blocks = read_rows(source, schema, options, log, track)
    for block, rows in ((b, b.rows) for b in blocks) if images is None else images.usable(blocks):
        num_rows += block.num_rows
        num_valid += len(rows)
        counts.update(names(map(_LABEL, rows)))
        if options.group_column is not None:
            groups.update(schema.record(row).group for row in rows)
        teaches = teaches or any(map(record_type.teaches, map(_LABEL, rows)))
        urls.add(map(_URL, block.rows))
    if images is not None:
        images.finish()

    def read_again() -> Iterable[RowBlock]:
        return read_rows(source, schema, options, IssueLog(), track)

    urls.report(record_type, options.image_column, read_again, log)
    classes = _by_name(counts)
    log.add_all(_check_whole(source, record_type, num_rows, num_valid, classes))
    if classes and not teaches:
        log.add(_only_crowds(source.place))
    num_ungrouped = groups.pop(None, 0)
    named = frozenset(name for name in groups if name is not None)
    return SourceReport(num_rows, num_valid, classes, log, named, num_ungrouped)


def _by_name(counts: Counter[str | int]) -> dict[str, int]:
    """Return the counts sorted by name; a whole number is its text."""
    merged: Counter[str] = Counter()
    for name, num in counts.items():
        merged[str(name)] += num
    return dict(sorted(merged.items()))


def _check_whole(
    source: Source,
    record_type: type[ImageRecord],
    num_rows: int,
    num_valid: int,
    classes: dict[str, int],
) -> Iterable[Issue]:
    """Return the issues of the source as a whole."""
    place = source.place
    if not num_rows:
        return [_issue(place, "source.empty", "error", "has no rows", "")]
    if not num_valid:
        message = f"none of its {num_rows} rows can be used"
        return [_issue(place, "source.nothing_valid", "error", message, "See the issues above.")]
    if not classes:
        hint = "A model needs something to find."
        none = _issue(place, "class.none", "error", "has no label in any row", hint)
        return [none] if record_type.min_classes else []
    return chain(
        _check_number_of_classes(place, record_type, classes),
        _check_balance(place, classes),
        _check_names(place, classes),
    )


def _only_crowds(place: str) -> Issue:
    hint = "Some exports mark all masks so: set iscrowd to 0 where it is one object."
    message = "has crowds only, of which nothing is learnt"
    return _issue(place, "class.only_crowds", "warning", message, hint)


def _check_number_of_classes(
    place: str, record_type: type[ImageRecord], classes: dict[str, int]
) -> Iterable[Issue]:
    if len(classes) > 1:
        return
    message = f"has only one class, {next(iter(classes))!r}"
    hint = "Is that meant?"
    if record_type.min_classes > 1:
        hint = "A classifier needs at least two; check the label column."
    yield _issue(place, "class.only_one", "warning", message, hint)


def _check_balance(place: str, classes: dict[str, int]) -> Iterable[Issue]:
    for name, num in classes.items():
        if num < FEW_SAMPLES:
            message = f"class {name!r} should have at least {FEW_SAMPLES} samples"
            yield _issue(place, "class.few_samples", "info", message, "", num)
    most, least = max(classes, key=classes.__getitem__), min(classes, key=classes.__getitem__)
    if classes[most] >= IMBALANCE * classes[least]:
        message = f"classes are uneven: {classes[most]} x {most!r}, {classes[least]} x {least!r}"
        yield _issue(place, "class.imbalance", "info", message, "")


def _check_names(place: str, classes: dict[str, int]) -> Iterable[Issue]:
    for group in similar_labels(list(classes)):
        message = f"class names are nearly the same: {', '.join(map(repr, group))}"
        yield _issue(place, "class.similar_names", "info", message, "Are they one class?")


def _issue(
    place: str,
    code: str,
    severity: Literal["error", "warning", "info"],
    message: str,
    hint: str,
    value: int | None = None,
) -> Issue:
    return Issue(file=place, code=code, severity=severity, value=value, message=message, hint=hint)
