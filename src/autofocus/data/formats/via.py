"""VGG Image Annotator: one JSON of files with regions, as a project or as exported, or a CSV.

The CSV of a folder holds what its JSON does; of both the JSON is read.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autofocus.data.formats.base import Format, RawRow
from autofocus.data.formats.layout import entries_of, files_by_split
from autofocus.data.formats.object_row import ObjectRow, refuse_classes_of_images
from autofocus.data.formats.pixels import (
    ImageSizes,
    are_fractions,
    fractions_read,
    image_details,
)
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, RowIssues, short_value
from autofocus.data.rows.records import DetectionRecord, ImageRecord, InstanceSegmentationRecord
from autofocus.errors import DataError

_PROJECT_KEY = "_via_img_metadata"
_MARKS = {".json": b'"regions"', ".csv": b"region_shape_attributes"}
_HEAD_BYTES = 1 << 20
_NUM_CORNERS = 64  # of an outline that stands for an ellipse


class Via(Format):
    """VGG Image Annotator: one JSON or CSV file of images with regions, or one a split."""

    name = "via"
    counts_pixels = True

    def is_source(self, path: Path) -> bool:
        """Return whether `path` is a VIA file or a folder with one."""
        return bool(_files(path)) if path.is_dir() else _is_via(path)

    def splits(self, path: Path) -> dict[str, Path]:
        """Return a folder's files by the splits that their names speak of.

        Raises:
            DataError: If two files speak of one split.
        """
        return files_by_split(path, _files(path)) if path.is_dir() else {}

    def guess(self, path: Path, options: ReadOptions) -> list[type[ImageRecord]]:
        """Return boxes where all regions are rectangles, else outlines."""
        shapes = {
            _shape(region).get("name")
            for entry in _read(_file(path)).values()
            for region in _regions(entry)
        }
        return [DetectionRecord] if shapes <= {"rect"} else [InstanceSegmentationRecord]

    def read_rows(
        self, path: Path, record_type: type[ImageRecord], options: ReadOptions
    ) -> Iterator[RawRow | Issue]:
        """Yield a row a file, in the order of the JSON.

        Raises:
            DataError: If there are several files, the file is damaged, or several attributes of
                regions may be the class.
        """
        refuse_classes_of_images(record_type, path)
        file = _file(path)
        entries = _read(file)
        attribute = _class_attribute(file, entries, options.label_column)
        base_dir = _image_folder(file, entries)
        sizes = ImageSizes(options)
        in_fractions = are_fractions(_coordinates(entries), options)
        if in_fractions and options.coordinates is None:
            yield fractions_read(file)
        for key, entry in entries.items():
            issues = RowIssues(str(file), None)
            image_url = str(entry.get("filename") or "")
            place = f"[{json.dumps(key)}]"
            pixels = sizes.find(base_dir, image_url, None, place, issues)
            if pixels is None:
                yield RawRow(str(file), str(base_dir), None, None, tuple(issues.issues))
                continue
            counted_on = pixels.as_fractions() if in_fractions else pixels
            row = ObjectRow(record_type, str(file), counted_on)
            for i, region in enumerate(_regions(entry)):
                _read_region(region, f"{place}.regions[{i}]", attribute, options.class_name, row)
            yield row.finish(base_dir, image_url, image_details(image_url, pixels.upright_size))


def _read_region(
    region: Mapping[str, Any], path: str, attribute: str | None, default: str, row: ObjectRow
) -> None:
    name = default if attribute is None else _class_name(_attributes(region).get(attribute))
    if not name:
        place = f"{path}.region_attributes.{attribute}"
        row.lose("label.missing", place, "must name one class", short_value(_attributes(region)))
        return
    path = f"{path}.shape_attributes"
    shape = _shape(region)
    try:
        outline = _outline(shape)
    except (KeyError, TypeError, ValueError):
        rule = "must be a polygon, polyline, rect, circle or ellipse with its numbers"
        row.lose("object.type", path, rule, short_value(shape))
        return
    row.add_outline(path, name, [outline])


def _coordinates(entries: Mapping[str, Any]) -> Iterator[float]:
    for region in (region for entry in entries.values() for region in _regions(entry)):
        try:
            yield from _outline(_shape(region))
        except (KeyError, TypeError, ValueError):  # reading names it
            continue


def _outline(shape: Mapping[str, Any]) -> list[float]:
    """Return a shape's points as one list.

    Raises:
        KeyError, TypeError, ValueError: If it is no shape with an inside.
    """
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        return [float(number) for pair in pairs for number in pair]
    if kind == "rect":
        left, top = float(shape["x"]), float(shape["y"])
        right, bottom = left + float(shape["width"]), top + float(shape["height"])
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle":
        return _ellipse(shape, float(shape["r"]), float(shape["r"]))
    if kind == "ellipse":
        return _ellipse(shape, float(shape["rx"]), float(shape["ry"]))
    raise ValueError(kind)


def _ellipse(shape: Mapping[str, Any], along: float, across: float) -> list[float]:
    x, y = float(shape["cx"]), float(shape["cy"])
    turn = float(shape.get("theta", 0))
    points = []
    for i in range(_NUM_CORNERS):
        angle = 2 * math.pi * i / _NUM_CORNERS
        u, v = along * math.cos(angle), across * math.sin(angle)
        points.append(x + u * math.cos(turn) - v * math.sin(turn))
        points.append(y + u * math.sin(turn) + v * math.cos(turn))
    return points


def _class_attribute(file: Path, entries: Mapping[str, Any], wanted: str) -> str | None:
    """Return the attribute of regions that is their class; None where they have none."""
    names_found = dict.fromkeys(
        name
        for entry in entries.values()
        for region in _regions(entry)
        for name in _attributes(region)
    )
    if not names_found:
        return None
    if wanted in names_found:
        return wanted
    if len(names_found) > 1:
        names = ", ".join(map(repr, names_found))
        raise DataError(
            f"{file}: regions have the attributes {names}; say which is the class with "
            "--target-column."
        )
    return next(iter(names_found))


def _class_name(value: Any) -> str | None:
    """Return the class that an attribute names; of check boxes, the only one that is set."""
    if isinstance(value, dict):
        chosen = [name for name, is_set in value.items() if is_set]
        return chosen[0] if len(chosen) == 1 else None
    return str(value) if isinstance(value, str | int) else None


def _regions(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a file's regions: a list, or numbered as the first version wrote them."""
    regions = entry.get("regions") or []
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    return [region if isinstance(region, dict) else {} for region in regions]


