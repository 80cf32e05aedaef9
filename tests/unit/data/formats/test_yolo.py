"""YOLO: data.yaml in its many spellings, label files and lines that are wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import DetectionRecord, InstanceSegmentationRecord
from autofocus.data.sources.find import find_source, find_splits, infer_tasks
from autofocus.data.sources.read import Data, read_data
from autofocus.errors import DataError
from support.object_sources import CAN, CUP, write_image, write_text, write_yolo, yolo_line
from support.rows import tasks

NAMES = ["can", "cup"]


def write_labels(folder: Path, text: str, name: str = "a") -> Path:
    write_image(folder / "images" / f"{name}.png")
    write_text(folder / "labels" / f"{name}.txt", text)
    return folder


def write_yaml(folder: Path, **keys: Any) -> Path:
    return write_text(folder / "data.yaml", yaml.safe_dump({"names": NAMES, **keys}))


def stems(data: Data[Any]) -> list[str]:
    return [Path(place).stem for place in data.locations]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("0 0.5 0.5 0.2", "row.type"),
        ("0 0.5 0.5 0.2 x", "row.type"),
        ("0 0.5 0.5 0.2 nan", "row.type"),
        ("can 0.5 0.5 0.2 0.2", "row.type"),
        ("2 0.5 0.5 0.2 0.2", "category_id.unknown"),
        ("-1 0.5 0.5 0.2 0.2", "category_id.unknown"),
        ("0.5 0.5 0.5 0.2 0.2", "category_id.unknown"),
        ("0 0.5 0.5 0 0.2", "box.empty"),
        ("0 0.5 0.5 0.2 -0.2", "box.inverted"),
        ("0 0.5 0.9 0.2 0.4", "coordinate.out_of_range"),
        ("0 320 240 64 48", "coordinate.out_of_range"),
        ("0 0.1 0.1 0.2 0.2 0.9", "polygon.odd"),
        ("0 0.1 0.1 0.2 0.2 0.3 1.9", "polygon.out_of_range"),
    ],
)
def test_bad_lines_are_named_by_their_number(tmp_path: Path, line: str, code: str) -> None:
    write_labels(tmp_path, f"1 0.5 0.5 1 1\n\n{line}\n")
    write_yaml(tmp_path, train="images")
    data = read_data(tmp_path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]
    (issue,) = data.issues.examples()
    assert (issue.code, issue.line) == (code, 3)
    assert issue.file == str(tmp_path / "labels" / "a.txt")


def test_six_decimals_at_the_edge_are_no_news(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.166667 0.166667 0.333335 0.333335\n")
    write_yaml(tmp_path, train="images")
    data = read_data(tmp_path, DetectionRecord)
    assert data.records[0].label[0].top_x == 0
    assert not data.issues.counts


def test_more_than_five_numbers_are_an_outline(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.8\n1 0.5 0.5 0.2 0.2\n")
    write_yaml(tmp_path, train="images")
    assert infer_tasks(find_source(tmp_path, ReadOptions()), ReadOptions()) == [
        "image_instance_segmentation"
    ]
    outlines = read_data(tmp_path, InstanceSegmentationRecord)
    assert [label.polygon for label in outlines.records[0].label] == [
        [[0.1, 0.2, 0.5, 0.2, 0.5, 0.8]]
    ]
    assert outlines.issues.examples()[0].code == "polygon.missing"
    boxes = read_data(tmp_path, DetectionRecord).records[0].label
    assert (boxes[0].top_x, boxes[0].top_y, boxes[0].bottom_x, boxes[0].bottom_y) == (
        *(0.1, 0.2),
        *(0.5, 0.8),
    )


def test_negatives_with_and_without_a_file(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": [CAN], "b": [], "c": []})
    (tmp_path / "labels" / "train" / "c.txt").unlink()
    data = read_data(tmp_path, DetectionRecord)
    assert [len(record.label) for record in data.records] == [1, 0, 0]
    assert dict(data.issues.counts) == {"labels.missing": 1}
    (tmp_path / "labels" / "train" / "a.txt").unlink()
    (tmp_path / "labels" / "train" / "b.txt").unlink()
    with pytest.raises(DataError, match=r"none of 3 images has a label file.*a\.txt"):
        read_data(tmp_path, DetectionRecord)


def test_labels_without_an_image_are_named(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": [CAN], "b": [CUP]})
    (tmp_path / "images" / "train" / "b.png").unlink()
    data = read_data(tmp_path, DetectionRecord)
    (issue,) = data.issues.examples()
    assert (issue.code, Path(issue.file).name) == ("image.missing", "b.txt")


def test_one_label_file_of_two_images_is_said(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.5 0.5 1 1\n")
    (image,) = (tmp_path / "images").iterdir()
    write_image(image.with_suffix(".bmp"))
    data = read_data(tmp_path, DetectionRecord)
    assert data.issues.counts["labels.shared"] == 1
    assert any("a.bmp, a.png" in issue.message for issue in data.issues.examples())


def test_a_label_file_that_is_no_text_costs_its_image(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": [CAN], "b": [CUP]})
    (tmp_path / "labels" / "train" / "b.txt").write_bytes(b"\xff\xfe\x00")
    data = read_data(tmp_path, DetectionRecord)
    assert (stems(data), data.num_rows) == (["a"], 2)
    assert dict(data.issues.counts) == {"labels.unreadable": 1}


def write_two(folder: Path) -> None:
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        write_yolo(folder, {name: [CAN, CUP]}, split)


@pytest.mark.parametrize(
    "keys",
    [
        {"train": "images/train", "val": "images/val", "test": "images/test"},
        {"path": ".", "train": "images/train", "val": ["images/val"], "test": "images/test"},
        {"path": "../set", "train": "train.txt", "val": "val.txt", "test": "images/test"},
        {"train": "../images/train", "valid": "../images/val", "test": "../images/test"},
        {"path": "elsewhere", "train": "images/train", "val": "images/val", "test": "images/test"},
    ],
)
@pytest.mark.parametrize("names", [NAMES, {0: "can", 1: "cup"}, {"1": "cup", "0": "can"}])
def test_splits_of_a_yaml(tmp_path: Path, keys: dict[str, Any], names: Any) -> None:
    folder = tmp_path / "set"
    write_two(folder)
    for split, name in (("train", "a"), ("val", "b")):
        write_text(folder / f"{split}.txt", f"./images/{split}/{name}.png\n\n")
    write_yaml(folder, **{**keys, "names": names})
    for source in (folder, folder / "data.yaml"):
        splits = find_splits(source)
        read = {split: read_data(place, DetectionRecord) for split, place in splits.items()}
        assert {split: stems(data) for split, data in read.items()} == {
            "train": ["a"],
            "validation": ["b"],
            "test": ["c"],
        }
        assert [label.label for label in read["test"].records[0].label] == NAMES
        assert read["train"].name == "set"
        assert stems(read_data(source, DetectionRecord)) == ["a"]


def test_several_folders_of_one_split(tmp_path: Path) -> None:
    write_two(tmp_path)
    write_yaml(tmp_path, train=["images/train", "images/val"], val="images/test")
    data = read_data(tmp_path, DetectionRecord)
    assert [record.image_url for record in data.records] == [
        "images/train/a.png",
        "images/val/b.png",
    ]


def test_images_are_not_validated_on_what_they_were_trained_on(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": [CAN]})
    write_yaml(tmp_path, train="images/train", val="images/train")
    assert list(find_splits(tmp_path)) == ["train"]


def test_without_a_yaml_folders_are_splits_and_files_name_the_classes(tmp_path: Path) -> None:
    write_two(tmp_path)
    (tmp_path / "data.yaml").unlink()
    assert list(find_splits(tmp_path)) == ["train", "validation", "test"]
    data = read_data(tmp_path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["0", "1"]
    assert data.issues.counts["class.no_names"] == 1
    write_text(tmp_path / "classes.txt", "can\ncup\n\n")
    data = read_data(tmp_path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == NAMES
    assert not data.issues.counts


def test_labels_beside_their_images(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_text(tmp_path / "a.txt", yolo_line(1, CUP))
    write_text(tmp_path / "_darknet.labels", "can\ncup")
    data = read_data(tmp_path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]


def test_names_of_an_export_lie_above_its_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "images" / "a.png")
    write_text(tmp_path / "train" / "labels" / "a.txt", yolo_line(1, CUP))
    write_yaml(tmp_path, train="../train/images", val="../valid/images")
    for source in (tmp_path, tmp_path / "train"):
        data = read_data(source, DetectionRecord)
        assert [label.label for label in data.records[0].label] == ["cup"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"train": "nowhere"}, r"train must lead to images, got 'nowhere'; looked at .*nowhere"),
        ({"val": "images/train"}, "names no images to train on"),
        ({"train": "images/train", "names": ["x", "x"]}, "several classes are called 'x'"),
        ({"train": "images/train", "names": {"x": 0}}, "names must be a list, or numbers"),
        ({"train": "images/train", "names": "can"}, "names must be a list, or numbers"),
        ({"train": "images/train", "nc": 3}, "nc must be the number of names, 2, got 3"),
    ],
)
def test_what_is_wrong_with_a_yaml_is_said(
    tmp_path: Path, keys: dict[str, Any], expected: str
) -> None:
    write_yolo(tmp_path, {"a": [CAN]})
    write_yaml(tmp_path, **keys)
    with pytest.raises(DataError, match=expected):
        read_data(tmp_path, DetectionRecord)


def test_damaged_and_ambiguous_yamls(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": [CAN]})
    with pytest.raises(DataError, match="has no key 'extra'; its keys are"):
        read_data(tmp_path / "data.yaml" / "extra", DetectionRecord)
    write_text(tmp_path / "other.yaml", "names: [x]\ntrain: y\n")
    with pytest.raises(DataError, match=r"several files of YOLO's kind .*other\.yaml"):
        read_data(tmp_path, DetectionRecord)
    write_text(tmp_path / "other.yaml", "names: [x\ntrain: y\n")
    with pytest.raises(DataError, match="must be YAML"):
        read_data(tmp_path / "other.yaml", DetectionRecord)


def test_names_are_text_even_where_yaml_reads_truth(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.5 0.5 1 1\n1 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.5 0.5\n")
    write_text(tmp_path / "data.yaml", "train: images\nnc: 3\nnames: [yes, on, 01]\n")
    data = read_data(tmp_path, DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["yes", "on", "01"]


def test_key_points_are_no_outline(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55\n")
    write_yaml(tmp_path, train="images", kpt_shape=[2, 2])
    assert infer_tasks(find_source(tmp_path, ReadOptions()), ReadOptions()) == [
        "image_object_detection"
    ]
    (box,) = read_data(tmp_path, DetectionRecord).records[0].label
    assert (box.top_x, box.bottom_y) == pytest.approx((0.4, 0.6))


@pytest.mark.parametrize(
    "points",
    [
        ["0.45 0.45 0.55 0.55", "0 0 0.5 0.4", "0.41 0.5 0.59 0.5"],
        ["0.45 0.45 2 0.55 0.55 1", "0 0 0 0.5 0.4 2", "0.41 0.5 2 0.59 0.5 2"],
        [" ".join(["0.9"] * 34)] * 3,
    ],
)
def test_key_points_that_no_yaml_tells_of_are_told_by_their_lines(
    tmp_path: Path, points: list[str]
) -> None:
    write_labels(tmp_path, "".join(f"0 0.5 0.5 0.2 0.2 {more}\n" for more in points))
    assert tasks(tmp_path) == ["image_object_detection"]
    data = read_data(tmp_path, DetectionRecord)
    assert data.issues.counts["labels.key_points"] == 1
    assert [box.bottom_x for box in data.records[0].label] == pytest.approx([0.6])


def test_rotated_boxes_are_the_upright_ones_around(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5\n0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n")
    assert tasks(tmp_path) == ["image_object_detection"]
    data = read_data(tmp_path, DetectionRecord)
    box = data.records[0].label[0]
    assert (box.top_x, box.top_y, box.bottom_x, box.bottom_y) == (0.2, 0.2, 0.8, 0.8)
    assert data.issues.counts["box.rotated"] == 1
    outlines = read_data(tmp_path, InstanceSegmentationRecord)
    assert "box.rotated" not in outlines.issues.counts


def test_a_list_of_images_that_is_no_text_is_named(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.5 0.5 1 1\n")
    write_yaml(tmp_path, train="train.txt")
    (tmp_path / "train.txt").write_bytes(b"images/\xff\xfe.png\n")
    with pytest.raises(DataError, match=r"train\.txt: must be UTF-8"):
        read_data(tmp_path, DetectionRecord)


@pytest.mark.parametrize("darknet", [True, False])
def test_lists_beside_images_are_the_splits(tmp_path: Path, darknet: bool) -> None:
    folder, images = tmp_path / "set", "obj_train_data" if darknet else "images"
    for name in ("a", "b", "c", "left_out"):
        write_image(folder / images / f"{name}.png")
        labels = images if darknet else "labels"
        write_text(folder / labels / f"{name}.txt", yolo_line(0, CAN))
    write_text(folder / ("obj.names" if darknet else "classes.txt"), "can\n")
    names = ("train.txt", "valid.txt", "test.txt")
    if darknet:
        lines = "classes = 1\ntrain = data/1.txt\nvalid = data/2.txt\ntest = data/3.txt\n"
        write_text(folder / "obj.data", f"{lines}names = data/obj.names\nbackup = backup/\n")
        names = ("1.txt", "2.txt", "3.txt")
    for list_name, name in zip(names, "abc", strict=True):
        write_text(folder / list_name, f"data/{images}/{name}.png\n")
    splits = find_splits(folder)
    assert splits == dict(
        zip(("train", "validation", "test"), map(folder.__truediv__, names), strict=True)
    )
    for split, name in zip(splits.values(), "abc", strict=True):
        [record] = read_data(split, DetectionRecord).records
        assert (record.image_url, record.label[0].label) == (f"{images}/{name}.png", "can")
    # The folder is its training split wherever it is named.
    assert len(read_data(folder, DetectionRecord).records) == 1


def test_what_a_list_names_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    """A link in a folder was laid by whoever put it together; a line of a list may be anybody's."""
    write_labels(tmp_path / "set", "0 0.5 0.5 1 1\n")
    write_image(tmp_path / "elsewhere" / "secret.png")
    inside, outside = tmp_path / "set" / "images", tmp_path / "elsewhere" / "secret.png"
    (inside / "link.png").symlink_to(outside)
    (inside / "inner.png").symlink_to(inside / "a.png")
    lines = [
        "images/a.png",
        "images/inner.png",
        "images/link.png",
        "../elsewhere/secret.png",
        str(outside),
    ]
    write_text(tmp_path / "set" / "train.txt", "\n".join(lines) + "\n")
    write_yaml(tmp_path / "set", train="train.txt")
    data = read_data(tmp_path / "set", DetectionRecord)
    assert [r.image_url for r in data.records] == ["images/a.png", "images/inner.png", str(outside)]
    refused = [issue for issue in data.issues.examples() if issue.severity == "error"]
    assert [issue.code for issue in refused] == ["url.outside_root"] * 2
    assert [str(outside) in issue.message for issue in refused] == [True, True]
    # The folder itself is trusted, and the user may say that a list is.
    write_yaml(tmp_path / "set", train="images")
    assert len(read_data(tmp_path / "set", DetectionRecord).records) == 3
    write_yaml(tmp_path / "set", train="train.txt")
    allowed = ReadOptions(image_root=tmp_path)
    assert read_data(tmp_path / "set", DetectionRecord, allowed).issues.num_errors == 0


