"""From a source that was found to canonical records with an image file each.

Sources of all formats become blocks of checked rows; duplicates and missing files are dealt with
here, once, for all of them.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from autofocus.data.formats import RawRow
from autofocus.data.formats.layout import SPLIT_OF
from autofocus.data.formats.masks import MaskImages
from autofocus.data.images.files import ImageFiles
from autofocus.data.options import ReadOptions
from autofocus.data.rows.duplicates import repeated_issue
from autofocus.data.rows.issues import Issue, IssueLog
from autofocus.data.rows.jsonl import (
    BLOCK_BYTES,
    INVALID_LINE_CODES,
    JsonlFile,
    RowBlock,
    Schema,
    read_row_blocks,
)
from autofocus.data.rows.records import ImageRecord
from autofocus.data.rows.wire import are_sound, build_row_type
from autofocus.data.sources.find import Source, find_source
from autofocus.errors import DataError
from autofocus.runtime import Track, no_progress

RecordT = TypeVar("RecordT", bound=ImageRecord)

_log = logging.getLogger(__name__)

_MAX_PROBLEMS = 20
_NUM_LOOKED_AT = 10  # rows of a block by which splits are told; all would be felt in large files
_MAX_PROBLEMS_PER_CODE = 3


@dataclass
class Data(Generic[RecordT]):
    """Records of a source.

    Attributes:
        records: Canonical records, one an image, duplicates resolved.
        locations: Place of each record's image: an absolute path or a URL that can be opened.
        issues: Issues of its rows and images.
        num_rows: Rows seen.
        name: Short name for the run folder.
        fingerprint: SHA-256, hex, of the canonical rows in the order of their image URLs.
    """

    records: list[RecordT]
    locations: list[str]
    issues: IssueLog
    num_rows: int
    name: str
    fingerprint: str


def read_rows(
    source: Source,
    schema: Schema,
    options: ReadOptions,
    log: IssueLog,
    track: Track = no_progress,
) -> Iterator[RowBlock]:
    """Yield a source's checked rows in blocks; images are not looked at.

    Raises:
        DataError: If the source cannot be read as such rows, or as what the options say.
    """
    counts_pixels = source.format is not None and source.format.counts_pixels
    if options.coordinates is not None and not counts_pixels:
        raise DataError(
            f"{source.place}: --coordinates (data.coordinates) is about formats that count pixels, "
            f"got a source of the kind {source.kind}; leave it out. For JSON Lines 'data convert' "
            "has --absolute."
        )
    if options.masks is not None and source.kind != MaskImages.name:
        raise DataError(
            f"{source.place}: --masks (data.masks) is about masks whose pixels are numbers, got a "
            f"source of the kind {source.kind}; leave it out."
        )
    if source.others:
        log.add(_others_left(source))
    folders: set[str] = set()
    for number, block in enumerate(_read_blocks(source, schema, options, log, track)):
        # Of a small file, which is one block, all are.
        some = block.rows[:: 1 + len(block.rows) // _NUM_LOOKED_AT] if number else block.rows
        folders.update(row.image_url.rpartition("/")[0] for row in some)
        yield block
    if issue := _mixed_splits(source, folders):
        log.add(issue)


def _read_blocks(
    source: Source, schema: Schema, options: ReadOptions, log: IssueLog, track: Track
) -> Iterator[RowBlock]:
    if source.format is not None:
        rows = source.format.read_rows(source.path, schema.record_type, options)
        own = Schema(schema.record_type, group_column=schema.group_column and "group")
        yield from _check_raw_rows(rows, own, log, track)
        return
    for file in source.files:
        description = f"reading {os.path.basename(file.path)}"
        yield from track(read_row_blocks(file, schema, log), description, _num_blocks(file))


def _mixed_splits(source: Source, folders: Iterable[str]) -> Issue | None:
    """Return the issue of rows that are read as one though their images lie in several splits."""
    named: dict[str, str] = {}
    for folder in sorted(folders):
        # The innermost counts: the whole may lie in somebody's folder called test.
        parts = reversed(folder.lower().split("/"))
        if split := next((SPLIT_OF[part] for part in parts if part in SPLIT_OF), None):
            named.setdefault(split, folder)
    if len(named) < 2:
        return None
    return Issue(
        file=source.place,
        code="source.mixed_splits",
        severity="warning",
        value=", ".join(named.values()),
        message="should be of one split, and its images lie in folders of several",
        hint="All of it is read as one. Divide it into files of their own, such as train.jsonl.",
    )


def read_data(
    source: str | Path,
    record_type: type[RecordT],
    options: ReadOptions | None = None,
    track: Track = no_progress,
) -> Data[RecordT]:
    """Read all records of a source.

    Args:
        source: JSONL file, MLTable folder, image folder or CSV.
        record_type: Record type of its rows.
        options: Columns, image root, maps, and what to do with what cannot be used.
        track: Progress display.

    Raises:
        DataError: If there is no such data, nothing in it can be used, or something cannot be used
            and `options.on_invalid` is "error"; names the first problems and counts all.
    """
    options = options or ReadOptions()
    found = find_source(source, options, record_type)
    names = (options.image_column, options.label_column, options.group_column)
    schema = Schema(record_type, *names)
    return read_found(found, schema, options, IssueLog(), track)


def read_found(
    source: Source, schema: Schema, options: ReadOptions, log: IssueLog, track: Track
) -> Data[Any]:
    """Read all records of a source that `find_source` returned; see `read_data`."""
    images = ImageFiles(options, log)
    collected = _Collected()
    num_rows = 0
    for block in read_rows(source, schema, options, log, track):
        num_rows += block.num_rows
        for row, line in zip(block.rows, block.lines, strict=True):
            location = images.find(block.base_dir, row.image_url, block.file, line)
            if location is not None:
                place = (block.file, line)
                collected.add(schema, schema.record(row), location, place, log)
    images.flush()
    _refuse_or_report(source, options, log, num_rows, collected)
    return Data(
        records=collected.records,
        locations=collected.locations,
        issues=log,
        num_rows=num_rows,
        name=source.name,
        fingerprint=_fingerprint(collected.records),
    )


def _others_left(source: Source) -> Issue:
    return Issue(
        file=source.place,
        code="source.others",
        severity="warning",
        value=", ".join(source.others),
        message=f"is read as {source.kind}, and the folder holds other data",
        hint="Name the file that is meant, or the task with --task.",
    )


class _Collected:
    """Records by image, in the order in which the images first came."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.locations: list[str] = []
        self._places: list[tuple[str, int | None]] = []
        self._index: dict[str, int] = {}

    def add(
        self,
        schema: Schema,
        record: ImageRecord,
        location: str,
        place: tuple[str, int | None],
        log: IssueLog,
    ) -> None:
        index = self._index.setdefault(record.image_url, len(self.records))
        if index == len(self.records):
            self.records.append(record)
            self.locations.append(location)
            self._places.append(place)
            return
        first = self._places[index]
        log.add(
            repeated_issue(schema.record_type, schema.image_column, place, first, record.image_url)
        )
        self.records[index] = record.after(self.records[index])
        self.locations[index] = location