def _shape(region: Mapping[str, Any]) -> Mapping[str, Any]:
    shape = region.get("shape_attributes")
    return shape if isinstance(shape, dict) else {}


def _attributes(region: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = region.get("region_attributes")
    return attributes if isinstance(attributes, dict) else {}


def _image_folder(file: Path, entries: Mapping[str, Any]) -> Path:
    names = [str(entry.get("filename")) for entry in entries.values()][:20]
    folders = [file.parent, file.parent / "images"]
    found = [sum((folder / name).is_file() for name in names) for folder in folders]
    return folders[found.index(max(found))]


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = _files(path)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{path}: has several files of VIA ({names}); name one of them.")
    return files[0]


def _files(folder: Path) -> list[Path]:
    """Return the VIA files of a folder: those of JSON where there are any."""
    files = [file for file in entries_of(folder) if _is_via(file)]
    return [file for file in files if file.suffix.lower() == ".json"] or files


def _is_via(file: Path) -> bool:
    mark = _MARKS.get(file.suffix.lower())
    if mark is None or not file.is_file():
        return False
    with open(file, "rb") as stream:
        return mark in stream.read(_HEAD_BYTES)


def _read_table(text: str) -> dict[str, dict[str, Any]]:
    """Return the entries of a CSV, a row a region, as the JSON has them."""
    entries: dict[str, dict[str, Any]] = {}
    # The first version begins the header with a hash.
    for row in csv.DictReader(io.StringIO(text.removeprefix("#"), newline="")):
        name = row["filename"]
        regions = entries.setdefault(name, {"filename": name, "regions": []})["regions"]
        shape = json.loads(row["region_shape_attributes"])
        if shape:
            attributes = json.loads(row["region_attributes"] or "{}")
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
    return entries


def _read(file: Path) -> dict[str, dict[str, Any]]:
    is_table = file.suffix.lower() == ".csv"
    try:
        text = file.read_text(encoding="utf-8-sig")
        document = _read_table(text) if is_table else json.loads(text)
        entries = document.get(_PROJECT_KEY, document)
        read = {key: entry for key, entry in entries.items() if isinstance(entry, dict)}
    except (ValueError, AttributeError, RecursionError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{file}: must be a project or annotations of VIA: {error}.") from error
    if not any("regions" in entry for entry in read.values()):
        raise DataError(f"{file}: no file in it has regions.")
    return read
