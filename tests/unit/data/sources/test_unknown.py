"""What holds no data that is known is named for what it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.sources.find import find_source, infer_tasks
from autofocus.errors import DataError
from support.rows import touch

LABELME = {"version": "5", "shapes": [], "imagePath": "a.jpg"}
CREATE_ML = [{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}]
LABEL_STUDIO = [{"id": 1, "annotations": [{"result": []}], "data": {"image": "a.jpg"}}]
LABEL_STUDIO_MIN = [{"image": "a.jpg", "label": [], "annotator": 1, "annotation_id": 1}]
SUPERVISELY = {"size": {}, "objects": [{"points": {"exterior": []}}]}
DATUMARO = {"info": {}, "categories": {"label": {}}, "items": []}
CVAT = '<?xml version="1.0"?><annotations><image id="0" name="a.jpg"></image></annotations>'


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_source(path, ReadOptions())
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "tool"),
    [
        ("a.json", LABELME, "labelme"),
        ("ann.createml.json", CREATE_ML, "CreateML"),
        ("project.json", LABEL_STUDIO, "Label Studio"),
        ("project-min.json", LABEL_STUDIO_MIN, "Label Studio (JSON-MIN)"),
        ("a.jpg.json", SUPERVISELY, "Supervisely"),
        ("default.json", DATUMARO, "Datumaro"),
        ("annotations.xml", CVAT, "CVAT for images"),
    ],
)
def test_files_of_other_tools_are_named(tmp_path: Path, name: str, content: Any, tool: str) -> None:
    file = tmp_path / "annotations" / name
    touch(tmp_path, "images/a.jpg", f"annotations/{name}")
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    for place in (tmp_path, file.parent, *([file] if file.suffix == ".json" else [])):
        assert f"is a file of {tool}, which is not read" in refusal(place)


@pytest.mark.parametrize("folders", [("train", "valid"), ("train",), ("can", "cup"), ("photos",)])
def test_files_of_other_tools_are_named_in_folders_of_photos(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    """As Roboflow exports CreateML; names of splits and of classes alike."""
    for folder in folders:
        name = "_annotations.createml.json"
        touch(tmp_path, f"{folder}/a.jpg", f"{folder}/{name}")
        (tmp_path / folder / name).write_text(json.dumps(CREATE_ML))
    source = find_source(tmp_path, ReadOptions())
    with pytest.raises(DataError, match=r"_annotations\.createml\.json is a file of CreateML"):
        infer_tasks(source, ReadOptions())


def test_photos_without_labels_are_counted_and_led_on(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.PNG")
    assert "2 photos, no labels. Predict with 'autofocus score" in refusal(tmp_path)
    assert "is an image" in refusal(tmp_path / "images" / "a.jpg")
    touch(tmp_path, "what.parquet")
    assert "2 photos, no labels that are known" in refusal(tmp_path)
    assert "what.parquet" in refusal(tmp_path)


def test_photos_that_are_not_read_are_told_from_no_data(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_1.HEIC", "IMG_1.MOV", "IMG_2.heic")
    said = refusal(tmp_path)
    assert "2 photos in a form that is not read: IMG_1.HEIC, IMG_2.heic. Save them as" in said


def test_labels_without_their_photos_are_told_from_no_data(tmp_path: Path) -> None:
    touch(tmp_path, "obj.names", "obj_train_data/a.txt", "obj_train_data/b.txt")
    said = refusal(tmp_path)
    assert "no photos, and labels are no data without them: obj_train_data/a.txt" in said
    assert "Export them with their images" in said
