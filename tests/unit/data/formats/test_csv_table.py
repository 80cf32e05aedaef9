"""CSV tables become the same checked rows as JSON Lines."""

from pathlib import Path

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import DetectionRecord, MulticlassRecord, MultilabelRecord
from autofocus.data.sources.find import find_splits
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.rows import tasks, touch

MULTICLASS, MULTILABEL = "image_classification", "image_classification_multilabel"


def write_csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    return folder


def test_boxes_are_not_read_from_folders_or_tables(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "table/1.jpg")
    with pytest.raises(DataError, match="needs a JSONL file"):
        read_data(tmp_path, DetectionRecord)
    write_csv(tmp_path / "table", "filename,labels\n1.jpg,a\n")
    with pytest.raises(DataError, match="needs a JSONL file"):
        read_data(tmp_path / "table", DetectionRecord)


@pytest.mark.parametrize(
    ("cells", "expected", "guessed"),
    [
        (["a b", "a", "b"], [["a", "b"], ["a"], ["b"]], [MULTILABEL]),
        (["a;b c", "b c", ""], [["a", "b c"], ["b c"], []], [MULTILABEL]),
        (["a|b", "c", "a | c"], [["a", "b"], ["c"], ["a", "c"]], [MULTILABEL]),
        (['"a,b"', "c", "a"], [["a", "b"], ["c"], ["a"]], [MULTILABEL]),
        (["a", "b", "a"], [["a"], ["b"], ["a"]], [MULTICLASS]),
        (["milk bottle", "can", "can"], [["milk", "bottle"], ["can"], ["can"]], None),
        (["a", "", "b"], [["a"], [], ["b"]], None),
    ],
)
def test_labels_are_separated_by_one_mark_a_table(
    tmp_path: Path, cells: list[str], expected: list[list[str]], guessed: list[str] | None
) -> None:
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    rows = "".join(f"{i}.jpg,{cell}\n" for i, cell in enumerate(cells))
    write_csv(tmp_path, "filename,labels\n" + rows)
    assert tasks(tmp_path) == (guessed or [MULTICLASS, MULTILABEL])
    data = read_data(tmp_path, MultilabelRecord)
    assert [record.label for record in data.records] == expected


def test_a_table_of_boxes_is_not_taken_for_classes(tmp_path: Path) -> None:
    """One row an object, as TensorFlow's and Roboflow's exports: the last row counted."""
    touch(tmp_path, "0.jpg")
    header = "filename,width,height,class,xmin,ymin,XMax,ymax\n"
    write_csv(tmp_path, header + "0.jpg,9,9,can,1,1,2,2\n0.jpg,9,9,jug,3,3,4,4\n")
    with pytest.raises(DataError, match=r"columns of boxes .*as COCO"):
        tasks(tmp_path)
    # Whoever names the task has decided.
    assert len(read_data(tmp_path, MulticlassRecord).records) == 1


def test_a_cell_is_one_class_for_the_multiclass_task(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    write_csv(tmp_path, "filename,labels\n0.jpg,milk bottle\n1.jpg,can\n2.jpg,\n")
    data = read_data(tmp_path, MulticlassRecord)
    assert [record.label for record in data.records] == ["milk bottle", "can"]
    assert [(issue.line, issue.code) for issue in data.issues.examples()] == [(4, "label.missing")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_other_tools_are_read(tmp_path: Path, encoding: str, delimiter: str) -> None:
    touch(tmp_path, "images/0.jpg", "images/1.jpg")
    lines = [("Image", "split", "Label"), ("0.jpg", "x", "Größe"), ("1.jpg", "y", "can")]
    text = "\r\n".join(delimiter.join(cells) for cells in lines) + "\r\n\r\n"
    write_csv(tmp_path, text, encoding)
    data = read_data(tmp_path, MulticlassRecord)
    found = [(record.image_url, record.label) for record in data.records]
    assert found == [("images/0.jpg", "Größe"), ("images/1.jpg", "can")]


def test_columns_may_be_named(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg")
    write_csv(tmp_path, "photo,kind,label\n0.jpg,can,x\n")
    options = ReadOptions(image_column="photo", label_column="kind")
    assert read_data(tmp_path, MulticlassRecord, options).records[0].label == "can"
    with pytest.raises(DataError, match=r"labels\.csv:1: .*--image-column"):
        read_data(tmp_path, MulticlassRecord)


def test_a_row_of_another_width_is_named_and_costs_only_itself(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    write_csv(tmp_path, "filename,labels\n0.jpg,a\n1.jpg,a,b\n2.jpg,b\n")
    data = read_data(tmp_path, MulticlassRecord)
    assert [record.image_url for record in data.records] == ["0.jpg", "2.jpg"]
    assert [(issue.line, issue.code) for issue in data.issues.examples()] == [(3, "csv.columns")]
    assert data.num_rows == 3


def test_a_table_that_is_no_text_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    for content, expected in (
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"filename,labels\n0.jpg,\xe9\n", "must be UTF-8"),
        (b"", "must begin with column names"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=expected):
            read_data(path, MulticlassRecord)


def test_an_image_root_holds_for_tables_too(tmp_path: Path) -> None:
    touch(tmp_path, "photos/0.jpg", "table/x.txt")
    write_csv(tmp_path / "table", "filename,labels\n0.jpg,a\n")
    options = ReadOptions(image_root=tmp_path / "photos")
    data = read_data(tmp_path / "table" / "labels.csv", MulticlassRecord, options)
    assert data.locations == [str(tmp_path / "photos" / "0.jpg")]


def test_a_column_says_the_splits_and_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}.jpg" for name in "abcd"))
    rows = "a.jpg,can,Train\nb.jpg,can,valid\nc.jpg,cup,TEST\nd.jpg,cup,later\n"
    table = tmp_path / "data.csv"
    table.write_text(f"filename,label,Split\n{rows}")
    splits = {name: table / name for name in ("train", "validation", "test")}
    for place in (table, tmp_path):
        assert find_splits(place) == splits
    (tmp_path / "rows.jsonl").write_text('{"image_url": "a.jpg", "label": ["x"]}\n')
    for place, names in ((tmp_path, "a"), *zip(splits.values(), "abc", strict=True)):
        data = read_data(place, MulticlassRecord)
        assert [record.image_url for record in data.records] == [f"{name}.jpg" for name in names]
        assert data.issues.counts["csv.split"] == (names == "a")


def test_several_tables_are_splits_by_their_names_or_asked_about(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for name in ("train", "val"):
        (tmp_path / f"{name}_labels.csv").write_text("filename,label\na.jpg,can\n")
    assert find_splits(tmp_path) == {
        "train": tmp_path / "train_labels.csv",
        "validation": tmp_path / "val_labels.csv",
    }
    (tmp_path / "train_labels.csv").rename(tmp_path / "more.csv")
    with pytest.raises(DataError, match=r"has several tables \(more\.csv, val_labels\.csv\)"):
        read_data(tmp_path, MulticlassRecord)
