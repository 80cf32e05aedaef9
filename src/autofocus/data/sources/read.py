"""From whatever a user calls their data to canonical records with an image file each.

A source is a JSONL file, an MLTable folder (or its file), a folder with `train.jsonl`, or anything
that one of `FORMATS` reads. All of them become batches of checked rows; duplicates
and missing files are dealt with here, once, for all of them.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from autofocus.data.formats import FORMATS, Format, RawRow
from autofocus.data.formats.layout import SPLIT_NAMES, entries_by_name
from autofocus.data.options import ReadOptions
from autofocus.data.rows.duplicates import repeated_issue, resolve
from autofocus.data.rows.issues import Issue, IssueLog
from autofocus.data.rows.json_errors import INVALID_LINE_CODES
from autofocus.data.rows.jsonl import BLOCK_BYTES, JsonlFile, RowBlock, Schema, read_batches
from autofocus.data.rows.records import RECORD_TYPES, ImageRecord
from autofocus.data.rows.wire import are_sound, build_row_type
from autofocus.data.sources.guess import guess_from_rows
from autofocus.errors import DataError
from autofocus.runtime import Track, no_progress

__all__ = [
    "Data",
    "ReadOptions",
    "Source",
    "find_source",
    "find_splits",
    "infer_tasks",
    "read_data",
    "read_found",
    "read_rows",
]

RecordT = TypeVar("RecordT", bound=ImageRecord)

_log = logging.getLogger(__name__)

MLTABLE_NAME = "MLTable"

# Rows alone are checked without what YAML and the network need: the imports below are late so
# that `data check --no-images` starts at once.
_MAX_PROBLEMS = 20
_MAX_PROBLEMS_PER_CODE = 3
_WHAT_IS_DATA = (
    "a JSONL file, a folder with an MLTable file, a CSV of filename,labels, a folder with a folder "
    "of images for each class, or what COCO, Pascal VOC, YOLO, VIA or masks look like"
)
_JSONL_SUFFIXES = (".jsonl", ".ndjson")
_SPLIT_FORMS = (
    "{}.jsonl",
    "{}_annotations.jsonl",
    "{}",
    "{}-mltable-folder",
)
_SPLIT_WORDS = {"trainval", *(name for names in SPLIT_NAMES.values() for name in names)}
# What the files and folders of any data set are called.
_COMMON_NAMES = {
    *("annotations", "labels", "data", "dataset", "images", "instances", "imagesets", "main"),
    *("coco", "mltable", "folder", "via", "region", "jpegimages", "masks"),
}


@dataclass(frozen=True)
class Source:
    """Data that was found.

    Attributes:
        place: How messages name it.
        path: File or folder that holds it; means nothing for a remote file.
        name: Short name for a run folder.
        kind: "jsonl", "mltable" or the name of its format.
        files: Its JSONL files; none in other formats.
        format: Its format where that is not JSON Lines, else None.
    """

    place: str
    path: Path
    name: str
    kind: str
    files: tuple[JsonlFile, ...] = ()
    format: Format | None = None


@dataclass
class Data(Generic[RecordT]):
    """What was read.

    Attributes:
        records: Canonical records, one an image, duplicates resolved.
        locations: Where each record's image is: an absolute path or a URL that can be opened.
        issues: What was wrong.
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


def find_source(source: str | Path, options: ReadOptions) -> Source:
    """Return what kind of data `source` is.

    Raises:
        DataError: If there is nothing, or nothing that is data.
    """
    text = str(source)
    if "://" in text:
        from autofocus.data.images.locate import Locator

        text = Locator(Path.cwd(), None, options.maps).locate(text)
        if "://" in text:
            path = Path(text)
            return Source(text, path, _short_name(path), "jsonl", (JsonlFile(text),))
    given = Path(text).expanduser()
    path = find_splits(given).get("train", given)
    if folder := _mltable_folder(path):
        from autofocus.data.sources.mltable import read_mltable

        files = tuple(read_mltable(folder, options.maps))
        return Source(str(folder), folder, _short_name(folder), "mltable", files)
    form = next((form for form in FORMATS if form.is_source(path)), None)
    if form is not None:
        return Source(str(path), path, _short_name(path), form.name, format=form)
    if not path.exists():
        raise DataError(f"{source}: no such file or folder. Give {_WHAT_IS_DATA}.")
    if path.is_dir():
        path = _only_jsonl(path)
    return Source(str(path), path, _short_name(path), "jsonl", (JsonlFile(str(path)),))


def find_splits(source: str | Path) -> dict[str, Path]:
    """Return the splits that a source holds: "train" and, where present, "validation" and "test".

    Each is a source of its own that `find_source` and `read_data` take: a file such as
    `train.jsonl` or `train_annotations.jsonl`, what a format says itself (`ImageSets` of VOC,
    `data.yaml/val` of YOLO, `instances_val2017.json` of COCO), or a folder `train` that is a
    source. Without a training split there are no splits.

    Raises:
        DataError: If the source says of several things that they are one split.
    """
    path = Path(source)
    named = _named_splits(path) if path.is_dir() else {}
    if "train" in named and (_is_jsonl(named["train"]) or _mltable_folder(named["train"])):
        return named
    for form in FORMATS:
        if described := form.splits(path):
            return described
    return named if "train" in named else {}


