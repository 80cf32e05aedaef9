"""COCO: one JSON file with `images`, `annotations` and `categories`, or several, one a split.

Time and memory grow with the length of the file; outlines are read when wanted.
"""

import json
import math
import mmap
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import entries_of, files_by_split
from autofocus.data.formats.object_row import ObjectRow, finite_numbers, refuse_classes_of_images
from autofocus.data.formats.pixels import (
    ImageSizes,
    are_fractions,
    fractions_read,
    image_details,
)
from autofocus.data.images.locate import normal_form
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues, short_value
from autofocus.data.rows.records import (
    DetectionRecord,
    ImageRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
    ObjectsRecord,
)
from autofocus.data.rows.values import read_flag
from autofocus.errors import DataError

_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_NUM_SOUGHT = 50  # images by which the folder that they lie in is found
_BOX = re.compile(rb'"bbox"\s*:\s*\[\s*[^\s\]]')
_OUTLINE = re.compile(rb'"segmentation"\s*:\s*(\[\s*\[|\{)')


class Coco(Format):
    """COCO: `images`, `annotations` and `categories` in one JSON file, or in one a split.

    Where no annotation has a place, as in exports of image classification, they are classes.
    """

    name = "coco"
    counts_pixels = True

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a COCO file or a folder with one, there or in `annotations`."""
        return bool(_files(path)) if path.is_dir() else _is_coco(path)

    def splits(self, path: Path) -> dict[str, Path]:
        """Return a folder's files by the splits that their names speak of.

        Raises:
            DataError: If two files speak of one split.
        """
        return files_by_split(path, _files(path)) if path.is_dir() else {}

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return boxes alone where no object has an outline, else both; classes without places."""
        file = _only_file(path)
        with open(file, "rb") as stream, _mapped(stream.fileno()) as data:
            if _OUTLINE.search(data) is not None:
                return [DetectionRecord, InstanceSegmentationRecord]
            if _BOX.search(data) is not None:
                return [DetectionRecord]
        coco = _decode(file)
        if not coco.annotations:
            return [DetectionRecord]
        of_images = [str(annotation.image_id) for annotation in coco.annotations]
        is_one_each = len(of_images) == len({*of_images}) == len(coco.images)
        return [MulticlassRecord if is_one_each else MultilabelRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row an image, in the order of the file; one without annotations is a negative.

        Raises:
            DataError: If there are several files, the file is no COCO, or two classes share a name.
        """
        return _read_file(_only_file(path), record_type, options)


def _only_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = _files(path)
    if len(files) > 1:
        names = ", ".join(str(file) for file in files)
        raise DataError(f"{path}: has several COCO files ({names}); name one of them.")
    return files[0]


def _files(folder: Path) -> Sequence[Path]:
    """Return the COCO files of a folder; those called `instances` leave out keypoints and stuff."""
    places = (folder, folder / "annotations")
    entries = sorted(file for place in places for file in entries_of(place))
    names = [file for file in entries if file.suffix.lower() == ".json"]
    instances = [file for file in names if file.stem.lower().startswith("instances")]
    return [file for file in instances or names if _is_coco(file)]


def _is_coco(file: Path) -> bool:
    if file.suffix.lower() != ".json" or not file.is_file() or not file.stat().st_size:
        return False
    with open(file, "rb") as stream, _mapped(stream.fileno()) as data:
        return all(data.find(key) >= 0 for key in _KEYS)


def _mapped(handle: int) -> mmap.mmap:
    return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)


class _Image(msgspec.Struct, gc=False):
    id: Any = None
    file_name: Any = None
    coco_url: Any = None
    width: Any = None
    height: Any = None


class _Annotation(msgspec.Struct, gc=False):
    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    iscrowd: Any = 0
    # Outlines are nine tenths of a file; for boxes they stay unread.
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class _Category(msgspec.Struct, gc=False):
    id: str | int
    name: str | int


class _Document(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def _read_file(
    file: Path, record_type: type[ImageRecord], options: ReadOptions
) -> Iterator[RawRow | Issue]:
    """Yield the rows of `Coco.read_rows`."""
    coco = _decode(file)
    in_classes = bool(coco.annotations) and not any(map(_has_place, coco.annotations))
    if not in_classes:
        refuse_classes_of_images(record_type, file)
    elif issubclass(record_type, ObjectsRecord):
        raise DataError(
            f"{file}: says which classes images have, not where: no annotation has a bbox or a "
            "segmentation. Name a task of classification with --task."
        )
    names = _class_names(file, coco.categories, {_key(a.category_id) for a in coco.annotations})
    urls_of: defaultdict[str | None, set[str]] = defaultdict(set)
    for image in coco.images:
        urls_of[_key(image.id)].add(_image_url(image))
    # Where two images have one id, nobody can tell whose its annotations are.
    by_image: dict[str | None, list[_Annotation]] = {
        key: [] for key, urls in urls_of.items() if len(urls) == 1 and key is not None
    }
    for annotation in coco.annotations:
        known = by_image.get(_key(annotation.image_id))
        if known is None:
            yield _stray(file, annotation)
        else:
            known.append(annotation)
    base_dir = _image_folder(file, coco.images, options)
    in_fractions = are_fractions(_coordinates(coco, record_type), options)
    if in_fractions and options.coordinates is None:
        yield fractions_read(file)
    reader = _Reader(file, base_dir, record_type, names, ImageSizes(options), in_fractions)
    for image in coco.images:
        annotations = by_image.pop(_key(image.id), None)
        if in_classes and annotations is not None:
            yield reader.read_classes(image, annotations)
        else:
            yield reader.read(image, annotations)


class _Reader:
    def __init__(
        self,
        file: Path,
        base_dir: Path,
        record_type: type[ImageRecord],
        names: dict[str | None, str],
        sizes: ImageSizes,
        in_fractions: bool,
    ) -> None:
        self._file = str(file)
        self._base_dir = base_dir
        self._record_type = record_type
        self._names = names
        self._sizes = sizes
        self._in_fractions = in_fractions

    def read(self, image: _Image, annotations: Sequence[_Annotation] | None) -> RawRow:
        path = f"images[id={image.id}]"
        issues = RowIssues(self._file, None)
        image_url = _image_url(image)
        if annotations is None:
            rule = "must have an id (number or text) of its own"
            issues.error("image_id.repeated", path, rule, short_value(image_url))
        elif not image_url:
            keys = "file_name or coco_url"
            issues.error("image_url.missing", path, f"must name its image with {keys}")
        else:
            pixels = self._sizes.find(self._base_dir, image_url, _said_size(image), path, issues)
            if pixels is not None:
                counted_on = pixels.as_fractions() if self._in_fractions else pixels
                row = ObjectRow(self._record_type, self._file, counted_on)
                row.issues.issues += issues.issues
                for annotation in annotations:
                    self._read_annotation(annotation, pixels.size, row)
                details = image_details(image_url, pixels.upright_size)
                return row.finish(self._base_dir, image_url, details)
        return RawRow(self._file, str(self._base_dir), None, None, tuple(issues.issues))

    def read_classes(self, image: _Image, annotations: Sequence[_Annotation]) -> RawRow:
        """Return the row of an image whose annotations have no place."""
        issues = RowIssues(self._file, None)
        names = []
        for annotation in annotations:
            if (name := self._name(annotation, issues)) is not None:
                names.append(name)
        label = self._record_type.label_of_names(list(dict.fromkeys(names)))
        values = {"image_url": _image_url(image), "label": label}
        is_lost = bool(annotations) and not names
        kept = None if is_lost else values
        return RawRow(self._file, str(self._base_dir), None, kept, tuple(issues.issues))

    def _name(self, annotation: _Annotation, issues: RowIssues) -> str | None:
        key = annotation.category_id
        name = self._names.get(_key(key))
        if name is None:
            path, rule = f"{_place(annotation)}.category_id", "must be the id of a category"
            issues.error("category_id.unknown", path, rule, short_value(key))
        return name

    def _read_annotation(
        self, annotation: _Annotation, size: tuple[int, int], row: ObjectRow
    ) -> None:
        path = _place(annotation)
        name = self._name(annotation, row.issues)
        if name is None:
            row.count_lost()
            return
        is_crowd = read_flag(annotation.iscrowd, f"{path}.iscrowd", row.issues)
        has_box = annotation.bbox is not None and annotation.bbox != []
        wants_outline = self._record_type.object_shape == "outline"
        if has_box and not wants_outline:
            _read_box(annotation.bbox, f"{path}.bbox", name, is_crowd, row)
        elif bytes(annotation.segmentation) not in (b"null", b"[]"):
            _read_outline(annotation, f"{path}.segmentation", size, name, is_crowd, row)
        elif wants_outline:
            hint = "It has a box: is this a detection task?" if has_box else ""
            row.lose("polygon.missing", f"{path}.segmentation", "is missing", hint=hint)
        else:
            row.lose("coordinate.missing", f"{path}.bbox", "is missing")


def _has_place(annotation: _Annotation) -> bool:
    return bool(annotation.bbox) or bytes(annotation.segmentation) not in (b"null", b"[]")


def _coordinates(coco: _Document, record_type: type[ImageRecord]) -> Iterator[float]:
    """Yield the numbers that a record takes its objects' places from; run lengths count pixels."""
    wants_outline = record_type.object_shape == "outline"
    for annotation in coco.annotations:
        if isinstance(annotation.bbox, list) and annotation.bbox and not wants_outline:
            yield from finite_numbers(annotation.bbox) or ()
            continue
        outline = msgspec.json.decode(annotation.segmentation)
        if isinstance(outline, dict):
            yield math.inf
        for ring in outline if isinstance(outline, list) else ():
            yield from (finite_numbers(ring) or ()) if isinstance(ring, list) else ()


def _read_box(box: Any, path: str, name: str, is_crowd: bool, row: ObjectRow) -> None:
    numbers = finite_numbers(box) if isinstance(box, list) and len(box) == 4 else None
    if numbers is None:
        rule = "must be four finite numbers [x, y, width, height]"
        row.lose("coordinate.type", path, rule, short_value(box))
        return
    x, y, width, height = numbers
    row.add_box(path, name, (x, y, x + width, y + height), short_value(box), is_crowd)


def _read_outline(
    annotation: _Annotation,
    path: str,
    size: tuple[int, int],
    name: str,
    is_crowd: bool,
    row: ObjectRow,
) -> None:
    outline = msgspec.json.decode(annotation.segmentation)
    if isinstance(outline, dict):
        # numpy comes with it: plain rows and boxes are checked without.
        from autofocus.data.formats.mask_outlines import outline_of_rle

        try:
            outline = outline_of_rle(outline, size)
        except ValueError as error:
            row.lose("rle.invalid", path, f"must be run lengths: {error}", short_value(outline))
            return
    elif isinstance(outline, list) and len(outline) > 1:
        outline = _without_overlaps(outline, path, size, row)
    row.add_outline(path, name, outline, is_crowd)


def _without_overlaps(
    outline: list[Any], path: str, size: tuple[int, int], row: ObjectRow
) -> list[Any]:
    """Return rings that overlap as one: in COCO they add up, where rows make a hole of it."""
    import numpy as np

    from autofocus.data.formats.mask_outlines import united

    try:
        rings = [np.array(ring, np.float64).reshape(-1, 2) for ring in outline]
    except (TypeError, ValueError):  # reading names it
        return outline
    if any(len(ring) < 3 or not np.isfinite(ring).all() for ring in rings):
        return outline
    together = united(rings, size)
    if together is None:
        return outline
    hint = "What they cover together is taken."
    row.issues.info("polygon.overlap", path, "has rings that overlap", None, hint)
    return together


def _decode(file: Path) -> _Document:
    data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(data, type=_Document)
    except msgspec.ValidationError as error:
        raise DataError(f"{file}: must be COCO: {error}.") from error
    except msgspec.DecodeError:
        return _decode_leniently(file, data)


def _decode_leniently(file: Path, data: bytes) -> _Document:
    """Decode JSON with NaN and Infinity in it, which cost their objects, not the file."""
    try:
        document = json.loads(data, parse_constant=lambda name: name)
        return msgspec.json.decode(msgspec.json.encode(document), type=_Document)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise DataError(f"{file}: must be COCO: {error}.") from error


def _class_names(
    file: Path, categories: Sequence[_Category], used: set[str | None]
) -> dict[str | None, str]:
    """Return the class names by id as text; `used` are the ids that annotations have.

    Raises:
        DataError: If two categories with annotations share a name, two an id, or one has no name.
    """
    ids_of: defaultdict[str, list[str | int]] = defaultdict(list)
    for category in categories:
        # Roboflow puts the project's name first, which may be that of its only class.
        if _key(category.id) in used:
            ids_of[str(category.name)].append(category.id)
    problems = [
        f"{file}: the categories {', '.join(map(str, ids))} are all called {name!r}. "
        "Rename all but one, or give their annotations one category_id."
        for name, ids in ids_of.items()
        if len(ids) > 1
    ]
    names = {_key(category.id): str(category.name) for category in categories}
    if len(names) < len(categories):
        ids_seen = [str(category.id) for category in categories]
        repeated = sorted({key for key in ids_seen if ids_seen.count(key) > 1})
        problems.append(f"{file}: several categories have the id {', '.join(repeated)}.")
    problems += [
        f"{file}: category {key} has an empty name." for key, name in names.items() if not name
    ]
    if problems:
        raise DataError(problems)
    return names


def _stray(file: Path, annotation: _Annotation) -> Issue:
    return Issue(
        file=str(file),
        path=f"{_place(annotation)}.image_id",
        code="image_id.unknown",
        severity="error",
        value=short_value(annotation.image_id),
        message="must be the id of one image",
        hint="The annotation is left out.",
    )


def _image_folder(file: Path, images: Sequence[_Image], options: ReadOptions) -> Path:
    """Return the folder in which the most of the first images are found by their names."""
    if options.image_root is not None:
        return options.image_root
    stem = file.stem.rpartition("_")[2]  # train2017 of instances_train2017
    tops = [top for up in (file.parent, file.parent.parent) for top in (up, up / "images")]
    folders = [folder for top in tops for folder in (top, top / stem, top / "data")]
    names = [name for image in images[:_NUM_SOUGHT] if (name := _image_url(image))]
    found = [
        sum(os.path.isfile(folder / normal_form(name, folder)) for name in names)
        for folder in folders
    ]
    return folders[found.index(max(found))]


def _image_url(image: _Image) -> str:
    if isinstance(image.file_name, str) and image.file_name:
        return image.file_name.replace("\\", "/")
    if isinstance(image.coco_url, str):
        # LVIS has no more; the last folder of it is the split's.
        return "/".join(image.coco_url.split("/")[-2:])
    return ""


def _said_size(image: _Image) -> tuple[int, int] | None:
    numbers = finite_numbers([image.height, image.width])
    if numbers is None or min(numbers) < 1:
        return None
    return int(numbers[0]), int(numbers[1])


def _place(annotation: _Annotation) -> str:
    return f"annotations[id={annotation.id}]"


def _key(value: Any) -> str | None:
    """Return an id as text, for tools write one number both ways; None when it is no id."""
    return str(value) if isinstance(value, int | str) else None
