"""COCO: classes by name, every bad annotation by its id, outlines as polygons and run lengths."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import (
    DetectionRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
)
from autofocus.data.sources.find import find_source, find_splits, infer_tasks
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from autofocus.structures.polygons import from_wire, rasterize
from support.object_sources import (
    CAN,
    CUP,
    HEIGHT,
    WIDTH,
    coco_document,
    write_coco,
    write_image,
    write_json,
)

SHARED = Path(__file__).parents[4] / "../shared/data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no photos beside the project")


def write(folder: Path, document: dict[str, Any], name: str = "instances.json") -> Path:
    for image in document["images"]:
        if "file_name" in image:
            write_image(folder / image["file_name"])
    return write_json(folder / name, document)


def one_object(**changes: Any) -> dict[str, Any]:
    """Return a document of a sound object and one with `changes`; None leaves a key out."""
    document = coco_document({"a": [CUP, CAN]})
    changed = {**document["annotations"][1], **changes}
    document["annotations"][1] = {k: v for k, v in changed.items() if v is not None}
    return document


def test_classes_go_by_name_whatever_their_ids(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN, CUP]})
    first = read_data(write(tmp_path / "x", document), DetectionRecord).records
    for key, category in zip(("seven", 0), document["categories"], strict=True):
        for annotation in document["annotations"]:
            if annotation["category_id"] == category["id"]:
                annotation["category_id"] = key
        category["id"] = key
    document["categories"].reverse()
    assert read_data(write(tmp_path / "y", document), DetectionRecord).records == first
    assert [label.label for label in first[0].label] == ["can", "cup"]


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"category_id": 5}, "category_id.unknown", "category_id"),
        ({"category_id": [1]}, "category_id.unknown", "category_id"),
        ({"bbox": [1, 2, 3]}, "coordinate.type", "bbox"),
        ({"bbox": [1, 2, None, 4]}, "coordinate.type", "bbox"),
        ({"bbox": [1, 2, "x", 4]}, "coordinate.type", "bbox"),
        ({"bbox": "1,2,3,4"}, "coordinate.type", "bbox"),
        ({"bbox": [1, 2, 0, 4]}, "box.empty", "bbox"),
        ({"bbox": [1, 2, 3, -4]}, "box.inverted", "bbox"),
        ({"bbox": [1, 2, 3, 400]}, "coordinate.out_of_range", "bbox"),
        ({"bbox": None, "segmentation": []}, "coordinate.missing", "bbox"),
    ],
)
def test_bad_boxes_cost_themselves(
    tmp_path: Path, changes: dict[str, Any], code: str, field: str
) -> None:
    path = write(tmp_path, one_object(**changes))
    data = read_data(path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]
    (issue,) = data.issues.examples()
    assert (issue.code, issue.path) == (code, f"annotations[id=2].{field}")
    assert issue.file == str(path)


@pytest.mark.parametrize(
    ("outline", "code"),
    [
        (None, "polygon.missing"),
        ([], "polygon.missing"),
        ("x", "polygon.type"),
        ([1, 2, 3, 4, 5, 6], "polygon.type"),
        ([[1, 2, 3, 4, 5]], "polygon.odd"),
        ([[1, 2, 3, 4]], "polygon.few_points"),
        ([[1, 2, 3, "x", 5, 6]], "coordinate.type"),
        ([[1, 2, 300, 4, 5, 6]], "polygon.out_of_range"),
        ([[1, 2, 1, 4, 1, 6]], "polygon.empty"),
        ({"size": [3, 3], "counts": [9]}, "rle.invalid"),
        ({"size": [HEIGHT, WIDTH], "counts": [9]}, "rle.invalid"),
        ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}, "rle.invalid"),
        ({"size": [HEIGHT, WIDTH], "counts": "\u00e9"}, "rle.invalid"),
        ({"size": [HEIGHT, WIDTH], "counts": [1.5]}, "rle.invalid"),
        ({"size": [HEIGHT, WIDTH]}, "rle.invalid"),
    ],
)
def test_bad_outlines_cost_themselves(tmp_path: Path, outline: Any, code: str) -> None:
    data = read_data(write(tmp_path, one_object(segmentation=outline)), InstanceSegmentationRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]
    errors = [issue for issue in data.issues.examples() if issue.severity == "error"]
    assert [issue.code for issue in errors] == [code]
    assert errors[0].path.startswith("annotations[id=2].segmentation")


def test_a_ring_without_area_is_left_out_of_its_object(tmp_path: Path) -> None:
    rings = [[4, 5, 14, 5, 14, 15], [4, 5, 6, 7]]
    data = read_data(write(tmp_path, one_object(segmentation=rings)), InstanceSegmentationRecord)
    assert len(data.records[0].label[1].polygon) == 1
    assert dict(data.issues.counts) == {"polygon.short_ring": 1}


def test_rings_that_overlap_add_up(tmp_path: Path) -> None:
    square = [4, 4, 12, 4, 12, 12, 4, 12]
    moved = [number + 4 for number in square]
    apart = [number + 8 for number in square]
    for other, num_rings, area in ((moved, 1, 64 + 64 - 16), (apart, 2, 128)):
        document = one_object(segmentation=[square, other])
        data = read_data(write(tmp_path, document), InstanceSegmentationRecord)
        rings = [
            np.array(ring).reshape(-1, 2) * (WIDTH, HEIGHT)
            for ring in data.records[0].label[1].polygon
        ]
        x_y = [(*ring.T, *np.roll(ring, 1, axis=0).T) for ring in rings]
        areas = [abs(float((x * last_y - last_x * y).sum())) / 2 for x, y, last_x, last_y in x_y]
        assert len(rings) == num_rings
        assert sum(areas) == pytest.approx(area, abs=1)
        assert data.issues.counts["polygon.overlap"] == 2 - num_rings


def test_a_box_is_taken_from_the_outline_where_there_is_none(tmp_path: Path) -> None:
    data = read_data(write(tmp_path, one_object(bbox=None)), DetectionRecord)
    label = data.records[0].label[1]
    assert (label.top_x, label.bottom_y) == (4 / WIDTH, 15 / HEIGHT)


@pytest.mark.parametrize("as_text", [True, False])
def test_run_lengths_become_the_same_pixels(tmp_path: Path, as_text: bool) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:15, 5:30] = True
    mask[6:10, 10:20] = False  # a hole
    mask[12:18, 33:38] = True  # and a second part
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    rle["counts"] = rle["counts"].decode()
    if not as_text:
        runs = np.flatnonzero(np.diff(np.r_[False, mask.T.ravel(), ~mask[-1, -1]]))
        rle["counts"] = np.diff(np.r_[0, runs, mask.size]).tolist()
    document = one_object(segmentation=rle, iscrowd=1)
    data = read_data(write(tmp_path, document), InstanceSegmentationRecord)
    label = data.records[0].label[1]
    assert label.is_crowd
    assert not data.issues.counts
    pixels = rasterize([from_wire(label.polygon)], (HEIGHT, WIDTH))[0]
    assert (pixels == mask).all()


@pytest.mark.parametrize("value", [1, True, "1", "true", "True"])
def test_crowds_in_every_spelling(tmp_path: Path, value: Any) -> None:
    data = read_data(write(tmp_path, one_object(iscrowd=value)), DetectionRecord)
    assert [label.is_crowd for label in data.records[0].label] == [False, True]


def test_a_photo_that_lay_elsewhere_is_looked_for_by_its_name(tmp_path: Path) -> None:
    """As Label Studio's export names it."""
    document = coco_document({"a": [CAN], "b": [CUP], "c": [CUP]})
    for i, name in enumerate("ab"):
        document["images"][i]["file_name"] = f"..\\..\\media\\upload\\4\\{name}.png"
    path = write(tmp_path, document)
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.png")
    log = read_data(path, DetectionRecord).issues
    assert log.counts["url.outside_missing"] == 2
    folder = tmp_path / "images"
    [hint] = [issue.hint for issue in log.examples() if issue.hint]
    assert hint == f'Try --map "../../media/upload/4={folder}": it finds 2 of 2 missing files.'
    maps = {"../../media/upload/4": str(folder)}
    assert len(read_data(path, DetectionRecord, ReadOptions(maps=maps)).records) == 3


