"""Class folders become the same checked rows as JSON Lines."""

from pathlib import Path

import pytest

from autofocus.data.formats.layout import split_folders
from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import MulticlassRecord, MultilabelRecord
from autofocus.data.sources.find import find_source, find_splits
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.rows import tasks, touch

SHARED = Path(__file__).parents[4] / "../shared/data"
MULTICLASS, MULTILABEL = "image_classification", "image_classification_multilabel"

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no photos beside the project")


def test_class_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.jpg", "b/1.PNG", "a/deep/3.jpeg", "a/.DS_Store", ".git/x.jpg")
    assert tasks(tmp_path) == [MULTICLASS]
    data = read_data(tmp_path, MulticlassRecord)
    found = [(record.image_url, record.label) for record in data.records]
    assert found == [("a/deep/3.jpeg", "a"), ("b/1.PNG", "b"), ("b/2.jpg", "b")]
    assert data.locations[0] == str(tmp_path / "a" / "deep" / "3.jpeg")
    assert not data.issues.counts


def test_files_that_are_in_no_class_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "stray.jpg", "a/notes.txt", "readme.md")
    data = read_data(tmp_path, MulticlassRecord)
    assert len(data.records) == 2
    assert {issue.code: issue.value for issue in data.issues.examples()} == {
        "image.no_class": "stray.jpg",
        "file.no_image": "a/notes.txt",
    }


def test_folders_that_belong_together_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.jpg", "labels/1.png", "annotations/1.png")
    with pytest.raises(DataError, match="holds no data that is known"):
        find_source(tmp_path, ReadOptions())


@needs_shared
def test_the_fridge_photos_are_read() -> None:
    assert tasks(SHARED / "fridge-multiclass") == [MULTICLASS]
    data = read_data(SHARED / "fridge-multiclass", MulticlassRecord)
    assert len(data.records) == 134
    assert sum(record.label == "milk_bottle" for record in data.records) == 37
    assert tasks(SHARED / "fridge-multilabel") == [MULTILABEL]
    folder = read_data(SHARED / "fridge-multilabel", MultilabelRecord)
    table = read_data(SHARED / "fridge-multilabel" / "labels.csv", MultilabelRecord)
    assert folder.records == table.records
    assert folder.fingerprint == table.fingerprint
    assert sum(record.label == ["carton", "milk_bottle"] for record in folder.records) == 2


def test_splits_are_found_however_their_folders_are_capitalised(tmp_path: Path) -> None:
    touch(tmp_path, "Train/cat/a.png", "Train/dog/a.png", "VAL/cat/b.png", "VAL/dog/b.png")
    touch(tmp_path / "images", "Train/a.png", "TEST/a.png")
    images = tmp_path / "images"
    assert split_folders(images) == {"train": images / "Train", "test": images / "TEST"}
    assert find_splits(tmp_path) == {"train": tmp_path / "Train", "validation": tmp_path / "VAL"}


def test_the_end_of_a_files_name_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "ROWS.JSONL").write_text('{"image_url": "a.png", "label": "x"}\n')
    assert find_source(tmp_path, ReadOptions()).path == tmp_path / "ROWS.JSONL"
