"""Pascal VOC: its pixel convention, its lists, and what tools get wrong in it."""

from pathlib import Path

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import DetectionRecord
from autofocus.data.sources.convert import convert_to_jsonl
from autofocus.data.sources.find import find_source, find_splits
from autofocus.data.sources.read import Data, read_data
from autofocus.errors import DataError
from support.object_sources import (
    CAN,
    CUP,
    HEIGHT,
    WIDTH,
    Thing,
    voc_xml,
    write_image,
    write_text,
    write_voc,
)

SHARED = Path(__file__).parents[4] / "../shared/data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no photos beside the project")


def write_xml(folder: Path, xml: str, name: str = "a") -> Path:
    write_image(folder / "JPEGImages" / f"{name}.png")
    write_text(folder / "Annotations" / f"{name}.xml", xml)
    return folder


def write_object(folder: Path, box: str, more: str = "") -> Path:
    bad = f"<object><name>can</name>{more}<bndbox>{box}</bndbox></object>"
    return write_xml(folder, voc_xml("a", [CUP], bad))


def write_lists(folder: Path, **lists: str) -> None:
    for name, names in lists.items():
        write_text(folder / "ImageSets" / "Main" / f"{name}.txt", "\n".join(names.split()) + "\n")


def names(data: Data[DetectionRecord]) -> list[str]:
    return [Path(place).stem for place in data.locations]


def test_pixels_count_from_one_and_the_last_belongs_to_the_box(tmp_path: Path) -> None:
    box = f"<xmin>1</xmin><ymin>1</ymin><xmax>{WIDTH}</xmax><ymax>{HEIGHT}</ymax>"
    whole = read_data(write_object(tmp_path, box), DetectionRecord).records[0].label[1]
    assert (whole.top_x, whole.top_y, whole.bottom_x, whole.bottom_y) == (0, 0, 1, 1)


@pytest.mark.parametrize("edge", ["0", "0.4"])
def test_an_edge_of_zero_or_a_fraction_shows_that_a_set_counts_from_zero(
    tmp_path: Path, edge: str
) -> None:
    write_object(tmp_path, f"<xmin>{edge}</xmin><ymin>2</ymin><xmax>10</xmax><ymax>10</ymax>")
    write_xml(tmp_path, voc_xml("b", [Thing("can", (4, 5, 14, 15))]), "b")
    data = read_data(tmp_path, DetectionRecord)
    label = data.records[0].label[1]
    assert (label.top_x, label.top_y) == (float(edge) / WIDTH, 2 / HEIGHT)
    # The one in its other file is written as [5, 14] x [6, 15].
    label = data.records[1].label[0]
    assert (label.top_x, label.bottom_x) == (5 / WIDTH, 14 / WIDTH)
    assert data.issues.counts == {"box.zero_based": 1}


def test_an_edge_of_zero_in_one_split_counts_for_the_others(tmp_path: Path) -> None:
    """One tool wrote them all; the smaller split may just have no object at an edge."""
    zero = "<xmin>0</xmin><ymin>2</ymin><xmax>10</xmax><ymax>10</ymax>"
    write_object(tmp_path / "train", zero)
    write_xml(tmp_path / "valid", voc_xml("b", [Thing("can", (4, 5, 14, 15))]), "b")
    write_xml(tmp_path / "old", voc_xml("b", [Thing("can", (4, 5, 14, 15))]), "b")
    data = read_data(find_splits(tmp_path)["validation"], DetectionRecord)
    # It is written as [5, 14] x [6, 15].
    assert data.records[0].label[0].top_x == 5 / WIDTH
    assert data.issues.counts == {"box.zero_based": 1}
    # A folder beside them that is no split of theirs is another set.
    assert read_data(tmp_path / "old", DetectionRecord).records[0].label[0].top_x == 4 / WIDTH