def test_a_list_in_a_folder_of_its_own_names_images_beside_it(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.5 0.5 1 1\n")
    write_text(tmp_path / "lists" / "train.txt", "../images/a.png\n")
    write_yaml(tmp_path, train="lists/train.txt")
    assert [r.image_url for r in read_data(tmp_path, DetectionRecord).records] == ["images/a.png"]


def test_a_yaml_of_names_alone_names_the_classes(tmp_path: Path) -> None:
    """As supervision writes it."""
    flat = write_labels(tmp_path / "flat", "1 0.5 0.5 0.2 0.2\n")
    write_yaml(flat, nc=2)
    for source in (flat, flat / "data.yaml"):
        data = read_data(source, DetectionRecord)
        assert [label.label for label in data.records[0].label] == ["cup"]
    for split in ("train", "val"):
        write_yolo(tmp_path / "split", {split: [CUP]}, split)
    write_yaml(tmp_path / "split", nc=2)
    assert set(find_splits(tmp_path / "split")) == {"train", "validation"}
    data = read_data(tmp_path / "split", DetectionRecord)
    assert (stems(data), data.records[0].label[0].label) == (["train"], "cup")
    write_yaml(tmp_path / "none", nc=2)
    with pytest.raises(DataError, match="names no images to train on"):
        read_data(tmp_path / "none", DetectionRecord)
