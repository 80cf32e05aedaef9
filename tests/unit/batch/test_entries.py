"""Images of a batch, from whatever names them, in order; what names none keeps its place."""

from pathlib import Path
from typing import Any

import fsspec
import pytest

from autofocus.batch.entries import Entry, read_entries
from autofocus.data.options import ReadOptions
from autofocus.errors import DataError, ImageError, InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a.png", "notes.md", "sub/c.jpg", "sub/.hidden.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entries(*sources: str, **options: Any) -> list[Entry]:
    return list(read_entries(sources, ReadOptions(**options)))


def names(*sources: str, **options: object) -> list[str]:
    return [entry.name for entry in entries(*sources, **options)]


def test_folders_patterns_and_files_in_the_order_given(folder: Path) -> None:
    assert names("photos") == ["photos/a.png", "photos/b.jpg", "photos/sub/c.jpg"]
    assert names("photos/*.jpg", "photos/a.png") == ["photos/b.jpg", "photos/a.png"]
    assert names("photos/missing.jpg") == ["photos/missing.jpg"]


@pytest.mark.parametrize("source", ["photos/sub/*.bmp", "empty", ""])
def test_a_source_without_images_is_refused(folder: Path, source: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"names no image|matches no image|is empty"):
        names("photos", source)


def test_rows_lead_to_images_whatever_else_they_hold(folder: Path) -> None:
    rows = [
        '{"image_url": "photos/b.jpg", "label": [{"topX": NaN}]}',
        "",
        '{"label": "can", "image_url": "photos/a.png"}',
        '{"label": "no image"}',
        "not JSON",
        '{"image_url": "../outside.jpg"}',
        '{"image_url": "https://store/a.jpg?signature=secret"}',
    ]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    found = entries("rows.jsonl")
    assert [entry.name for entry in found] == [
        *("photos/b.jpg", "photos/a.png", "rows.jsonl:4", "rows.jsonl:5"),
        *("../outside.jpg", "https://store/a.jpg"),
    ]
    assert found[0].place == str(folder / "photos" / "b.jpg")
    assert found[5].place == "https://store/a.jpg?signature=secret"
    codes = [entry.place.code for entry in found if isinstance(entry.place, ImageError)]
    assert codes == ["row.no_image", "row.no_image", "url.outside_missing"]


def test_columns_and_maps_are_those_of_training(folder: Path) -> None:
    (folder / "a.manifest").write_text('{"source-ref": "s3://bucket/sub/c.jpg"}\n')
    maps = {"s3://bucket": str(folder / "photos")}
    (found,) = entries("a.manifest", image_column="source-ref", maps=maps)
    assert found == ("s3://bucket/sub/c.jpg", str(folder / "photos" / "sub" / "c.jpg"))


def test_an_mltable_is_what_its_file_says(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"image_url": "photos/a.png"}\n')
    (folder / "MLTable").write_text(
        "paths: [{file: ./train.jsonl}]\ntransformations: [{read_json_lines: {}}]\n"
    )
    assert names(".") == names("MLTable") == ["photos/a.png"]


def test_a_list_has_a_path_or_url_a_line(folder: Path) -> None:
    lines = b"photos/b.jpg\r\n\nhttps://store/x.png?sig=1\nphotos/\xff.jpg\n"
    (folder / "list.txt").write_bytes(lines)
    assert names("list.txt") == ["photos/b.jpg", "https://store/x.png", "photos/\\udcff.jpg"]


def test_a_line_without_end_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autofocus.data.rows.jsonl.MAX_LINE_BYTES", 1 << 16)
    (folder / "rows.jsonl").write_text('{"image_url": "' + "a" * (1 << 18) + '"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:1: a line must have at most"):
        names("rows.jsonl")


def test_an_object_store_is_listed_like_a_folder(folder: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("b.jpg", "a.jpg", "deep/c.png", "notes.txt"):
        store.pipe(f"/batch-bucket/may/{name}", b"image")
    store.pipe("/batch-bucket/rows.jsonl", b'{"image_url": "memory://batch-bucket/may/a.jpg"}\n')
    start = "memory://batch-bucket/may"
    assert names(start) == [f"{start}/a.jpg", f"{start}/b.jpg", f"{start}/deep/c.png"]
    assert names(f"{start}/*.jpg") == [f"{start}/a.jpg", f"{start}/b.jpg"]
    assert names("memory://batch-bucket/rows.jsonl") == [f"{start}/a.jpg"]
    assert names(f"{start}/a.jpg") == [f"{start}/a.jpg"]
    with pytest.raises(InputError, match="names no image"):
        names("memory://batch-bucket/june/")


def test_an_extra_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("no s3fs")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match=r"pip install '\.\[s3\]'"):
        names("s3://bucket/photos/")
