"""A record type says what formats, checks and duplicates must know of it; none asks which it is."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import msgspec
import pytest

from autofocus.data.formats.coco import Coco
from autofocus.data.formats.csv_table import CsvTable
from autofocus.data.options import ReadOptions
from autofocus.data.rows import records, wire
from autofocus.data.rows.issues import RowIssues
from autofocus.data.rows.label_rules import read_classes
from autofocus.data.rows.records import RECORD_TYPES, ImageRecord
from autofocus.data.rows.wire import WIRES, WireRules
from autofocus.data.sources.check import check_source
from autofocus.data.sources.find import find_source, infer_tasks
from autofocus.data.sources.read import read_data
from autofocus.demo.scene import MAX_OBJECTS, render_scene
from autofocus.demo.write import scene_to_record
from autofocus.errors import DataError

OPTIONS = ReadOptions()


class ShareRecord(ImageRecord, frozen=True, kw_only=True):
    """A task that autofocus does not have: a share, such as of a leaf that is ill."""

    label: float

    object_shape: ClassVar[Literal["box", "outline"] | None] = None
    min_classes: ClassVar[int] = 0

    @classmethod
    def fits(cls, label: Any) -> bool:
        return isinstance(label, dict) and "share" in label

    @classmethod
    def label_of_text(cls, text: str, separator: str | None) -> dict[str, float]:
        return {"share": float(text)}

    def after(self, earlier: Self) -> Self:
        return self if self.label > earlier.label else earlier


class WireShare(msgspec.Struct):
    share: float


def read_share(value: Any, path: str, issues: RowIssues) -> float | None:
    issues.error("share.type", path, "must be a share", str(value))
    return None


@pytest.fixture(autouse=True)
def fifth_type(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = WireRules(
        label_type=WireShare,
        are_sound=lambda labels: all(0 <= label.share <= 1 for label in labels),
        to_label=lambda label: label.share,
        names=lambda labels: (),
        read=read_share,
    )
    monkeypatch.setitem(wire.WIRES, ShareRecord, rules)
    monkeypatch.setitem(records.RECORD_TYPES, "image_share", ShareRecord)


def write(path: Path, *shares: float, url: str = "x{}.jpg") -> Path:
    rows = [
        {"image_url": url.format(i), "label": {"share": share}} for i, share in enumerate(shares)
    ]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    for row in rows:
        (path.parent / row["image_url"]).write_bytes(b"\xff\xd8")
    return path


def test_rows_of_a_fifth_type_are_found_checked_and_read(tmp_path: Path) -> None:
    source = find_source(write(tmp_path / "a.jsonl", 0.25, 0.5, 7.5), OPTIONS)
    assert infer_tasks(source, OPTIONS) == ["image_share"]
    report = check_source(source, ShareRecord, OPTIONS, depth="rows")
    assert (report.num_rows, report.num_valid) == (3, 2)
    assert report.issues.counts == {"share.type": 1}, "without classes, none is missing"
    data = read_data(str(source.path), ShareRecord, OPTIONS)
    assert [record.label for record in data.records] == [0.25, 0.5]


def test_a_fifth_type_says_which_of_two_rows_counts(tmp_path: Path) -> None:
    data = read_data(str(write(tmp_path / "a.jsonl", 0.5, 0.25, url="x.jpg")), ShareRecord, OPTIONS)
    assert [record.label for record in data.records] == [0.5]


def test_formats_ask_the_type(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("filename,label\nx.jpg,0.75\n")
    (row,) = CsvTable().read_rows(table, ShareRecord, OPTIONS)
    assert row.values == {"image_url": "x.jpg", "label": {"share": 0.75}}
    coco = tmp_path / "a.json"
    coco.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(DataError, match="where objects are"):
        list(Coco().read_rows(coco, ShareRecord, OPTIONS))


@pytest.mark.parametrize("record_type", RECORD_TYPES.values())
def test_a_label_fits_its_own_type(record_type: type[ImageRecord]) -> None:
    scene = render_scene(0, 1, 1 if record_type.min_classes > 1 else MAX_OBJECTS)
    record: Any = scene_to_record(scene, record_type, "a.jpg")
    label = msgspec.to_builtins(record)["label"]
    assert [kind for kind in RECORD_TYPES.values() if kind.fits(label)] == [record_type]
    issues = RowIssues("a.jsonl", 1)
    assert WIRES[record_type].read(label, "label", issues) == record.label
    assert not issues.issues


def test_a_name_twice_is_one_class() -> None:
    issues = RowIssues("a.jsonl", 1)
    assert read_classes(["can", "jar", "can"], "label", issues) == ["can", "jar"]
    assert [issue.code for issue in issues.issues] == ["label.repeated"]
