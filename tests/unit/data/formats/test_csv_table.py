"""CSV tables become the same checked rows as JSON Lines."""

from pathlib import Path

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import (
    DetectionRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
)
from autofocus.data.sources.find import find_splits
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError
from support.object_sources import write_image
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


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["\"['a', 'b c']\"", "\"['a']\"", "[]"], [["a", "b c"], ["a"], []]),
        (['"[""a, b"", ""it\'s""]"', '"[""b""]"', ""], [["a, b", "it's"], ["b"], []]),
        (["\"['a' 'b']\"", "['c']", "['c']"], [["a", "b"], ["c"], ["c"]]),
    ],
)
def test_cells_that_are_lists_are_their_names(
    tmp_path: Path, cells: list[str], expected: list[list[str]]
) -> None:
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    rows = "".join(f"{i}.jpg,{cell}\n" for i, cell in enumerate(cells))
    write_csv(tmp_path, "filename,labels\n" + rows)
    assert tasks(tmp_path) == [MULTILABEL]
    data = read_data(tmp_path, MultilabelRecord)
    assert [record.label for record in data.records] == expected


def test_a_list_of_one_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg")
    write_csv(tmp_path, "filename,labels\n0.jpg,['a']\n1.jpg,\"['b']\"\n")
    assert [r.label for r in read_data(tmp_path, MulticlassRecord).records] == ["a", "b"]


@pytest.mark.parametrize(
    "cell", ['[{"x": 11.2, "rectanglelabels": ["can"]}]', '{"choices": ["can", "cup"]}']
)
def test_objects_in_cells_are_no_classes(tmp_path: Path, cell: str) -> None:
    touch(tmp_path, "0.jpg", "1.jpg")
    quoted = cell.replace('"', '""')
    write_csv(tmp_path, f'image,id,label,annotator\n0.jpg,1,,1\n1.jpg,2,"{quoted}",1\n')
    with pytest.raises(DataError, match=r"labels\.csv:3: .*Label Studio.*COCO or YOLO"):
        tasks(tmp_path)
    with pytest.raises(DataError, match="as it stands"):
        read_data(tmp_path, MultilabelRecord)


