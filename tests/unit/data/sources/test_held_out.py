"""Models are measured on what they did not learn from, where the data says what that is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.sources.held_out import part_to_measure
from autofocus.errors import DataError

OPTIONS = ReadOptions()


def converted(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    made = {}
    for name in names:
        row = {"image_url": "a.png", "label": "cup"}
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        made[name] = str(folder / f"{name}.jsonl")
    return made


def voc(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename>"
        "<size><width>8</width><height>8</height></size></annotation>"
    )
    made = {}
    for name in names:
        file = lists / f"{name.replace('validation', 'val')}.txt"
        file.write_text("a\n")
        made[name] = str(file)
    return made


def yolo(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    made = {}
    lines = ["names: [cup]"]
    for name in names:
        key = name.replace("validation", "val")
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "a.jpg").write_bytes(b"")
        lines.append(f"{key}: images/{name}")
        made[name] = str(folder / "data.yaml" / key)
    (folder / "data.yaml").write_text("\n".join(lines))
    return made


@pytest.mark.parametrize("make", [converted, voc, yolo])
@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("train", "validation", "test"), "test"),
        (("train", "validation"), "validation"),
        (("train",), "train"),
    ],
)
def test_the_test_split_then_validation_then_all(
    tmp_path: Path,
    make: Callable[[Path, tuple[str, ...]], dict[str, str]],
    names: tuple[str, ...],
    chosen: str,
) -> None:
    made = make(tmp_path, names)
    part = part_to_measure(str(tmp_path), OPTIONS)
    assert (part.source, part.split) == (made[chosen], chosen)
    assert str(part) == f"{made[chosen]} ({chosen} split)"
    asked = part_to_measure(str(tmp_path), OPTIONS, "train")
    assert (asked.source, asked.split) == (made["train"], "train")


def test_what_has_no_splits_is_taken_whole(tmp_path: Path) -> None:
    made = converted(tmp_path, ("train", "test"))
    for source in (made["train"], "https://example.org/rows.jsonl", str(tmp_path / "nothing")):
        part = part_to_measure(source, OPTIONS)
        assert (part.source, part.split, str(part)) == (source, None, source)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    made = converted(tmp_path, ("train", "test"))
    with pytest.raises(DataError, match=r"has no validation split; its splits are train, test\."):
        part_to_measure(str(tmp_path), OPTIONS, "validation")
    with pytest.raises(DataError, match=r"has no test split; it has no splits\."):
        part_to_measure(made["train"], OPTIONS, "test")


def test_mapped_urls_have_the_splits_of_their_folder(tmp_path: Path) -> None:
    made = converted(tmp_path, ("train", "test"))
    options = ReadOptions(maps={"https://example.org/set": str(tmp_path)})
    part = part_to_measure("https://example.org/set", options)
    assert (part.source, part.split) == (made["test"], "test")
