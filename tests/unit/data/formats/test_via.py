"""VIA: both forms, all shapes, and which attribute is the class."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import DetectionRecord, InstanceSegmentationRecord
from autofocus.data.sources.find import find_source, find_splits, infer_tasks
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.object_sources import (
    CAN,
    CUP,
    HEIGHT,
    WIDTH,
    via_region,
    write_image,
    write_json,
    write_via,
)
from support.rows import tasks


def write(folder: Path, *regions: Any) -> Path:
    write_image(folder / "a.png")
    entry = {"filename": "a.png", "regions": list(regions)}
    return write_json(folder / "via.json", {"a.png1": entry})


def region(kind: str = "can", **shape: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": {"kind": kind}}


def box(label: Any) -> tuple[float, ...]:
    sides = (
        label.top_x * WIDTH,
        label.top_y * HEIGHT,
        label.bottom_x * WIDTH,
        label.bottom_y * HEIGHT,
    )
    return tuple(round(side, 3) for side in sides)


def test_projects_exports_and_the_first_version_say_the_same(tmp_path: Path) -> None:
    exported = read_data(write_via(tmp_path / "x", {"a": [CAN, CUP]}), DetectionRecord)
    write_image(tmp_path / "a.png")
    regions = [via_region(CAN), via_region(CUP)]
    for form in (regions, {"0": regions[0], "1": regions[1]}):
        entries = {"a.png1": {"filename": "a.png", "regions": form}}
        path = write_json(tmp_path / "p.json", {"_via_settings": {}, "_via_img_metadata": entries})
        assert read_data(path, DetectionRecord).records == exported.records


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"name": "rect", "x": 4, "y": 5, "width": 10, "height": 8}, (4, 5, 14, 13)),
        ({"name": "circle", "cx": 20, "cy": 10, "r": 5}, (15, 5, 25, 15)),
        ({"name": "ellipse", "cx": 20, "cy": 10, "rx": 8, "ry": 4}, (12, 6, 28, 14)),
        (
            {"name": "ellipse", "cx": 20, "cy": 10, "rx": 8, "ry": 4, "theta": math.pi / 2},
            (16, 2, 24, 18),
        ),
        (
            {"name": "polyline", "all_points_x": [1, 5, 5], "all_points_y": [2, 2, 9]},
            (1, 2, 5, 9),
        ),
    ],
)
def test_shapes_have_an_inside(tmp_path: Path, shape: Any, expected: tuple[float, ...]) -> None:
    path = write(tmp_path, region(**shape))
    assert box(read_data(path, DetectionRecord).records[0].label[0]) == expected
    assert len(read_data(path, InstanceSegmentationRecord).records[0].label[0].polygon) == 1


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"name": "point", "cx": 1, "cy": 2}, "object.type"),
        ({"name": "rect", "x": 1}, "object.type"),
        ({"name": "circle", "cx": 1, "cy": 2, "r": None}, "object.type"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]}, "object.type"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "polygon.few_points"),
        ({"name": "rect", "x": 1, "y": 2, "width": 0, "height": 3}, "polygon.empty"),
        ({"name": "circle", "cx": 1, "cy": 2, "r": 500}, "polygon.out_of_range"),
    ],
)
def test_bad_regions_cost_themselves(tmp_path: Path, bad: Any, code: str) -> None:
    path = write(tmp_path, region(**bad), None, via_region(CUP))
    data = read_data(path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]
    errors = [issue for issue in data.issues.examples() if issue.severity == "error"]
    assert [issue.code for issue in errors] == [code, "label.missing"]
    assert errors[0].path.startswith('["a.png1"].regions[0].shape_attributes')


def test_which_attribute_is_the_class(tmp_path: Path) -> None:
    both = via_region(CAN)
    both["region_attributes"]["colour"] = "red"
    path = write(tmp_path, both)
    with pytest.raises(DataError, match=r"attributes 'kind', 'colour'; say .* --target-column"):
        read_data(path, DetectionRecord)
    options = ReadOptions(label_column="colour")
    assert read_data(path, DetectionRecord, options).records[0].label[0].label == "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("can", "can"),
        (3, "3"),
        ({"can": True, "cup": False}, "can"),
        ({"a": True, "b": True}, None),
    ],
)
def test_check_boxes_may_name_one_class(tmp_path: Path, value: Any, expected: str | None) -> None:
    chosen = via_region(CAN)
    chosen["region_attributes"]["kind"] = value
    data = read_data(write(tmp_path, chosen, via_region(CUP)), DetectionRecord)
    found = [label.label for label in data.records[0].label]
    assert found == ([expected, "cup"] if expected else ["cup"])


def test_regions_without_attributes_are_of_one_class(tmp_path: Path) -> None:
    plain = {**via_region(CAN), "region_attributes": {}}
    data = read_data(write(tmp_path, plain), DetectionRecord, ReadOptions(class_name="balloon"))
    assert data.records[0].label[0].label == "balloon"


def test_rectangles_alone_are_detection(tmp_path: Path) -> None:
    path = write(tmp_path, region(name="rect", x=1, y=2, width=3, height=4))
    options = ReadOptions()
    assert infer_tasks(find_source(path, options), options) == ["image_object_detection"]
    path = write(tmp_path, via_region(CAN))
    assert infer_tasks(find_source(path, options), options) == ["image_instance_segmentation"]


def test_a_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "via.json"
    for text in ('{"regions"', '{"a": {"x": "regions"}, "regions": []}', '["regions"]'):
        path.write_text(text.replace("regions'", "regions"))
        with pytest.raises(DataError, match=r"via\.json"):
            read_data(path, DetectionRecord)


def test_small_numbers_are_fractions(tmp_path: Path) -> None:
    small = region(name="rect", x=0.1, y=0.25, width=0.4, height=0.75)
    data = read_data(write(tmp_path, small), DetectionRecord)
    assert box(data.records[0].label[0]) == pytest.approx((0.1 * WIDTH, 5, 0.5 * WIDTH, HEIGHT))
    assert data.issues.counts["coordinate.fractions"] == 1
    data = read_data(
        write(tmp_path, small, region(name="circle", cx=9, cy=9, r=3)), DetectionRecord
    )
    assert not data.issues.counts["coordinate.fractions"]


def test_the_table_says_what_the_json_does_and_the_json_is_read_of_both(tmp_path: Path) -> None:
    regions = [via_region(CAN), region(name="rect", x=1, y=2, width=13, height=4)]
    path = write(tmp_path, *regions)
    write_image(tmp_path / "b.png")
    expected = read_data(path, DetectionRecord).records
    with open(tmp_path / "via.csv", "w", newline="") as file:
        table = csv.writer(file)
        counts = ("filename", "file_size", "file_attributes", "region_count", "region_id")
        table.writerow([*counts, "region_shape_attributes", "region_attributes"])
        for i, item in enumerate(regions):
            cells = (json.dumps(item[f"{kind}_attributes"]) for kind in ("shape", "region"))
            table.writerow(["a.png", 1, "{}", 2, i, *cells])
        table.writerow(["b.png", 1, "{}", 0, 0, "{}", "{}"])
    data = read_data(tmp_path / "via.csv", DetectionRecord)
    assert data.records[0] == expected[0]
    assert [len(record.label) for record in data.records] == [2, 0]
    assert read_data(tmp_path, DetectionRecord).records == expected
    path.unlink()
    assert tasks(tmp_path) == ["image_instance_segmentation"]
    (tmp_path / "via.csv").write_text("filename,region_shape_attributes\na.png,{\n")
    with pytest.raises(DataError, match=r"via\.csv: must be a project or annotations"):
        read_data(tmp_path, DetectionRecord)


def test_several_files_are_splits_by_their_names_or_asked_about(tmp_path: Path) -> None:
    write(tmp_path, via_region(CAN)).rename(tmp_path / "via_train.json")
    path = write(tmp_path, via_region(CAN))
    path.rename(tmp_path / "via_val.json")
    assert list(find_splits(tmp_path)) == ["train", "validation"]
    (tmp_path / "via_train.json").rename(tmp_path / "via.json")
    with pytest.raises(DataError, match=r"several files of VIA \(via\.json, via_val\.json\)"):
        tasks(tmp_path)