@pytest.mark.parametrize(
    ("box", "more", "code", "place"),
    [
        ("<xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>9</ymax>", "", "box.empty", ".bndbox"),
        ("<xmin>9</xmin><ymin>5</ymin><xmax>5</xmax><ymax>9</ymax>", "", "box.inverted", ".bndbox"),
        ("<xmin>9</xmin><ymin>5</ymin><xmax>x</xmax><ymax>9</ymax>", "", "coordinate.type", ""),
        ("<xmin>9</xmin><ymin>5</ymin><xmax>nan</xmax><ymax>9</ymax>", "", "coordinate.type", ""),
        ("<xmin>9</xmin><ymin>5</ymin><xmax>12</xmax>", "", "coordinate.type", ".bndbox"),
        ("<xmin>-9</xmin><ymin>5</ymin><xmax>5</xmax><ymax>9</ymax>", "", "out_of_range", ""),
    ],
)
def test_bad_boxes_are_named(tmp_path: Path, box: str, more: str, code: str, place: str) -> None:
    data = read_data(write_object(tmp_path, box, more), DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup"]
    (issue,) = data.issues.examples()
    assert issue.code.endswith(code)
    assert issue.path.startswith("object[1]" + place)
    assert issue.file == str(tmp_path / "Annotations" / "a.xml")


def test_objects_without_name_or_box_are_named(tmp_path: Path) -> None:
    more = "<object><name/><bndbox/></object><object><name>can</name></object>"
    data = read_data(write_xml(tmp_path, voc_xml("a", [CUP], more)), DetectionRecord)
    found = [(issue.code, issue.path) for issue in data.issues.examples()]
    assert found == [
        ("label.missing", "object[1].name"),
        ("coordinate.missing", "object[2].bndbox"),
    ]


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    box = "<xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax>"
    part = f"<part><name>head</name><bndbox>{box}</bndbox></part>"
    data = read_data(write_object(tmp_path, box, part), DetectionRecord)
    assert [label.label for label in data.records[0].label] == ["cup", "can"]


@pytest.mark.parametrize(("text", "crowd"), [("1", True), ("0", False), ("", False)])
def test_difficult_becomes_crowd(tmp_path: Path, text: str, crowd: bool) -> None:
    box = "<xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax>"
    path = write_object(tmp_path, box, f"<difficult>{text}</difficult>")
    assert read_data(path, DetectionRecord).records[0].label[1].is_crowd is crowd


def test_the_image_knows_its_size_better(tmp_path: Path) -> None:
    for name, size in (("a", "<size><width>80</width><height>40</height></size>"), ("b", "")):
        write_xml(tmp_path, voc_xml(name, [CAN], size=size), name)
    data = read_data(tmp_path, DetectionRecord)
    assert data.records[0].label == data.records[1].label
    (issue,) = data.issues.examples()
    assert (issue.code, issue.value) == ("image.size", "80 x 40")
    assert issue.message == f"must be the image's {WIDTH} x {HEIGHT}"


def test_a_file_that_is_no_xml_costs_its_image(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [CAN], "b": [CUP]})
    write_text(tmp_path / "Annotations" / "b.xml", "<annotation>\n<object>")
    data = read_data(tmp_path, DetectionRecord)
    assert (names(data), data.num_rows) == (["a"], 2)
    assert "b.xml: must be XML" in data.issues.examples()[0].text()
    assert "line 2" in data.issues.examples()[0].text()


def test_what_windows_wrote_is_read(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [CAN]})
    file = tmp_path / "Annotations" / "a.xml"
    file.write_text('<?xml version="1.0" encoding="utf-16"?>' + file.read_text(), "utf-16")
    data = read_data(tmp_path, DetectionRecord)
    assert names(data) == ["a"]
    assert not data.issues.counts