def test_what_belongs_to_no_image_is_named(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN], "b": [CUP]})
    document["annotations"][1]["image_id"] = 7
    document["images"].append({**document["images"][0]})
    document["images"].append({"id": 9})
    document["images"].append({"file_name": "z.png"})
    data = read_data(write(tmp_path, document), DetectionRecord)
    assert [len(record.label) for record in data.records] == [1, 0]
    assert data.num_rows == 5
    found = [(issue.code, issue.path) for issue in data.issues.examples()]
    assert found == [
        ("image_id.unknown", "annotations[id=2].image_id"),
        ("image_id.repeated", "images[id=100]"),
        ("image_url.missing", "images[id=9]"),
        ("image_id.repeated", "images[id=None]"),
    ]


def test_of_two_images_with_one_id_neither_has_annotations(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN], "b": [CUP], "c": [CUP]})
    document["images"][1]["id"] = 100
    data = read_data(write(tmp_path, document), DetectionRecord)
    assert [record.image_url for record in data.records] == ["c.png"]
    assert data.issues.counts["image_id.repeated"] == 2


def test_ids_are_the_same_as_text_and_as_numbers(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN], "b": [CUP]})
    for annotation in document["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    for category in document["categories"]:
        category["id"] = str(category["id"])
    data = read_data(write(tmp_path, document), DetectionRecord)
    assert [[label.label for label in record.label] for record in data.records] == [
        ["can"],
        ["cup"],
    ]
    assert not data.issues.counts


def test_classes_of_one_name_or_id_are_refused(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN, CUP]})
    document["categories"].append({"id": 3, "name": "can"})
    document["annotations"].append({**document["annotations"][0], "category_id": 3})
    with pytest.raises(DataError, match=r"90, 3 are all called 'can'\. Rename all but one"):
        read_data(write(tmp_path, document), DetectionRecord)
    document["categories"][-1] = {"id": 90, "name": "jar"}
    with pytest.raises(DataError, match="several categories have the id 90"):
        read_data(write(tmp_path, document), DetectionRecord)
    document["categories"][-1] = {"id": 1, "name": ""}
    with pytest.raises(DataError, match="category 1 has an empty name"):
        read_data(write(tmp_path, document), DetectionRecord)


