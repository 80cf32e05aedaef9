"""Class folders and CSV tables become the same checked rows as JSON Lines."""

from pathlib import Path

import pytest

from autofocus.data.formats.layout import split_folders
from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import DetectionRecord, MulticlassRecord, MultilabelRecord
from autofocus.data.sources.find import find_source, find_splits, infer_tasks
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError

SHARED = Path(__file__).parents[4] / "../shared/data"
MULTICLASS, MULTILABEL = "image_classification", "image_classification_multilabel"

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no photos beside the project")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def tasks(path: Path) -> list[str]:
    return infer_tasks(find_source(path, ReadOptions()), ReadOptions())


def write_csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    return folder


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


def test_boxes_are_not_read_from_folders_or_tables(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "table/1.jpg")
    with pytest.raises(DataError, match="needs a JSONL file"):
        read_data(tmp_path, DetectionRecord)
    write_csv(tmp_path / "table", "filename,labels\n1.jpg,a\n")
    with pytest.raises(DataError, match="needs a JSONL file"):
        read_data(tmp_path / "table", DetectionRecord)


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


def test_splits_are_found_however_their_folders_are_capitalised(tmp_path: Path) -> None:
    touch(tmp_path, "Train/cat/a.png", "Train/dog/a.png", "VAL/cat/b.png", "VAL/dog/b.png")
    touch(tmp_path / "images", "Train/a.png", "TEST/a.png")
    images = tmp_path / "images"
    assert split_folders(images) == {"train": images / "Train", "test": images / "TEST"}
    assert find_splits(tmp_path) == {"train": tmp_path / "Train", "validation": tmp_path / "VAL"}


def test_the_end_of_a_files_name_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "ROWS.JSONL").write_text('{"image_url": "a.png", "label": "x"}\n')
    assert find_source(tmp_path, ReadOptions()).path == tmp_path / "ROWS.JSONL"