def _named_splits(folder: Path) -> dict[str, Path]:
    entries = entries_by_name(folder)
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        forms = (form.format(name) for form in _SPLIT_FORMS for name in names)
        candidates = (entries[form] for form in forms if form in entries)
        path = next((path for path in candidates if _is_source(path)), None)
        if path is not None:
            found[split] = path
    return found


def infer_tasks(source: Source, options: ReadOptions) -> list[str]:
    """Return the published names of the tasks that a source's rows fit; several when unclear."""
    if source.format is not None:
        record_types = source.format.guess(source.path, options)
    else:
        record_types = guess_from_rows(source.files, options.label_column)
    return [name for name, record_type in RECORD_TYPES.items() if record_type in record_types]


def read_rows(
    source: Source,
    schema: Schema,
    options: ReadOptions,
    log: IssueLog,
    track: Track = no_progress,
) -> Iterator[RowBlock]:
    """Yield a source's checked rows in batches; images are not looked at."""
    if source.format is not None:
        rows = source.format.read_rows(source.path, schema.record_type, options)
        yield from _check_raw_rows(rows, Schema(schema.record_type), log, track)
        return
    for file in source.files:
        description = f"reading {os.path.basename(file.path)}"
        yield from track(read_batches(file, schema, log), description, _num_blocks(file))


def read_data(
    source: str | Path,
    record_type: type[RecordT],
    options: ReadOptions | None = None,
    track: Track = no_progress,
) -> Data[RecordT]:
    """Read all records of a source.

    Args:
        source: JSONL file, MLTable folder, image folder or CSV.
        record_type: What its rows must be.
        options: Columns, image root, maps, and what to do with what cannot be used.
        track: Shows progress.

    Raises:
        DataError: If there is no such data, nothing in it can be used, or something cannot be used
            and `options.on_invalid` is "error"; names the first problems and counts all.
    """
    options = options or ReadOptions()
    found = find_source(source, options)
    schema = Schema(record_type, options.image_column, options.label_column)
    return read_found(found, schema, options, IssueLog(), track)


def read_found(
    source: Source, schema: Schema, options: ReadOptions, log: IssueLog, track: Track
) -> Data[Any]:
    """Read all records of a source that `find_source` returned; see `read_data`."""
    from autofocus.data.images.files import ImageFiles

    images = ImageFiles(options, log)
    collected = _Collected()
    num_rows = 0
    for batch in read_rows(source, schema, options, log, track):
        num_rows += batch.num_rows
        for row, line in zip(batch.rows, batch.lines, strict=True):
            location = images.find(batch.base_dir, row.image_url, batch.file, line)
            if location is not None:
                place = (batch.file, line)
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
        self.records[index] = resolve(self.records[index], record)
        self.locations[index] = location


def _check_raw_rows(
    rows: Iterable[RawRow | Issue], schema: Schema, log: IssueLog, track: Track
) -> Iterator[RowBlock]:
    row_type = build_row_type(schema.record_type, schema.image_column, schema.label_column)
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


def _is_jsonl(path: Path) -> bool:
    return path.suffix.lower() in _JSONL_SUFFIXES and path.is_file()


def _is_source(path: Path) -> bool:
    if not path.is_dir():
        return _is_jsonl(path)
    return bool(_mltable_folder(path)) or any(form.is_source(path) for form in FORMATS)


def _mltable_folder(path: Path) -> Path | None:
    """Return the folder when `path` is an MLTable file or a folder with one, else None."""
    if path.name == MLTABLE_NAME and path.is_file():
        return path.parent
    return path if (path / MLTABLE_NAME).is_file() else None


def _only_jsonl(folder: Path) -> Path:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _JSONL_SUFFIXES)
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{folder}: has several JSONL files ({names}); name one of them.")
    raise DataError(f"{folder}: holds no data that is known. Give {_WHAT_IS_DATA}.")


def _num_blocks(file: JsonlFile) -> int | None:
    if "://" in file.path:
        return None
    try:
        return -(-os.path.getsize(file.path) // BLOCK_BYTES)
    except OSError:  # the reader itself says what is wrong
        return None


def _short_name(path: Path) -> str:
    """Return the name of a data set: of the first file or folder, upwards, that has one."""
    path = path.absolute()
    name = next((p.stem for p in (path, *path.parents) if not _is_common(p.stem)), path.stem)
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "data"


def _is_common(stem: str) -> bool:
    words = [word for word in re.split(r"[\W_]+", stem.lower()) if word]
    return all(word in _COMMON_NAMES or word.rstrip("0123456789") in _SPLIT_WORDS for word in words)
