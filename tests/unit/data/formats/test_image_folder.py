"""Hugging Face's image folders: labels, splits by folders, rows that are wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from autofocus.data.rows.records import DetectionRecord, MulticlassRecord, MultilabelRecord
from autofocus.data.sources.find import find_splits
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.object_sources import write_image
from support.rows import tasks, touch


def write(folder: Path, *rows: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_labels_are_a_class_or_several_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path, {"file_name": "a.jpg", "label": 3}, {"file_name": "b.jpg", "label": "can"})
    assert tasks(tmp_path) == ["image_classification"]
    assert [record.label for record in read_data(tmp_path, MulticlassRecord).records] == [
        "3",
        "can",
    ]
    with pytest.raises(DataError, match="has no column 'objects'"):
        read_data(tmp_path, DetectionRecord)
    write(tmp_path, {"file_name": "a.jpg", "labels": ["can", "cup"]}, ["no row"])
    assert tasks(tmp_path) == ["image_classification_multilabel"]
    data = read_data(tmp_path, MultilabelRecord)
    assert (data.records[0].label, data.issues.counts["json.invalid"]) == (["can", "cup"], 1)


def test_folders_of_files_are_the_splits_and_test_is_not_trained_on(tmp_path: Path) -> None:
    places = {"train": "train/a.jpg", "validation": "val/b.jpg", "test": "Test/c.jpg"}
    touch(tmp_path, *places.values())
    path = write(tmp_path, *({"file_name": url, "label": "can"} for url in places.values()))
    splits = find_splits(tmp_path)
    assert splits == {split: path / split for split in places}
    for place, url in ((path, "train/a.jpg"), *zip(splits.values(), places.values(), strict=True)):
        [record] = read_data(place, MulticlassRecord).records
        assert record.image_url == url


def test_objects_that_are_wrong_cost_themselves(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    boxes = [[4, 5, 10, 10], [4, 5, 10], [4, 5, 10, 10]]
    row = {"file_name": "a.png", "objects": {"bbox": boxes, "category": ["can", "can"]}}
    write(tmp_path, row, {"file_name": "gone.png", "objects": {"bbox": [[0, 0, 9, 9]]}})
    data = read_data(tmp_path, DetectionRecord)
    assert [len(record.label) for record in data.records] == [1]
    codes = ("coordinate.type", "label.missing", "image.no_size")
    assert [data.issues.counts[code] for code in codes] == [1, 1, 1]
    with pytest.raises(DataError, match="says where objects are"):
        read_data(tmp_path, MulticlassRecord)