@pytest.mark.parametrize(
    "encoding",
    [
        *("GB2312", "GBK", "GB18030", "Big5", "Shift_JIS", "EUC-JP", "EUC-KR", "cp949"),
        *("utf-7", "latin1", "utf-16"),
    ],
)
def test_xml_is_read_in_the_encoding_that_it_says(tmp_path: Path, encoding: str) -> None:
    name = {"latin1": "\xe9t\xe9", "EUC-KR": "\ud55c", "cp949": "\ud55c"}.get(encoding, "\u6c34")
    text = voc_xml("a", []).replace(
        "</annotation>",
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>",
    )
    folder = write_xml(tmp_path, "")
    xml = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)
    (folder / "Annotations" / "a.xml").write_bytes(xml)
    data = read_data(folder, DetectionRecord)
    assert [label.label for label in data.records[0].label] == [name]


@pytest.mark.parametrize("encoding", ["GBK", "klingon", "hex"])
def test_what_is_not_in_its_encoding_costs_its_image(tmp_path: Path, encoding: str) -> None:
    folder = write_voc(tmp_path, {"a": [CAN], "b": [CUP]})
    xml = f'<?xml version="1.0" encoding="{encoding}"?><annotation>'.encode() + b"\xff\xff"
    (folder / "Annotations" / "a.xml").write_bytes(xml)
    data = read_data(folder, DetectionRecord)
    assert names(data) == ["b"]
    assert data.issues.counts["xml.invalid"] == 1


def test_an_empty_first_file_does_not_hide_the_others(tmp_path: Path) -> None:
    folder = write_voc(tmp_path, {"b": [CUP]})
    (folder / "Annotations" / "a.xml").write_bytes(b"")
    assert find_source(folder, ReadOptions()).kind == "voc"


def test_of_two_images_of_one_stem_the_file_name_decides(tmp_path: Path) -> None:
    folder = write_voc(tmp_path, {"a": [CAN]})
    (folder / "JPEGImages" / "a.bmp").write_bytes(b"x")
    data = read_data(folder, DetectionRecord)
    assert [Path(place).name for place in data.locations] == ["a.png"]


def test_lists_are_the_splits(tmp_path: Path) -> None:
    write_voc(tmp_path, {name: [CAN] for name in "abcd"})
    write_lists(tmp_path, train="b a", val="c", trainval="a b c", test="d")
    splits = find_splits(tmp_path)
    read = {split: names(read_data(place, DetectionRecord)) for split, place in splits.items()}
    assert read == {"train": ["b", "a"], "validation": ["c"], "test": ["d"]}
    assert names(read_data(tmp_path, DetectionRecord)) == ["b", "a"]
    assert {find_source(place, ReadOptions()).name for place in splits.values()} == {tmp_path.name}


def test_trainval_is_trained_on_where_there_is_no_train(tmp_path: Path) -> None:
    write_voc(tmp_path, {name: [CAN] for name in "abcd"})
    write_lists(tmp_path, val="c", trainval="a b c", test="d")
    assert list(find_splits(tmp_path)) == ["train", "test"]
    assert names(read_data(tmp_path, DetectionRecord)) == ["a", "b", "c"]


def test_lists_without_one_to_train_on(tmp_path: Path) -> None:
    write_voc(tmp_path, {name: [CAN] for name in "ab"})
    write_lists(tmp_path, test="a b")
    assert find_splits(tmp_path) == {}
    assert names(read_data(tmp_path, DetectionRecord)) == ["a", "b"]
    write_lists(tmp_path, test="a", val="b")
    with pytest.raises(DataError, match=r"no list to train on; name one of .*val\.txt"):
        read_data(tmp_path, DetectionRecord)
    place = tmp_path / "ImageSets" / "Main" / "val.txt"
    assert names(read_data(place, DetectionRecord)) == ["b"]


