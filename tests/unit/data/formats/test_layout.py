"""What all formats share: litter is nobody's data, links are followed, one name has two forms."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from autofocus.data.formats.layout import walk_files
from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import RECORD_TYPES, MulticlassRecord
from autofocus.data.sources.find import find_source, infer_tasks
from autofocus.data.sources.read import Data, read_data
from support.object_sources import CAN, CUP, Scene, write_coco, write_text, write_via, write_voc
from support.rows import row, touch, write

posix = pytest.mark.skipif(os.name == "nt", reason="links need rights there")

NFC, NFD = (unicodedata.normalize(form, "boîte") for form in ("NFC", "NFD"))
SCENE: Scene = {NFD: [CAN], "b": [CUP]}


def read(path: Path) -> Data:
    options = ReadOptions()
    task = infer_tasks(find_source(path, options), options)[0]
    return read_data(path, RECORD_TYPES[task])


def write_yolo_folders(folder: Path, scene: Scene) -> Path:
    for name in scene:
        touch(folder, f"images/{name}.png")
        write_text(folder / "labels" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    write_text(folder / "classes.txt", "can\n")
    return folder


def write_table(folder: Path, scene: Scene) -> Path:
    touch(folder, *(f"images/{name}.png" for name in scene))
    rows = "".join(f"{name}.png,can\n" for name in scene)
    write_text(folder / "labels.csv", f"filename,label\n{rows}")
    return folder


def write_rows(folder: Path, scene: Scene) -> Path:
    write(folder, *(row(f"{name}.png", "can") for name in scene), name="labels.jsonl")
    return folder


WRITERS = [write_coco, write_voc, write_yolo_folders, write_via, write_table, write_rows]


@pytest.mark.parametrize("write_source", WRITERS)
def test_litter_is_nobodys_data(
    tmp_path: Path, write_source: Callable[[Path, Scene], Path]
) -> None:
    write_source(tmp_path, SCENE)
    for file in list(walk_files(tmp_path)):
        for litter in (f"._{file.name}", f"@eaDir/{file.name}", f".ipynb_checkpoints/{file.name}"):
            (file.parent / litter).parent.mkdir(exist_ok=True)
            (file.parent / litter).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    data = read(tmp_path)
    assert len(data.records) == 2
    assert not data.issues.num_errors
    assert not data.issues.num_warnings


@pytest.mark.parametrize("write_source", WRITERS)
def test_a_name_has_two_unicode_forms(
    tmp_path: Path, write_source: Callable[[Path, Scene], Path]
) -> None:
    """As after a copy between macOS and Linux: the photo's name is taken apart, the rest whole."""
    write_source(tmp_path, SCENE)
    for file in list(walk_files(tmp_path)):
        if file.suffix in (".txt", ".xml") and not file.name.isascii():
            file.rename(file.with_name(unicodedata.normalize("NFC", file.name)))
        elif file.suffix in (".json", ".jsonl", ".csv"):
            text = file.read_text().replace("i\\u0302", "\\u00ee")
            file.write_text(unicodedata.normalize("NFC", text))
    data = read(tmp_path)
    assert {Path(place).stem for place in data.locations if Path(place).is_file()} == {NFD, "b"}
    assert all(record.label for record in data.records)
    assert not data.issues.num_errors


def test_a_class_has_one_unicode_form(tmp_path: Path) -> None:
    touch(tmp_path, f"{NFD}/1.jpg", f"{NFC}/2.jpg", "b/3.jpg")
    data = read_data(tmp_path, MulticlassRecord)
    assert {record.label for record in data.records} == {NFC, "b"}
    assert len(data.locations) == 3


@posix
def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "can/1.jpg", "2.jpg")
    touch(tmp_path / "data", "can/3.jpg", "carton/4.jpg")
    (tmp_path / "data/can/monday").symlink_to(tmp_path / "disk/can")
    (tmp_path / "data/cup").symlink_to(tmp_path / "disk/can")
    (tmp_path / "data/carton/2.jpg").symlink_to(tmp_path / "disk/2.jpg")
    (tmp_path / "data/carton/all").symlink_to(tmp_path / "data")
    (tmp_path / "data/carton/again").symlink_to(".")
    found = read_data(tmp_path / "data", MulticlassRecord)
    places = [
        (Path(place).relative_to(tmp_path / "data").as_posix(), record.label)
        for place, record in zip(found.locations, found.records, strict=True)
    ]
    assert [place for place in places if "all" not in place[0]] == [
        ("can/3.jpg", "can"),
        ("can/monday/1.jpg", "can"),
        ("carton/2.jpg", "carton"),
        ("carton/4.jpg", "carton"),
        ("cup/1.jpg", "cup"),
    ]
    assert len(places) < 20
    assert not found.issues.num_errors


@posix
def test_a_linked_folder_of_photos_has_its_labels(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "a.png")
    write_yolo_folders(tmp_path / "data", {"b": [CUP]})
    write_text(tmp_path / "data/labels/tuesday/a.txt", "0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "data/images/tuesday").symlink_to(tmp_path / "disk")
    data = read(tmp_path / "data")
    assert [len(record.label) for record in data.records] == [1, 1]
    assert not data.issues.num_errors
