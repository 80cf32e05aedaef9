"""Formats, splits and tasks of a user's data.

A source is a JSONL file, an MLTable folder (or its file), a folder with `train.jsonl`, or anything
that one of `known_formats()` knows. A folder with an MLTable file is what that file says, whatever
lies beside it; of several other things in one folder the richest that fits the task is read.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from autofocus.data.formats import Format, known_formats
from autofocus.data.formats.csv_table import CsvTable
from autofocus.data.formats.folder import ClassFolders
from autofocus.data.formats.image_folder import ImageFolder
from autofocus.data.formats.layout import (
    SPLIT_NAMES,
    entries_by_name,
    entries_of,
)
from autofocus.data.images.locate import Locator
from autofocus.data.options import ReadOptions
from autofocus.data.rows.ground_truth import named
from autofocus.data.rows.issues import IssueLog
from autofocus.data.rows.jsonl import JsonlFile, parse_line, read_blocks
from autofocus.data.rows.records import RECORD_TYPES, ImageRecord, ObjectsRecord
from autofocus.data.sources.unknown import WHAT_IS_DATA, refusal_of_file, refusal_of_folder
from autofocus.errors import DataError

Split = Literal["test", "validation", "train"]

# Best first: epochs, models and thresholds were chosen on validation images.
_ORDER: Final[tuple[Split, ...]] = ("test", "validation", "train")

MLTABLE_NAME = "MLTable"

# Where files say the labels, names of folders are no classes.
_FOLDERS = ClassFolders.name
_HUGGING_FACE = ImageFolder()
_AFTER_ROWS = (CsvTable.name, _FOLDERS)
_JSONL_SUFFIXES = (".jsonl", ".ndjson", ".manifest")  # the last as SageMaker writes it
_SPLIT_FORMS = (
    "{}.jsonl",
    "{}_annotations.jsonl",
    "{}",
    "{}-mltable-folder",
)
_SPLIT_WORDS = {"trainval", *(name for names in SPLIT_NAMES.values() for name in names)}
# Words in the names of any data set's files and folders.
_COMMON_NAMES = {
    *("annotations", "labels", "data", "dataset", "images", "instances", "imagesets", "main"),
    *("coco", "mltable", "folder", "via", "region", "jpegimages", "masks"),
}

_NUM_ROWS = 1000  # by which the task is told


@dataclass(frozen=True)
class Source:
    """Data that was found.

    Attributes:
        place: Name in messages.
        path: File or folder that holds it; means nothing for a remote file.
        name: Short name for a run folder.
        kind: "jsonl", "mltable" or the name of its format.
        files: Its JSONL files; none in other formats.
        format: Its format where that is not JSON Lines, else None.
        others: Names of other data in the same folder, which is left.
        rivals: Record types of others that are as rich.
    """

    place: str
    path: Path
    name: str
    kind: str
    files: tuple[JsonlFile, ...] = ()
    format: Format | None = None
    others: tuple[str, ...] = ()
    rivals: tuple[type[ImageRecord], ...] = ()


@dataclass(frozen=True)
class Part:
    """Part of a source to measure a model on.

    Attributes:
        source: File or folder that `read_data` takes.
        split: Its split of the source that the user named; None where that has none.
    """

    source: str
    split: Split | None

    def __str__(self) -> str:
        return self.source if self.split is None else f"{self.source} ({self.split} split)"


def find_source(
    source: str | Path, options: ReadOptions, record_type: type[ImageRecord] | None = None
) -> Source:
    """Return the data that `source` names.

    Args:
        source: File, folder or URL.
        options: Columns and maps.
        record_type: What rows are wanted, which decides between several things in one folder;
            None where no task is named yet.

    Raises:
        DataError: If there is nothing, nothing that is data, or no telling which file is meant.
    """
    text = str(source)
    if "://" in text:
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
    found = _sources_at(path)
    if not path.exists() and not found:
        raise DataError(f"{source}: no such file or folder. Give {WHAT_IS_DATA}.")
    if not found:
        raise DataError(refusal_of_folder(path))
    if found[0].format is None and (refusal := refusal_of_file(path)):
        raise DataError(refusal)
    return found[0] if len(found) == 1 else _richest(path, found, options, record_type)


def _sources_at(path: Path) -> list[Source]:
    """Return all that a path may be read as, what knows its data best first."""
    found = [
        Source(str(path), path, _short_name(path), form.name, format=form)
        for form in known_formats()
        if form.is_source(path)
    ]
    if not path.is_dir():
        return found[:1] or ([_jsonl_source(path)] if path.exists() else [])
    # A file of our own form says more than a table does, and less than what says where objects are.
    rows = [_jsonl_source(file) for file in _jsonl_files(path)]
    last = [source for source in found if source.kind in _AFTER_ROWS]
    return [*(source for source in found if source not in last), *rows, *last]


def _jsonl_source(path: Path) -> Source:
    return Source(str(path), path, _short_name(path), "jsonl", (JsonlFile(str(path)),))


def _richest(
    folder: Path,
    found: Sequence[Source],
    options: ReadOptions,
    record_type: type[ImageRecord] | None,
) -> Source:
    """Return what fits the task, objects before classes, the first of equals; others go with it.

    Raises:
        DataError: If several JSONL files are the best, or what may be better cannot be read.
    """
    types_of: list[tuple[Source, list[type[ImageRecord]]]] = []
    problems: list[DataError] = []
    folders = [source for source in found if source.kind == _FOLDERS]
    for source in found:
        if source in folders:
            continue
        try:
            types = _record_types(source, options)
        except DataError as error:
            problems.append(error)
            continue
        if types:
            types_of.append((source, types))

    def rank(types: list[type[ImageRecord]]) -> tuple[bool, bool]:
        return record_type in types, _says_where(types)

    best = max((rank(types) for _, types in types_of), default=(False, False))
    if problems and not best[1]:
        raise problems[0]
    equals = [pair for pair in types_of if rank(pair[1]) == best] or [((folders or found)[0], [])]
    chosen, *rivals = equals
    files = [source.path.name for source, _ in equals if source.kind == "jsonl"]
    if chosen[0].kind == "jsonl" and len(files) > 1:
        raise DataError(
            f"{folder}: has several JSONL files ({', '.join(files)}); name one of them."
        )
    # What cannot be read as data, such as a table of colours, is left without a word.
    left = [source for source, _ in types_of if source is not chosen[0]]
    return replace(
        chosen[0],
        others=tuple(s.path.name if s.kind == "jsonl" else s.kind for s in left),
        rivals=tuple(record_type for _, types in rivals for record_type in types),
    )


def _says_where(types: Iterable[type[ImageRecord]]) -> bool:
    return any(issubclass(record_type, ObjectsRecord) for record_type in types)


def find_splits(source: str | Path) -> dict[str, Path]:
    """Return the splits that a source holds: "train" and, where present, "validation" and "test".

    Each is a source of its own that `find_source` and `read_data` take: a file such as
    `train.jsonl` or `train_annotations.jsonl`, what a format says itself (`ImageSets` of VOC,
    `data.yaml/val` of YOLO, `instances_val2017.json` of COCO), or a folder `train` that is a
    source. Without a training split there are no splits, and with an MLTable file none either.

    Raises:
        DataError: If the source says of several things that they are one split.
    """
    path = Path(source)
    if _mltable_folder(path):
        return {}
    named = _named_splits(path) if path.is_dir() else {}
    if "train" in named and (_is_jsonl(named["train"]) or _mltable_folder(named["train"])):
        return named
    rows = _jsonl_files(path) if path.is_dir() else []
    for form in known_formats():
        if form.name in _AFTER_ROWS and rows:
            break
        if described := form.splits(path):
            return described
        if form.is_source(path):
            break
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


def part_to_measure(source: str, options: ReadOptions, wanted: Split | None = None) -> Part:
    """Return the test split of a source, else its validation split, else all of it.

    Args:
        source: File, folder or URL as the user named it; splits are those of `find_splits`.
        options: Map URLs to folders.
        wanted: The split that the user asks for; None takes the first that there is.

    Raises:
        DataError: If there is no such split.
    """
    text = source
    if "://" in text and options.maps:
        text = Locator(Path.cwd(), None, options.maps).locate(text)
    splits = {} if "://" in text else find_splits(Path(text).expanduser())
    if wanted is not None and wanted not in splits:
        has = f"its splits are {', '.join(splits)}" if splits else "it has no splits"
        raise DataError(f"{source}: has no {wanted} split; {has}.")
    if not splits:
        return Part(source, None)
    first = next(split for split in _ORDER if split in splits)
    split = first if wanted is None else wanted
    return Part(str(splits[split]), split)


def infer_tasks(source: Source, options: ReadOptions) -> list[str]:
    """Return the published names of the tasks that a source's rows fit; several when unclear.

    It is unclear, too, when other data in the folder is as rich and of another task.
    """
    record_types = (*_record_types(source, options), *source.rivals)
    return [name for name, record_type in RECORD_TYPES.items() if record_type in record_types]


def _record_types(source: Source, options: ReadOptions) -> list[type[ImageRecord]]:
    if source.format is not None:
        return source.format.guess(source.path, options)
    return _guess_from_rows(source.files, options.label_column)


def _guess_from_rows(files: Sequence[JsonlFile], label_column: str) -> list[type[ImageRecord]]:
    """Return the type that most of the first rows fit, or several when it is unclear.

    Rows with boxes and polygons fit both tasks; rows whose labels are all empty lists fit three.
    """
    votes: Counter[tuple[type[ImageRecord], ...]] = Counter()
    for label in islice(_labels(files, label_column), _NUM_ROWS):
        votes[_fitting(label)] += 1
    votes.pop((), None)
    # An empty list fits every kind of list: it only counts when there is nothing else.
    any_list = _fitting([])
    clear = Counter({types: num for types, num in votes.items() if types != any_list})
    best = (clear or votes).most_common(1)
    return list(best[0][0]) if best else []


def _fitting(label: Any) -> tuple[type[ImageRecord], ...]:
    return tuple(record_type for record_type in RECORD_TYPES.values() if record_type.fits(label))


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
                    yield named(row, label_column).get(label_column)


def _is_jsonl(path: Path) -> bool:
    return path.suffix.lower() in _JSONL_SUFFIXES and path.is_file()


def _is_source(path: Path) -> bool:
    if not path.is_dir():
        return _is_jsonl(path)
    return bool(_mltable_folder(path)) or bool(_sources_at(path))


def _mltable_folder(path: Path) -> Path | None:
    """Return the folder when `path` is an MLTable file or a folder with one, else None."""
    if path.name == MLTABLE_NAME and path.is_file():
        return path.parent
    return path if (path / MLTABLE_NAME).is_file() else None


def _jsonl_files(folder: Path) -> list[Path]:
    """Return the JSONL files of a folder, but for what Hugging Face's form knows better."""
    files = [path for path in entries_of(folder) if _is_jsonl(path)]
    return [file for file in files if not _HUGGING_FACE.is_source(file)]


def _short_name(path: Path) -> str:
    """Return the name of a data set: of the first file or folder, upwards, that has one."""
    path = path.absolute()
    name = next((p.stem for p in (path, *path.parents) if not _is_common(p.stem)), path.stem)
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "data"


def _is_common(stem: str) -> bool:
    words = [word for word in re.split(r"[\W_]+", stem.lower()) if word]
    return all(word in _COMMON_NAMES or word.rstrip("0123456789") in _SPLIT_WORDS for word in words)
