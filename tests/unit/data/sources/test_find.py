"""What a user's data is: formats, splits, names, tasks, and the part to measure on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import (
    MulticlassRecord,
)
from autofocus.data.sources.find import find_source, find_splits, infer_tasks, part_to_measure
from autofocus.data.sources.mltable import write_mltable
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.rows import BOX, row, write

OPTIONS = ReadOptions()
MULTICLASS, MULTILABEL = "image_classification", "image_classification_multilabel"
DETECTION, SEGMENTATION = "image_object_detection", "image_instance_segmentation"


def converted(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    made = {}
    for name in names:
        row = {"image_url": "a.png", "label": "cup"}
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        made[name] = str(folder / f"{name}.jsonl")
    return made


def voc(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename>"
        "<size><width>8</width><height>8</height></size></annotation>"
    )
    made = {}
    for name in names:
        file = lists / f"{name.replace('validation', 'val')}.txt"
        file.write_text("a\n")
        made[name] = str(file)
    return made


def yolo(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    made = {}
    lines = ["names: [cup]"]
    for name in names:
        key = name.replace("validation", "val")
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "a.jpg").write_bytes(b"")
        lines.append(f"{key}: images/{name}")
        made[name] = str(folder / "data.yaml" / key)
    (folder / "data.yaml").write_text("\n".join(lines))
    return made


@pytest.mark.parametrize("make", [converted, voc, yolo])
@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("train", "validation", "test"), "test"),
        (("train", "validation"), "validation"),
        (("train",), "train"),
    ],
)
def test_the_test_split_then_validation_then_all(
    tmp_path: Path,
    make: Callable[[Path, tuple[str, ...]], dict[str, str]],
    names: tuple[str, ...],
    chosen: str,
) -> None:
    made = make(tmp_path, names)
    part = part_to_measure(str(tmp_path), OPTIONS)
    assert (part.source, part.split) == (made[chosen], chosen)
    assert str(part) == f"{made[chosen]} ({chosen} split)"
    asked = part_to_measure(str(tmp_path), OPTIONS, "train")
    assert (asked.source, asked.split) == (made["train"], "train")


def test_what_has_no_splits_is_taken_whole(tmp_path: Path) -> None:
    made = converted(tmp_path, ("train", "test"))
    for source in (made["train"], "https://example.org/rows.jsonl", str(tmp_path / "nothing")):
        part = part_to_measure(source, OPTIONS)
        assert (part.source, part.split, str(part)) == (source, None, source)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    made = converted(tmp_path, ("train", "test"))
    with pytest.raises(DataError, match=r"has no validation split; its splits are train, test\."):
        part_to_measure(str(tmp_path), OPTIONS, "validation")
    with pytest.raises(DataError, match=r"has no test split; it has no splits\."):
        part_to_measure(made["train"], OPTIONS, "test")


def test_mapped_urls_have_the_splits_of_their_folder(tmp_path: Path) -> None:
    made = converted(tmp_path, ("train", "test"))
    options = ReadOptions(maps={"https://example.org/set": str(tmp_path)})
    part = part_to_measure("https://example.org/set", options)
    assert (part.source, part.split) == (made["test"], "test")


def test_splits_are_found_and_training_data_is_the_default(tmp_path: Path) -> None:
    train = write(tmp_path, row("a.jpg", "x"))
    test = write(tmp_path, row("b.jpg", "x"), name="test.jsonl")
    validation = write(tmp_path, row("c.jpg", "x"), name="validation_annotations.jsonl")
    expected = {"train": train, "validation": validation, "test": test}
    assert find_splits(tmp_path) == expected
    assert find_source(tmp_path, ReadOptions()).path == train
    assert find_splits(train) == {}


def test_class_folders_in_split_folders_are_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split / "can", row("a.jpg", "x"))
        (tmp_path / split / "can" / "train.jsonl").unlink()
    assert find_splits(tmp_path) == {
        "train": tmp_path / "train",
        "validation": tmp_path / "val",
    }


def test_a_class_called_train_is_no_split(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"x")
    assert find_splits(tmp_path) == {}
    data = read_data(tmp_path, MulticlassRecord)
    assert [record.label for record in data.records] == ["bus", "train"]


def test_a_folder_with_one_jsonl_is_that_file(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", "x"), name="rows.jsonl")
    assert find_source(tmp_path, ReadOptions()).path == path
    write(tmp_path, row("a.jpg", "x"), name="more.jsonl")
    with pytest.raises(DataError, match=r"more\.jsonl, rows\.jsonl"):
        find_source(tmp_path, ReadOptions())


def test_what_is_no_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing: no such file or folder"):
        find_source(tmp_path / "nothing", ReadOptions())
    with pytest.raises(DataError, match="holds no data that is known"):
        find_source(tmp_path, ReadOptions())


def test_a_source_may_be_a_url_of_a_mapped_place(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", "x"))
    options = ReadOptions(maps={"store": str(tmp_path)})
    for source in (path.as_uri(), "azureml://datastores/store/paths/train.jsonl"):
        assert read_data(source, MulticlassRecord, options).records[0].label == "x"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("fridge/train.jsonl", "fridge"),
        ("fridge/train_annotations.jsonl", "fridge"),
        ("fridge/my rows.jsonl", "my-rows"),
        ("fridge objects!/validation.jsonl", "fridge-objects"),
    ],
)
def test_the_name_is_short_and_plain(tmp_path: Path, path: str, expected: str) -> None:
    place = tmp_path / path
    found = find_source(write(place.parent, row("a.jpg", "x"), name=place.name), ReadOptions())
    assert found.name == expected


POLYGON = {"label": "can", "polygon": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["can", "3"], [MULTICLASS]),
        ([3, 4], [MULTICLASS]),
        ([["can"], []], [MULTILABEL]),
        ([[BOX], []], [DETECTION]),
        ([[POLYGON]], [SEGMENTATION]),
        ([[{**BOX, **POLYGON}]], [DETECTION, SEGMENTATION]),
        ([[], []], [MULTILABEL, DETECTION, SEGMENTATION]),
        ([None, True], []),
        # One odd row among many does not decide.
        (["can", "can", ["can"]], [MULTICLASS]),
    ],
)
def test_the_task_is_told_from_the_labels(
    tmp_path: Path, labels: list[Any], expected: list[str]
) -> None:
    path = write(tmp_path, *(row("a.jpg", label) for label in labels), ["odd"])
    source = find_source(path, ReadOptions())
    assert infer_tasks(source, ReadOptions()) == expected


CSV = "filename,label\na.jpg,bus\nb.jpg,can\n"


def test_a_folder_with_an_mltable_is_what_that_file_says(tmp_path: Path) -> None:
    write(tmp_path, row("a.jpg", "x"))
    write(tmp_path, row("b.jpg", "x"), name="validation.jsonl")
    week = write(tmp_path, row("c.jpg", "x"), name="week2.jsonl")
    write_mltable(tmp_path, week.name)
    for place in (tmp_path, tmp_path / "MLTable"):
        assert find_splits(place) == {}
        assert [file.path for file in find_source(place, OPTIONS).files] == [str(week)]
    (tmp_path / "MLTable").write_text("paths: [\n")
    with pytest.raises(DataError, match="must be YAML"):
        find_source(tmp_path, OPTIONS)


def test_split_folders_with_a_file_of_rows_each_are_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split, row("a.jpg", "x"), name=f"{split}_rows.jsonl")
    splits = find_splits(tmp_path)
    assert splits == {"train": tmp_path / "train", "validation": tmp_path / "val"}
    assert find_source(splits["validation"], OPTIONS).kind == "jsonl"


def test_of_rows_and_a_table_the_richest_that_fits_is_read_and_the_other_named(
    tmp_path: Path,
) -> None:
    write(tmp_path, row("a.jpg", [BOX]), name="boxes.jsonl")
    (tmp_path / "classes.csv").write_text(CSV)
    found = find_source(tmp_path, OPTIONS)
    assert (found.kind, found.others) == ("jsonl", ("csv",))
    assert infer_tasks(found, OPTIONS) == [DETECTION]
    assert find_source(tmp_path, OPTIONS, MulticlassRecord).kind == "csv"
    assert read_data(tmp_path, MulticlassRecord).issues.counts["source.others"] == 1
    # A table of colours is no data.
    (tmp_path / "classes.csv").write_text("id,colour\n0,red\n")
    assert find_source(tmp_path, OPTIONS).others == ()


def test_equally_rich_data_of_two_tasks_is_asked_about(tmp_path: Path) -> None:
    write(tmp_path, row("a.jpg", ["x", "y"]), name="rows.jsonl")
    (tmp_path / "classes.csv").write_text(CSV)
    assert infer_tasks(find_source(tmp_path, OPTIONS), OPTIONS) == [MULTICLASS, MULTILABEL]


def test_what_a_check_wrote_beside_class_folders_is_no_data(tmp_path: Path) -> None:
    for name in ("bus", "can"):
        write(tmp_path / name, row("a.jpg", "x"))
        (tmp_path / name / "train.jsonl").unlink()
    (tmp_path / "issues.jsonl").write_text('{"code": "label.type", "severity": "error"}\n')
    assert find_source(tmp_path, OPTIONS).kind == "folder"
    (tmp_path / "can" / "a.jpg").unlink()
    assert find_source(tmp_path, OPTIONS, MulticlassRecord).kind == "folder"
    write(tmp_path, row("bus/a.jpg", "x"), name="rows.jsonl")
    found = find_source(tmp_path, OPTIONS)
    assert (found.kind, found.others) == ("jsonl", ())


def test_rows_of_one_file_whose_images_lie_in_several_splits_are_named(tmp_path: Path) -> None:
    for folder in ("train/can", "test/can"):
        (tmp_path / folder).mkdir(parents=True)
    path = write(tmp_path, row("train/can/a.jpg", "x"), row("test/can/b.jpg", "x"), name="r.jsonl")
    data = read_data(path, MulticlassRecord)
    assert (len(data.records), data.issues.counts["source.mixed_splits"]) == (2, 1)
    path = write(tmp_path, row("train/can/a.jpg", "x"), name="r.jsonl")
    assert not read_data(path, MulticlassRecord).issues.counts["source.mixed_splits"]