def test_a_class_of_the_same_name_without_objects_is_no_second_one(tmp_path: Path) -> None:
    """Exports put the name of a project first, which may be that of its only class."""
    document = coco_document({"a": [CUP]})
    document["categories"].insert(0, {"id": 99, "name": "cup", "supercategory": "none"})
    data = read_data(write(tmp_path, document), DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]


def test_a_nan_costs_its_object_not_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, one_object(bbox=[1, float("nan"), 3, 4]))
    assert "NaN" in path.read_text()
    data = read_data(path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]
    assert dict(data.issues.counts) == {"coordinate.type": 1}
    assert "NaN" in data.issues.examples()[0].text()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text[:-40], "must be COCO: "),
        (lambda text: text.replace('"name"', '"title"'), "missing required field `name`"),
        (lambda text: text.replace('"images": [', '"images": [3, '), r"at `\$\.images\[0\]`"),
    ],
)
def test_a_damaged_file_says_where(tmp_path: Path, change: Any, expected: str) -> None:
    document = coco_document({"a": [CAN]})
    path = write(tmp_path, {"categories": document["categories"], **document})
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=expected):
        read_data(path, DetectionRecord)


def test_the_image_knows_its_size_better(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN], "b": [CAN], "c": [CAN]})
    document["images"][1].update(width=80, height=40)
    del document["images"][2]["width"]
    data = read_data(write(tmp_path, document), DetectionRecord)
    assert len({record.label[0] for record in data.records}) == 1
    (issue,) = data.issues.examples()
    assert (issue.code, issue.path) == ("image.size", "images[id=101]")


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("x.json", "."),
        ("x.json", "images"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_val.json", "images/val"),
        ("train/_annotations.coco.json", "train"),
    ],
)
def test_images_are_found_in_the_usual_places(tmp_path: Path, place: str, folder: str) -> None:
    document = coco_document({"a": [CAN], "b": []})
    for image in document["images"]:
        write_image(tmp_path / folder / image["file_name"])
    path = write_json(tmp_path / place, document)
    data = read_data(path, DetectionRecord)
    assert data.locations == [str(tmp_path / folder / f"{name}.png") for name in "ab"]
    assert find_source(path, ReadOptions()).name == ("x" if place == "x.json" else tmp_path.name)