def test_a_listed_name_without_annotation_is_named_with_its_line(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [CAN], "b c": [CAN]})
    path = write_text(
        tmp_path / "ImageSets" / "Main" / "train.txt", "a 1\n\nb c\ngone  -1\nb c.png\n"
    )
    data = read_data(path, DetectionRecord)
    assert names(data) == ["a", "b c"]
    issue = data.issues.examples()[0]
    assert (issue.code, issue.file, issue.line) == ("annotation.missing", str(path), 4)
    assert data.issues.counts["image_url.repeated"] == 1


def test_images_beside_their_xml_and_named_by_it(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "photo.png")
    write_image(tmp_path / "loose.png")
    write_text(tmp_path / "a.xml", voc_xml("other", [CAN]))
    write_text(tmp_path / "b.xml", voc_xml("x\\photo", [CAN]))
    data = read_data(tmp_path, DetectionRecord)
    assert names(data) == ["a", "photo"]
    left_out = [i.value for i in data.issues.examples() if i.code == "image.no_annotation"]
    assert left_out == ["loose.png"]


def test_an_image_root_says_where_images_are(tmp_path: Path) -> None:
    write_text(tmp_path / "Annotations" / "a.xml", voc_xml("a", [CAN]))
    write_image(tmp_path / "photos" / "a.png")
    options = ReadOptions(image_root=tmp_path / "photos")
    assert read_data(tmp_path, DetectionRecord, options).locations == [
        str(tmp_path / "photos" / "a.png")
    ]


@needs_shared
def test_blood_cells_are_read_and_converted(tmp_path: Path) -> None:
    written = convert_to_jsonl(SHARED / "bccd-voc", DetectionRecord, ReadOptions(), tmp_path)
    assert {part.split: part.num_records for part in written} == {
        "train": 205,
        "validation": 87,
        "test": 72,
    }
    counts: dict[str, int] = {}
    for split, place in find_splits(SHARED / "bccd-voc").items():
        before = read_data(place, DetectionRecord)
        after = read_data(tmp_path / f"{split}.jsonl", DetectionRecord)
        assert [record.label for record in after.records] == [r.label for r in before.records]
        for label in (label for record in after.records for label in record.label):
            counts[label.label] = counts.get(label.label, 0) + 1
    # 4,155, less the two that have no width.
    assert counts == {"RBC": 4153, "WBC": 372, "Platelets": 361}
    dropped = (tmp_path / "dropped.jsonl").read_text().splitlines()
    assert len(dropped) == 2
    assert all("box.empty" in line for line in dropped)
    assert "BloodImage_00338.xml" in "".join(dropped)


@needs_shared
def test_fridge_objects_are_read() -> None:
    data = read_data(SHARED / "fridge-detection-voc", DetectionRecord)
    labels = [label for record in data.records for label in record.label]
    assert (len(data.records), len(labels)) == (6, 12)
    assert len({label.label for label in labels}) == 4
    first = data.records[0].label[0]
    assert first.top_x == pytest.approx(85 / 499)
    assert first.bottom_y == pytest.approx(439 / 666)
    assert not data.issues.counts


def test_small_numbers_are_fractions_and_do_not_count_from_one(tmp_path: Path) -> None:
    box = "<bndbox><xmin>0.1</xmin><ymin>0.25</ymin><xmax>0.5</xmax><ymax>1</ymax></bndbox>"
    for name in "ab":
        write_image(tmp_path / f"{name}.png")
        more = f"<object><name>can</name>{box}</object>" if name == "b" else ""
        write_text(tmp_path / f"{name}.xml", voc_xml(name, [], more))
    data = read_data(tmp_path, DetectionRecord)
    label = data.records[1].label[0]
    assert (label.top_x, label.top_y, label.bottom_x, label.bottom_y) == (0.1, 0.25, 0.5, 1)
    assert data.issues.counts["coordinate.fractions"] == 1
    write_text(tmp_path / "a.xml", voc_xml("a", [CAN]))
    data = read_data(tmp_path, DetectionRecord)
    assert not data.issues.counts["coordinate.fractions"]
