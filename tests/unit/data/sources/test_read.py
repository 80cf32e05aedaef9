"""From a source to records with files: duplicates, missing files, and what ends the reading."""

import json
import logging
from pathlib import Path

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import (
    DetectionRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
)
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.rows import BOX, row, write

OTHER = {**BOX, "label": "carton"}


def test_of_repeated_classification_rows_the_last_counts(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", "x"), row("b.jpg", "y"), row("a.jpg", "z"))
    data = read_data(path, MulticlassRecord)
    assert [(record.image_url, record.label) for record in data.records] == [
        ("a.jpg", "z"),
        ("b.jpg", "y"),
    ]
    [issue] = data.issues.examples()
    assert (issue.line, issue.code, issue.severity) == (3, "image_url.repeated", "warning")
    assert "line 1" in issue.text()
    assert data.num_rows == 3
    many = write(tmp_path, row("a.jpg", ["x"]), row("a.jpg", ["z"]), name="many.jsonl")
    assert read_data(many, MultilabelRecord).records[0].label == ["z"]


def test_objects_of_repeated_rows_are_merged_without_copies(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", [BOX]), row("a.jpg", [OTHER, BOX]))
    data = read_data(path, DetectionRecord)
    assert [item.label for item in data.records[0].label] == ["can", "carton"]
    assert data.issues.counts == {"image_url.repeated": 1}
    objects = [{"label": name, "polygon": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]} for name in "ab"]
    path = write(tmp_path, *(row("a.jpg", [item]) for item in objects))
    assert [
        item.label for item in read_data(path, InstanceSegmentationRecord).records[0].label
    ] == [
        "a",
        "b",
    ]


def test_missing_files_are_named_with_the_map_that_would_help(tmp_path: Path) -> None:
    images = tmp_path / "local" / "images"
    images.mkdir(parents=True)
    rows = []
    for i in range(3):
        (images / f"{i}.jpg").write_bytes(b"x")
        rows.append(row(f"/elsewhere/images/{i}.jpg", "can"))
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    with pytest.raises(DataError) as caught:
        read_data(path, MulticlassRecord)
    text = "\n".join(caught.value.problems)
    assert f"{path}:1: image_url must lead to an image file" in text
    assert f'--map "/elsewhere={tmp_path / "local"}"' in text
    assert "it finds 3 of 3" in caught.value.problems[0]
    options = ReadOptions(maps={"/elsewhere": str(tmp_path / "local")})
    assert read_data(path, MulticlassRecord, options).locations[0] == str(images / "0.jpg")


def test_a_datastore_without_a_map_is_looked_for_too(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"x")
    url = (
        "azureml://subscriptions/s/resourcegroups/r/workspaces/w/datastores/blob/paths/images/a.jpg"
    )
    path = write(tmp_path, row(url, "can"))
    with pytest.raises(DataError) as caught:
        read_data(path, MulticlassRecord)
    assert f'Try --map "blob={tmp_path}": it finds 1 of 1' in caught.value.problems[0]
    assert caught.value.problems[0].count("is not known here") == 1
    data = read_data(path, MulticlassRecord, ReadOptions(maps={"blob": str(tmp_path)}))
    assert data.locations == [str(tmp_path / "images" / "a.jpg")]


def test_what_is_no_image_file_costs_its_row_only(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", "x"), row("b.jpg", "y"))
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").write_bytes(b"")
    bad = ("folder.jpg", "empty.jpg", "gone.jpg", "../a.jpg", "azureml://datastores/s/paths/a.jpg")
    with open(path, "a") as file:
        file.writelines(json.dumps(row(url, "x")) + "\n" for url in (*bad, "C:\\photos\\a.jpg"))
    data = read_data(path, MulticlassRecord)
    assert [record.image_url for record in data.records] == ["a.jpg", "b.jpg"]
    assert {issue.line: issue.code for issue in data.issues.examples()} == {
        3: "file.directory",
        4: "image.empty",
        5: "file.missing",
        6: "url.outside_missing",
        7: "url.unmapped_datastore",
        8: "url.windows_path",
    }


def test_remote_images_are_taken_on_trust(tmp_path: Path) -> None:
    path = write(tmp_path, row("https://host.invalid/a.jpg", "x"))
    assert read_data(path, MulticlassRecord).locations == ["https://host.invalid/a.jpg"]


def test_skipping_is_loud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, row("a.jpg", "x"), row("a2.jpg", 1.5), row("b.jpg", None))
    with caplog.at_level(logging.WARNING):
        read_data(path, MulticlassRecord)
    assert f"{path}: 1 of 3 rows are used" in caplog.text
    assert "error: 1 x label.type, first: " in caplog.text
    assert "error: 1 x label.missing, first: " in caplog.text


def test_on_invalid_error_names_the_first_and_counts_all(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", "x"), *(row("a.jpg", 1.5) for _ in range(30)))
    with pytest.raises(DataError) as caught:
        read_data(path, MulticlassRecord, ReadOptions(on_invalid="error"))
    problems = caught.value.problems
    assert len(problems) == 5
    assert problems[0].startswith(f"{path}:2: label must be a class name")
    assert problems[3].startswith("… and 27 more; in all: 30 x label.type. 'autofocus data check")
    assert caught.value.exit_status == 2


def test_warnings_alone_do_not_end_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path, row("a.jpg", [{**BOX, "topX": "0.1"}]))
    data = read_data(path, DetectionRecord, ReadOptions(on_invalid="error"))
    assert data.issues.counts == {"coordinate.text": 1}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "has no rows"),
        ("\n", "has no rows"),
        ('{"image_url": "a.jpg"}\n', "none of its 1 rows can be used"),
        ("{\n", "none of its 1 rows can be used"),
    ],
)
def test_nothing_valid_is_an_error(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=why):
        read_data(path, MulticlassRecord)


def test_the_fingerprint_follows_the_rows_and_not_their_order(tmp_path: Path) -> None:
    rows = [row("a.jpg", "x"), row("b.jpg", "y")]
    one = read_data(write(tmp_path / "one", *rows), MulticlassRecord)
    two = read_data(write(tmp_path / "two", *reversed(rows)), MulticlassRecord)
    other = read_data(write(tmp_path / "other", rows[0], row("b.jpg", "z")), MulticlassRecord)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 64
