"""What images belong to: read from a column or from image_details, the same on every way."""

from pathlib import Path
from typing import Any

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import DetectionRecord, MulticlassRecord
from autofocus.data.sources.convert import convert_to_jsonl
from autofocus.data.sources.find import find_source
from autofocus.data.sources.group_column import unknown_group_column
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.rows import BOX, row, touch, write

CAMERA = ReadOptions(group_column="camera")

# What a row has beside image and label, and its group.
ROWS: list[tuple[dict[str, Any], str | None]] = [
    ({"camera": "hall"}, "hall"),
    ({"camera": " hall "}, "hall"),
    ({"camera": 7}, "7"),
    ({"camera": True}, "True"),
    ({"camera": ""}, None),
    ({"camera": None}, None),
    ({}, None),
    ({"image_details": {"width": "40px", "camera": "yard"}}, "yard"),
    ({"camera": "hall", "image_details": {"camera": "yard"}}, "hall"),
    ({"camera": None, "image_details": {"camera": "yard"}}, "yard"),
]


def groups_of(path: Path, record_type: Any = MulticlassRecord) -> list[str | None]:
    return [record.group for record in read_data(path, record_type, CAMERA).records]


def test_a_row_says_it_or_its_details_do(tmp_path: Path) -> None:
    rows = [row(f"{i}.jpg", "x") | more for i, (more, _) in enumerate(ROWS)]
    assert groups_of(write(tmp_path, *rows)) == [group for _, group in ROWS]
    # A line that is read by hand, and the rows of its block with it.
    odd = row("odd.jpg", "x") | {"camera": ["a"], "image_details": {"camera": "yard"}}
    path = write(tmp_path, *rows, odd)
    assert groups_of(path) == [*(group for _, group in ROWS), "yard"]
    issues = read_data(path, MulticlassRecord, CAMERA).issues
    assert issues.counts == {"group.type": 1}


def test_rows_read_by_hand_have_the_same_groups(tmp_path: Path) -> None:
    rows = []
    for i, (more, _) in enumerate(ROWS):
        details = more.get("image_details", {}) | {"width": "wide"}
        rows.append(row(f"{i}.jpg", "x") | more | {"image_details": details})
    path = write(tmp_path, *rows)
    assert groups_of(path) == [group for _, group in ROWS]
    issues = read_data(path, MulticlassRecord, CAMERA).issues
    assert issues.counts == {"details.size": len(ROWS)}


def test_nobody_asks_nothing_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", "x") | {"camera": "hall", "group": "g"})
    asked, plain = read_data(path, MulticlassRecord, CAMERA), read_data(path, MulticlassRecord)
    assert plain.records[0].group is None
    assert plain.fingerprint != asked.fingerprint, "another column is another job"


def test_rows_of_one_image_share_what_one_of_them_says(tmp_path: Path) -> None:
    other = {**BOX, "label": "carton"}
    path = write(tmp_path, row("a.jpg", [BOX]) | {"camera": "hall"}, row("a.jpg", [other]))
    assert groups_of(path, DetectionRecord) == ["hall"]


@pytest.mark.parametrize("kind", ["classes", "flags", "boxes"])
def test_a_column_of_a_table_says_it(tmp_path: Path, kind: str) -> None:
    touch(tmp_path, "0.jpg", "1.jpg")
    lines = {
        "classes": ("filename,label,Camera", "0.jpg,a,1", "1.jpg,b,0"),
        "flags": ("filename,a,b,Camera", "0.jpg,1,0,1", "1.jpg,0,1,0"),
        "boxes": (
            "filename,label,xmin,ymin,xmax,ymax,width,height,Camera",
            "0.jpg,a,1,1,9,9,20,20,1",
            "1.jpg,b,1,1,9,9,20,20,0",
        ),
    }[kind]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    record_type = DetectionRecord if kind == "boxes" else MulticlassRecord
    data = read_data(tmp_path / "labels.csv", record_type, CAMERA)
    assert [record.group for record in data.records] == ["1", "0"]
    labels = [r.label if kind != "boxes" else r.label[0].label for r in data.records]
    assert labels == ["a", "b"]


def test_converted_rows_keep_it(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", "x") | {"camera": "hall"}, row("b.jpg", "y"))
    (part,) = convert_to_jsonl(path, MulticlassRecord, CAMERA, tmp_path / "out")
    again = read_data(part.path, MulticlassRecord, ReadOptions(group_column="group"))
    assert [record.group for record in again.records] == ["hall", None]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("kamera", "'kamera'; did you mean 'camera'? Rows have: image_url, label, camera, width"),
        ("patient", "no row has a value of 'patient'. Rows have: image_url, label, camera, width"),
    ],
)
def test_a_column_that_no_row_has_names_those_there_are(
    tmp_path: Path, column: str, says: str
) -> None:
    rows = [row(f"{i}.jpg", "x") | {"camera": i, "image_details": {"width": 9}} for i in range(3)]
    path = write(tmp_path, *rows)
    text = str(unknown_group_column(find_source(path, ReadOptions()), column))
    assert says in text.replace("image_details, ", "")
    assert text.startswith(str(path))


def test_of_a_table_the_header_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("filename,label,camera\n0.jpg,a,1\n")
    text = str(unknown_group_column(find_source(path, ReadOptions()), "kamera"))
    assert "did you mean 'camera'? Rows have: filename, label, camera." in text


def test_folders_have_no_columns(tmp_path: Path) -> None:
    touch(tmp_path, "can/1.jpg", "cup/1.jpg")
    text = str(unknown_group_column(find_source(tmp_path, ReadOptions()), "camera"))
    assert "have no columns" in text


@pytest.mark.parametrize("column", ["", "label", "image_url", "image_details"])
def test_a_column_that_is_something_else_already_is_refused(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, row("a.jpg", "x"))
    with pytest.raises(DataError, match="group column must be neither"):
        read_data(path, MulticlassRecord, ReadOptions(group_column=column))
