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
    with pytest.raises(DataError, match="3 photos, no labels"):
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


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("SegmentationClass/a.png", "SegmentationObject/a.png"), "Pascal VOC's masks"),
        (("train/images/a.jpg", "train/labelTxt/a.txt", "val/images/b.jpg"), "part of DOTA"),
        (("leftImg8bit/train/a.png", "gtFine/train/a.png"), "part of Cityscapes"),
        (("training/image_2/a.png", "training/label_2/a.txt"), "part of KITTI"),
        (("train/a.png", "trainannot/a.png", "val/a.png", "valannot/a.png"), "part of CamVid"),
        (("ds0/ann/a.jpg.json", "ds0/img/a.jpg", "ds1/img/b.jpg"), "part of Supervisely"),
        (("good/a.png", "ground_truth/a.png"), "part of MVTec AD"),
        (("day/images/a.jpg", "day/labels/a.txt", "night/images/a.jpg"), "labels of images"),
        (("obj_train_data/a.jpg", "obj_valid_data/a.jpg"), "a YOLO set without obj.names"),
        (("train/a.jpg", "train/_annotations.createml.json", "val/a.jpg"), "are splits, no"),
        (("val/bus/a.jpg", "test/bus/a.jpg", "test/can/b.jpg"), "are splits, no"),
        (("train2017/a.jpg", "val2017/a.jpg"), "are splits, no"),
    ],
)
def test_trees_of_other_layouts_are_named_whatever_the_task(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=said):
        tasks(tmp_path)
    with pytest.raises(DataError, match=said):
        read_data(tmp_path, MulticlassRecord)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("2023/can/a.jpg", "2023/bus/a.jpg"), r"one folder of images only, '2023'.*name .*2023"),
        (("can/a.jpg", "can/a.xml", "bus/b.jpg"), r"can/a\.xml lies beside an image"),
    ],
)
def test_what_is_likely_no_class_is_one_only_when_the_task_is_named(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=said):
        tasks(tmp_path)
    assert read_data(tmp_path, MulticlassRecord).records


def test_a_class_that_may_hold_the_classes_is_a_warning(tmp_path: Path) -> None:
    """The task is named wherever there is training, whether or not one class is meant."""
    touch(tmp_path, "2023/all/can/a.jpg", "2023/all/bus/a.jpg")
    data = read_data(tmp_path, MulticlassRecord)
    [issue] = data.issues.examples()
    assert (issue.code, issue.severity, issue.value) == ("class.only_one", "warning", "bus, can")
    assert issue.hint.endswith(f"name {tmp_path}/2023/all.")
    assert not read_data(tmp_path, MultilabelRecord).issues.counts


def test_classes_may_be_called_like_splits_and_hold_folders(tmp_path: Path) -> None:
    touch(tmp_path, "bus/images/a.jpg", "train/b.jpg", "test tube/c.jpg", "can/notes.txt")
    assert tasks(tmp_path) == ["image_classification"]


def test_a_person_may_be_called_like_a_folder_of_another_tool(tmp_path: Path) -> None:
    touch(tmp_path, "ann/a.jpg", "bob/b.jpg")
    data = read_data(tmp_path, MulticlassRecord, ReadOptions())
    assert [record.label for record in data.records] == ["ann", "bob"]


def test_photos_that_are_not_read_are_lost_loudly(tmp_path: Path) -> None:
    touch(tmp_path, "can/1.jpg", "can/1.HEIC", "can/1.MOV", "can/2.HEIC", "cup/3.jpg", "jug/4.heic")
    data = read_data(tmp_path, MulticlassRecord)
    assert [record.image_url for record in data.records] == ["can/1.jpg", "cup/3.jpg"]
    found = {(issue.value, issue.severity) for issue in data.issues.examples()}
    # The HEIC beside its own JPEG, and a film, are no loss.
    assert found == {
        ("can/1.HEIC", "warning"),
        ("can/1.MOV", "warning"),
        ("can/2.HEIC", "error"),
        ("jug/4.heic", "error"),
    }
    touch(tmp_path / "all", "can/1.heic", "cup/2.heic")
    with pytest.raises(DataError, match=r"1\.heic.*Save it as JPEG"):
        read_data(tmp_path / "all", MulticlassRecord)


def test_a_lone_folder_leads_to_the_one_with_the_classes(tmp_path: Path) -> None:
    touch(tmp_path / "a", "Takeout/Photos/can/1.jpg", "Takeout/Photos/cup/2.jpg")
    with pytest.raises(DataError, match=rf"folders in it, name {tmp_path}/a/Takeout/Photos;"):
        tasks(tmp_path / "a")
    touch(tmp_path / "b", "DCIM/100APPLE/1.jpg", "DCIM/100APPLE/2.jpg")
    with pytest.raises(DataError, match=r"'DCIM'\. Photos without labels are no data"):
        tasks(tmp_path / "b")