def test_the_column_of_choices_is_the_label(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg")
    write_csv(tmp_path, "image,id,choice,annotator\n0.jpg,1,can,1\n1.jpg,2,cup,1\n")
    assert tasks(tmp_path) == [MULTICLASS]
    assert [r.label for r in read_data(tmp_path, MulticlassRecord).records] == ["can", "cup"]


def test_a_column_that_is_always_one_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg")
    write_csv(tmp_path, "image,what,annotator\n0.jpg,can,1\n1.jpg,cup,1\n")
    with pytest.raises(DataError, match="--target-column"):
        tasks(tmp_path)


BOXES = {
    "xmin,ymin,xmax,ymax": ("4,5,14,15", "20,0,40,10"),
    "x1,y1,x2,y2": ("4,5,14,15", "20,0,40,10"),
    "x0,y0,x1,y1": ("4,5,14,15", "20,0,40,10"),
    "XMin,XMax,YMin,YMax": ("0.1,0.35,0.25,0.75", "0.5,1,0,0.5"),
    "bbox_x,bbox_y,bbox_w,bbox_h": ("4,5,10,10", "20,0,20,10"),
    "x,y,width,height": ("4,5,10,10", "20,0,20,10"),
    "x_center,y_center,width,height": ("0.225,0.5,0.25,0.5", "0.75,0.25,0.5,0.5"),
    "width,height,xmin,ymin,xmax,ymax": ("40,20,4,5,14,15", "40,20,20,0,40,10"),
    "bbox": ('"[4.0, 5.0, 10.0, 10.0]"', '"[20, 0, 20, 10]"'),
    "Bounding Box": ('"4 5 14 15"', '"20 0 40 10"'),
}


def write_boxes(folder: Path, columns: str, *boxes: str, name: str = "label,") -> Path:
    write_image(folder / "images" / "a.png")
    write_image(folder / "images" / "b.png")
    rows = "".join(f"a,{'can,' if name else ''}{box}\n" for box in boxes)
    return write_csv(
        folder, f"image_id,{name}{columns}\n{rows}b,{name}{',' * columns.count(',')}\n"
    )


@pytest.mark.parametrize("columns", BOXES)
def test_boxes_in_every_spelling(tmp_path: Path, columns: str) -> None:
    write_boxes(tmp_path, columns, *BOXES[columns])
    assert tasks(tmp_path) == ["image_object_detection"]
    data = read_data(tmp_path, DetectionRecord)
    assert [record.image_url for record in data.records] == ["images/a.png", "images/b.png"]
    found = [(b.label, b.top_x, b.top_y, b.bottom_x, b.bottom_y) for b in data.records[0].label]
    assert found == [("can", 0.1, 0.25, 0.35, 0.75), ("can", 0.5, 0, 1, 0.5)]
    assert data.records[1].label == []
    assert set(data.issues.counts) <= {"coordinate.fractions"}
    assert read_data(tmp_path, MultilabelRecord).records[0].label == ["can"]
    with pytest.raises(DataError, match="not which one class"):
        read_data(tmp_path, MulticlassRecord)
    with pytest.raises(DataError, match="wants outlines"):
        read_data(tmp_path, InstanceSegmentationRecord)


def test_boxes_without_a_class_are_of_one(tmp_path: Path) -> None:
    write_boxes(tmp_path, "xmin,ymin,xmax,ymax", "4,5,14,15", name="")
    (box,) = read_data(tmp_path, DetectionRecord).records[0].label
    assert box.label == "object"


def test_bad_boxes_are_named_by_their_line(tmp_path: Path) -> None:
    write_boxes(tmp_path, "xmin,ymin,xmax,ymax", "4,5,14,15", "4,5,x,15", "9,5,4,15", "4,5,99,15")
    data = read_data(tmp_path, DetectionRecord)
    assert len(data.records[0].label) == 1
    assert [(issue.line, issue.code) for issue in data.issues.examples()] == [
        (3, "coordinate.type"),
        (4, "box.inverted"),
        (5, "coordinate.out_of_range"),
    ]


def test_lists_that_may_be_corners_or_sizes_are_asked_about(tmp_path: Path) -> None:
    write_boxes(tmp_path, "bbox", '"1 2 5 6"')
    with pytest.raises(DataError, match="both fit every image"):
        read_data(tmp_path, DetectionRecord)


def test_an_unknown_table_of_boxes_is_asked_about(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg")
    rows = "0.jpg,can,1,1,2,2\n0.jpg,jug,3,3,4,4\n"
    write_csv(tmp_path, f"filename,label,a,b,c,d\n{rows}")
    with pytest.raises(DataError, match="numbers a, b, c, d"):
        tasks(tmp_path)


def test_several_rows_of_an_image_are_its_labels(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    write_csv(tmp_path, "filename,label\n0.jpg,can\n1.jpg,jug\n0.jpg,jug\n2.jpg,can\n2.jpg,can\n")
    assert tasks(tmp_path) == [MULTILABEL]
    data = read_data(tmp_path, MultilabelRecord)
    assert [record.label for record in data.records] == [["can", "jug"], ["jug"], ["can"]]
    # No row wins over another.
    one = read_data(tmp_path, MulticlassRecord)
    assert [record.image_url for record in one.records] == ["1.jpg", "2.jpg"]
    assert one.issues.counts == {"csv.labels_differ": 1}


@pytest.mark.parametrize(
    ("rows", "labels", "guessed"),
    [
        (["1,0,0", "0,1,1", "0,0,0"], [["can"], ["big jug", "cup"], []], [MULTILABEL]),
        (["1,0,0", "0,1.0,0", "0,0,1"], [["can"], ["big jug"], ["cup"]], [MULTICLASS, MULTILABEL]),
    ],
)
def test_columns_of_0_and_1_are_classes(
    tmp_path: Path, rows: list[str], labels: list[list[str]], guessed: list[str]
) -> None:
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    lines = "".join(f"{i}.jpg,train,{row}\n" for i, row in enumerate(rows))
    write_csv(tmp_path, f"filename,split, can, big jug, cup\n{lines}")
    assert tasks(tmp_path) == guessed
    assert [r.label for r in read_data(tmp_path, MultilabelRecord).records] == labels
    if MULTICLASS in guessed:
        assert [[r.label] for r in read_data(tmp_path, MulticlassRecord).records] == labels


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
