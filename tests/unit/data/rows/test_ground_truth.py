"""Manifests of SageMaker Ground Truth: classes have the names that their metadata says."""

from pathlib import Path
from typing import Any

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import RECORD_TYPES
from autofocus.data.sources.find import find_source, infer_tasks
from autofocus.data.sources.read import read_data
from support.rows import touch, write

MAP = {"class-map": {"0": "can", "1": "cup"}}
ITEM = {"class_id": 1, "left": 10, "top": 30, "width": 30, "height": 60}
SIZE = [{"width": 100, "height": 300, "depth": 3}]


@pytest.mark.parametrize(
    ("label", "metadata", "task", "expected"),
    [
        (1, {"class-name": "cup"}, "image_classification", "cup"),
        ([1, 0], MAP, "image_classification_multilabel", ["cup", "can"]),
        ([], MAP, "image_classification_multilabel", []),
        (1, {"confidence": 0.5}, "image_classification", "1"),
    ],
)
def test_classes_have_the_names_of_their_metadata(
    tmp_path: Path, label: Any, metadata: dict[str, Any], task: str, expected: Any
) -> None:
    rows = [{"image_url": "a.jpg", "x": label, "x-metadata": metadata}]
    path = write(tmp_path, *rows, name="output.manifest")
    options = ReadOptions(label_column="x")
    if label != []:
        assert infer_tasks(find_source(path, options), options) == [task]
    data = read_data(path, RECORD_TYPES[task], options)
    assert data.records[0].label == expected  # type: ignore[attr-defined]


def test_boxes_become_fractions(tmp_path: Path) -> None:
    bad = {**ITEM, "left": None}
    label = {"annotations": [ITEM, bad], "image_size": SIZE}
    rows = [
        {"image_url": "a.jpg", "x": label, "x-metadata": MAP},
        {"image_url": "b.jpg", "x": {"annotations": [ITEM]}, "x-metadata": MAP},
    ]
    path = write(tmp_path, *rows, name="output.manifest")
    options = ReadOptions(label_column="x")
    assert infer_tasks(find_source(path, options), options) == ["image_object_detection"]
    data = read_data(path, RECORD_TYPES["image_object_detection"], options)
    ((box,),) = [record.label for record in data.records]  # type: ignore[attr-defined]
    assert (box.label, box.top_x, box.top_y, box.bottom_x, box.bottom_y) == (
        *("cup", 0.1, 0.1, 0.4, 0.3),
    )
    assert {(issue.line, issue.code) for issue in data.issues.examples()} >= {(2, "label.type")}


def test_a_column_that_the_user_names_like_metadata_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    path = write(tmp_path, {"label-metadata": "a.jpg", "label": "can"})
    options = ReadOptions(image_column="label-metadata")
    data = read_data(path, RECORD_TYPES["image_classification"], options)
    assert [record.image_url for record in data.records] == ["a.jpg"]