def test_an_image_root_says_where_images_are(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN]})
    write_image(tmp_path / "far" / "a.png")
    path = write_json(tmp_path / "near" / "x.json", document)
    data = read_data(path, DetectionRecord, ReadOptions(image_root=tmp_path / "far"))
    assert data.locations == [str(tmp_path / "far" / "a.png")]


def test_files_are_splits_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    for split, name in (("train", "a"), ("val", "b")):
        document = coco_document({name: [CAN]})
        write_image(tmp_path / f"{split}2017" / f"{name}.png")
        write_json(folder / f"instances_{split}2017.json", document)
        write_json(folder / f"person_keypoints_{split}2017.json", document)
    write_json(folder / "captions_train2017.json", {"images": [], "annotations": []})
    splits = find_splits(tmp_path)
    assert [place.name for place in splits.values()] == [
        "instances_train2017.json",
        "instances_val2017.json",
    ]
    assert read_data(tmp_path, DetectionRecord).records[0].image_url == "a.png"
    write_json(folder / "instances_training.json", coco_document({"a": [CAN]}))
    with pytest.raises(DataError, match="both of the split 'train'"):
        find_splits(tmp_path)


def test_several_files_that_are_no_splits_are_asked_about(tmp_path: Path) -> None:
    for name in "xy":
        write(tmp_path, coco_document({name: [CAN]}), f"{name}.json")
    with pytest.raises(DataError, match=r"several COCO files .*x\.json.*name one"):
        read_data(tmp_path, DetectionRecord)


def test_boxes_alone_are_detection_and_outlines_are_asked_about(tmp_path: Path) -> None:
    for outlines, num_tasks in ((False, 1), (True, 2)):
        path = write_coco(tmp_path / str(outlines), {"a": [CAN]}, outlines)
        tasks = infer_tasks(find_source(path, ReadOptions()), ReadOptions())
        assert len(tasks) == num_tasks


def test_classes_of_an_image_are_its_labels(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"a": [CAN, CUP, CAN], "b": []})
    labels = [record.label for record in read_data(path, MultilabelRecord).records]
    assert labels == [["can", "cup"], []]


@needs_shared
def test_coco128_is_read_as_its_readme_says() -> None:
    boxes = read_data(SHARED / "coco128", DetectionRecord)
    outlines = read_data(SHARED / "coco128", InstanceSegmentationRecord)
    for data in (boxes, outlines):
        labels = [label for record in data.records for label in record.label]
        assert (len(data.records), len(labels)) == (128, 939)
        assert sum(label.is_crowd for label in labels) == 10
        assert data.issues.counts == ({} if data is boxes else {"polygon.overlap": 3})
    document = json.loads((SHARED / "coco128" / "instances.json").read_bytes())
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in document["images"]}
    first = document["annotations"][0]["bbox"]
    ids = {image["id"]: image["file_name"] for image in document["images"]}
    name = ids[document["annotations"][0]["image_id"]]
    record = next(r for r in boxes.records if Path(r.image_url).name == Path(name).name)
    width, height = sizes[name]
    assert record.label[0].top_x * width == pytest.approx(first[0], abs=1e-6)
    assert record.label[0].bottom_y * height == pytest.approx(first[1] + first[3], abs=1e-6)