def _check_raw_rows(
    rows: Iterable[RawRow | Issue], schema: Schema, log: IssueLog, track: Track
) -> Iterator[RowBlock]:
    names = (schema.image_column, schema.label_column, schema.group_column)
    row_type = build_row_type(schema.record_type, *names)
    for row in track(rows, "reading"):
        if isinstance(row, Issue):
            log.add(row)
            continue
        log.add_all(row.issues)
        sound = None if row.values is None else _sound(row.values, row_type, schema)
        if sound is None and row.values is not None:
            sound, issues = schema.check(row.values, row.file, row.line)
            log.add_all(issues)
        kept = [] if sound is None else [sound]
        yield RowBlock(row.file, row.base_dir, kept, [row.line] * len(kept), 1)


def _sound(values: dict[str, Any], row_type: type[msgspec.Struct], schema: Schema) -> Any | None:
    """Return a row with which nothing is wrong, or None."""
    try:
        row = msgspec.convert(values, row_type)
    except msgspec.ValidationError:
        return None
    return row if are_sound(schema.record_type, [row]) else None


def _refuse_or_report(
    source: Source, options: ReadOptions, log: IssueLog, num_rows: int, collected: _Collected
) -> None:
    num_lost_lines = sum(
        log.counts[code] for code in INVALID_LINE_CODES if log.severities.get(code) == "error"
    )
    if not collected.records:
        why = f"none of its {num_rows} rows can be used" if num_rows else "has no rows"
        raise DataError([*_problems(log), f"{source.place}: {why}."])
    if log.num_errors and options.on_invalid == "error":
        raise DataError(
            [*_problems(log), f"{source.place}: 'on_invalid: error' allows no row that is lost."]
        )
    if num_lost_lines and any(file.invalid_lines == "error" for file in source.files):
        raise DataError(
            [
                *_problems(log),
                f"{source.place}: {num_lost_lines} lines hold no row, and the MLTable file says "
                "'invalid_lines: error'; 'drop' goes on without them.",
            ]
        )
    if log.num_errors or log.num_warnings:
        _log.warning("%s: %d of %d rows are used", source.place, len(collected.records), num_rows)
        for line in log.summary():
            _log.warning("  %s", line)


def _problems(log: IssueLog) -> list[str]:
    """Return the first errors of each kind, and how many more there are."""
    examples = log.examples()
    errors = [
        issue
        for code in log.codes()
        if log.severities[code] == "error"
        for issue in [e for e in examples if e.code == code][:_MAX_PROBLEMS_PER_CODE]
    ]
    problems = [issue.text() for issue in errors[:_MAX_PROBLEMS]]
    num_more = log.num_errors - len(problems)
    if num_more > 0:
        counts = ", ".join(
            f"{num} x {code}"
            for code, num in log.counts.most_common()
            if log.severities[code] == "error"
        )
        problems.append(
            f"… and {num_more} more; in all: {counts}. 'autofocus data check -o DIR' writes all."
        )
    return problems


def _fingerprint(records: Iterable[ImageRecord]) -> str:
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder()
    for record in sorted(records, key=lambda record: record.image_url):
        digest.update(encoder.encode(record) + b"\n")
    return digest.hexdigest()


def _num_blocks(file: JsonlFile) -> int | None:
    if "://" in file.path:
        return None
    try:
        return -(-os.path.getsize(file.path) // BLOCK_BYTES)
    except OSError:  # the reader itself says what is wrong
        return None
