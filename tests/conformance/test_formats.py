"""Every format passes this suite; a new one needs a line in `WRITERS`.

One of another distribution adds its line from a pytest plugin (docs/extending.md).
"""

import os
from pathlib import Path

import pytest

from autofocus.data.formats import FORMATS
from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import (
    DetectionRecord,
    ImageRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
)
from autofocus.data.sources.check import check_source
from autofocus.data.sources.convert import convert_to_jsonl
from autofocus.data.sources.find import find_source, find_splits, infer_tasks
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.object_sources import CAN, CUP, HEIGHT, OUTSIDE, WIDTH, WRITERS, Scene, Thing

OPTIONS = ReadOptions()
SCENE: Scene = {"a": [CAN], "b": [CUP, CAN], "c": []}
# Formats in which an object can be where no image is.
WITH_COORDINATES = ["coco", "imagefolder", "via", "voc", "yolo"]
WITH_OBJECTS = [*WITH_COORDINATES, "masks", "object_masks"]


@pytest.fixture(params=WRITERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def record_types(name: str, path: Path) -> list[type[ImageRecord]]:
    return FORMATS[name].guess(path, OPTIONS)


def box_of(label: object) -> tuple[float, ...]:
    """Return an object's box in pixels."""
    if hasattr(label, "polygon"):
        x = [value for ring in label.polygon for value in ring[::2]]
        y = [value for ring in label.polygon for value in ring[1::2]]
        box = (min(x), min(y), max(x), max(y))
    else:
        box = (label.top_x, label.top_y, label.bottom_x, label.bottom_y)
    return tuple(side * value for side, value in zip((WIDTH, HEIGHT) * 2, box, strict=True))


def test_every_format_has_a_writer() -> None:
    assert WRITERS.keys() == FORMATS.keys()
    assert all(form.name == name for name, form in FORMATS.items())


def test_it_is_recognised_as_itself_and_as_a_task(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, SCENE)
    source = find_source(path, OPTIONS)
    assert source.kind == name
    assert infer_tasks(source, OPTIONS)
    assert not FORMATS[name].is_source(tmp_path / "nothing")
    assert FORMATS[name].splits(tmp_path / "nothing") == {}


def test_all_its_guesses_can_be_read_and_checked(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, SCENE)
    source = find_source(path, OPTIONS)
    for record_type in record_types(name, source.path):
        data = read_data(path, record_type)
        assert len(data.records) == len({record.image_url for record in data.records}) >= 2
        assert all(os.path.isfile(quantile) for quantile in data.locations)
        report = check_source(source, record_type, OPTIONS, "pixels")
        assert report.num_valid == len(data.records)
        assert report.issues.num_errors == 0


def test_reading_twice_gives_the_same(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, SCENE)
    record_type = record_types(name, find_source(path, OPTIONS).path)[0]
    assert read_data(path, record_type).fingerprint == read_data(path, record_type).fingerprint


def test_converted_rows_say_the_same(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / "source", SCENE)
    for record_type in record_types(name, find_source(path, OPTIONS).path):
        out = tmp_path / record_type.__name__
        written = convert_to_jsonl(path, record_type, OPTIONS, out)
        before, after = read_data(path, record_type), read_data(out, record_type)
        assert [r.label for r in after.records] == [r.label for r in before.records]
        assert after.locations == before.locations
        assert after.issues.num_errors == 0
        assert written[0].num_records == len(before.records)
        assert not (out / "dropped.jsonl").exists()


def test_a_folder_of_split_folders_is_found(name: str, tmp_path: Path) -> None:
    for split, key in (("train", "a"), ("valid", "b"), ("test", "d")):
        both: Scene = {key: [CAN, CUP] if name == "csv" else [CAN], f"{key}2": [CUP]}
        WRITERS[name](tmp_path / split, both)
    splits = find_splits(tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    assert {Path(quantile).name for quantile in splits.values()} == {"train", "valid", "test"}
    record_type = record_types(name, find_source(tmp_path, OPTIONS).path)[0]
    train = {os.path.realpath(quantile) for quantile in read_data(tmp_path, record_type).locations}
    assert all(str(tmp_path / "train") in quantile for quantile in train)


@pytest.mark.parametrize("name", WITH_OBJECTS)
def test_objects_are_where_they_were_drawn(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, SCENE)
    data = read_data(path, DetectionRecord)
    found = {
        Path(quantile).stem: [box_of(label) for label in record.label]
        for quantile, record in zip(data.locations, data.records, strict=True)
    }
    # Numbered and single masks come in the order of their numbers and names: of the scene.
    assert found == {
        key: [pytest.approx(thing.box, abs=1e-4) for thing in things]
        for key, things in SCENE.items()
    }
    details = data.records[0].image_details
    assert (details.width, details.height, details.format) == (WIDTH, HEIGHT, "png")
    if name not in ("masks", "object_masks"):
        labels = [label.label for record in data.records for label in record.label]
        assert labels == [thing.label for things in SCENE.values() for thing in things]


@pytest.mark.parametrize("name", WITH_OBJECTS)
def test_outlines_of_detection_are_its_boxes(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, SCENE)
    if InstanceSegmentationRecord not in record_types(name, find_source(path, OPTIONS).path):
        with pytest.raises(DataError, match=r"wants outlines|must have an outline"):
            read_data(path, InstanceSegmentationRecord, ReadOptions(on_invalid="error"))
        return
    outlines = read_data(path, InstanceSegmentationRecord)
    boxes = read_data(path, DetectionRecord)
    for outlined, boxed in zip(outlines.records, boxes.records, strict=True):
        for outline, box in zip(outlined.label, boxed.label, strict=True):
            assert box_of(outline) == pytest.approx(box_of(box), abs=1e-4)
            assert len(outline.polygon) == 1


@pytest.mark.parametrize("name", WITH_OBJECTS)
def test_an_image_without_objects_is_a_negative(name: str, tmp_path: Path) -> None:
    data = read_data(WRITERS[name](tmp_path, SCENE), DetectionRecord)
    pairs = zip(data.locations, data.records, strict=True)
    assert [Path(quantile).stem for quantile, record in pairs if not record.label] == ["c"]


@pytest.mark.parametrize("name", WITH_OBJECTS)
def test_a_class_an_image_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="where objects are"):
        read_data(WRITERS[name](tmp_path, SCENE), MulticlassRecord)


@pytest.mark.parametrize("name", WITH_COORDINATES)
def test_a_bad_object_costs_itself_and_is_named(name: str, tmp_path: Path) -> None:
    scene: Scene = {"a": [CAN], "b": [CUP, OUTSIDE, CAN], "c": [OUTSIDE], "d": []}
    path = WRITERS[name](tmp_path, scene)
    data = read_data(path, DetectionRecord)
    assert data.num_rows == 4
    assert [Path(p).stem for p in data.locations] == ["a", "b", "d"], "c is no negative"
    assert [len(record.label) for record in data.records] == [1, 2, 0]
    errors = [issue for issue in data.issues.examples() if issue.severity == "error"]
    assert [issue.code.rpartition(".")[2] for issue in errors] == [
        "out_of_range",
        "out_of_range",
        "nothing_valid",
    ]
    assert all(os.path.isfile(issue.file) for issue in errors), "the file that says so"
    assert errors[0].line == (2 if name in ("yolo", "imagefolder") else None)
    quantiles = {
        "coco": "annotations[id=3]",
        "imagefolder": "bbox[1]",
        "voc": "object[1]",
        "via": "regions[1]",
        "yolo": "",
    }
    assert quantiles[name] in errors[0].path


@pytest.mark.parametrize("name", WITH_COORDINATES)
@pytest.mark.parametrize(
    ("box", "code"),
    [((4, 5, 4, 15), "empty"), ((4, 15, 14, 15), "empty"), ((14, 5, 4, 15), "inverted")],
)
def test_boxes_without_an_inside_are_named(
    name: str, box: tuple[float, float, float, float], code: str, tmp_path: Path
) -> None:
    path = WRITERS[name](tmp_path, {"a": [CAN], "b": [CUP, Thing("can", box)]})
    data = read_data(path, DetectionRecord)
    if name == "via" and code == "inverted":
        assert sum(len(record.label) for record in data.records) == 3, "corners have no order"
        return
    assert sum(len(record.label) for record in data.records) == 2
    assert [c.rpartition(".")[2] for c in data.issues.counts] == [code]


@pytest.mark.parametrize("name", WITH_COORDINATES)
def test_edges_just_outside_are_moved_and_reported(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, {"a": [Thing("can", (4, 5, 40.1, 15))]})
    data = read_data(path, DetectionRecord)
    assert data.records[0].label[0].bottom_x == 1
    assert dict(data.issues.counts) == {"coordinate.clipped": 1}


@pytest.mark.parametrize("name", ["coco", "voc", "via"])
def test_a_missing_image_is_named(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, SCENE)
    next(tmp_path.rglob("b.png")).unlink()
    data = read_data(path, DetectionRecord)
    assert [Path(quantile).stem for quantile in data.locations] == ["a", "c"]
    issue = next(i for i in data.issues.examples() if i.severity == "error")
    assert issue.code in ("file.missing", "image.no_size")
    assert "b.png" in issue.text()