@needs_shared
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_and_run_lengths_of_coco128_cover_their_masks() -> None:
    mask_api = pytest.importorskip("pycocotools.mask")
    document = json.loads((SHARED / "coco128" / "instances.json").read_bytes())
    data = read_data(SHARED / "coco128", InstanceSegmentationRecord)
    by_name = {record.image_url: record for record in data.records}
    ious = []
    for image in document["images"][:40]:
        height, width = image["height"], image["width"]
        own = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        record = by_name[image["file_name"]]
        drawn = rasterize([from_wire(label.polygon) for label in record.label], (height, width))
        for annotation, pixels in zip(own, drawn, strict=True):
            rles = mask_api.frPyObjects(annotation["segmentation"], height, width)
            whole = mask_api.merge(rles) if isinstance(rles, list) else rles
            truth = mask_api.decode(whole).astype(bool)
            ious.append((truth & (pixels > 0)).sum() / (truth | (pixels > 0)).sum())
    assert np.median(ious) > 0.99
    assert np.percentile(ious, 5) > 0.95


def test_small_numbers_are_fractions_unless_the_user_says_pixels(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN], "b": [CUP]})
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT]
        ring = annotation["segmentation"][0]
        annotation["segmentation"] = [
            [value / side for value, side in zip(ring, (WIDTH, HEIGHT) * 4, strict=True)]
        ]
    path = write(tmp_path, document)
    for record_type in (DetectionRecord, InstanceSegmentationRecord):
        in_pixels = write(tmp_path / "pixels", coco_document({"a": [CAN], "b": [CUP]}))
        data = read_data(path, record_type)
        assert data.records == read_data(in_pixels, record_type).records
        assert data.issues.counts["coordinate.fractions"] == 1
        for said in ("pixels", "fractions"):
            data = read_data(path, record_type, ReadOptions(coordinates=said))
            assert not data.issues.counts["coordinate.fractions"]
    as_pixels = read_data(path, DetectionRecord, ReadOptions(coordinates="pixels")).records
    assert as_pixels[0].label[0].bottom_x == pytest.approx(CAN.box[2] / WIDTH / WIDTH)
    # One number that can be no fraction, and all are pixels.
    document["annotations"][0]["bbox"] = [0, 0, 20, 20]
    data = read_data(write(tmp_path, document), DetectionRecord)
    assert not data.issues.counts["coordinate.fractions"]


def test_annotations_without_places_are_classes_of_images(tmp_path: Path) -> None:
    document = coco_document({"a": [CAN], "b": [CUP]})
    for annotation in document["annotations"]:
        del annotation["bbox"], annotation["segmentation"]
    path = write(tmp_path, document)
    options = ReadOptions()
    assert infer_tasks(find_source(path, options), options) == ["image_classification"]
    assert [record.label for record in read_data(path, MulticlassRecord).records] == ["can", "cup"]
    with pytest.raises(DataError, match="says which classes images have, not where"):
        read_data(path, DetectionRecord)
    document["annotations"] += [
        {**document["annotations"][0], "id": 7, "category_id": key}
        for key in (document["annotations"][1]["category_id"], 99)
    ]
    path = write(tmp_path, document)
    assert infer_tasks(find_source(path, options), options) == ["image_classification_multilabel"]
    data = read_data(path, MultilabelRecord)
    assert [record.label for record in data.records] == [["can", "cup"], ["cup"]]
    assert data.issues.counts["category_id.unknown"] == 1
    # Two classes are no class of an image.
    data = read_data(path, MulticlassRecord)
    assert [record.label for record in data.records] == ["cup"]
    assert data.issues.counts["label.type"] == 1
