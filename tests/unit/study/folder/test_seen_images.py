"""Images that a run has seen: replaced ones are told, touched ones are not, and few are read."""

import os
from pathlib import Path

import pytest

from autofocus.data.images.fetch import content_hash, tag_of
from autofocus.errors import RunFolderError
from autofocus.study.folder import seen_images
from autofocus.study.folder.seen_images import SeenImages


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file in files:
        file.write_bytes(file.name.encode())
    return [str(file) for file in files]


def note(seen: SeenImages, places: list[str]) -> None:
    hashes = [content_hash(Path(place).read_bytes()) for place in places]
    seen.note(places, [tag_of(place) for place in places], hashes)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the files that are read from now on."""
    read: list[str] = []
    open_bytes = seen_images.open_bytes
    monkeypatch.setattr(seen_images, "open_bytes", lambda at: read.append(at) or open_bytes(at))
    return read


def test_what_is_as_it_was_is_not_read(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = SeenImages(tmp_path / "run" / "images.json")
    seen.refuse_changed(places)
    note(seen, places[:1])
    note(seen, places[1:])
    read = reads(monkeypatch)
    SeenImages(tmp_path / "run" / "images.json").refuse_changed(places)
    assert read == []
    # Written anew with the same content: read, and the same.
    os.utime(places[1], ns=(1, 1))
    seen.refuse_changed(places)
    assert read == [places[1]]


def test_an_image_that_was_replaced_is_named(places: list[str], tmp_path: Path) -> None:
    seen = SeenImages(tmp_path / "images.json")
    note(seen, places)
    Path(places[1]).write_bytes(b"9.png")
    with pytest.raises(RunFolderError, match=r"the data changed: 1 image is .*1\.png.*--overwrite"):
        seen.refuse_changed(places)
    seen.refuse_changed([places[0], places[2]])
    # Read again before anybody asked.
    with pytest.raises(RunFolderError, match="the data changed"):
        note(seen, places)
    Path(places[0]).write_bytes(b"8.png")
    with pytest.raises(RunFolderError, match=r"2 images are others .*0\.png"):
        seen.refuse_changed(places)
    seen.forget()
    seen.refuse_changed(places)
    note(seen, places)


def test_images_that_are_new_or_gone_change_nothing(places: list[str], tmp_path: Path) -> None:
    seen = SeenImages(tmp_path / "images.json")
    note(seen, places[:2])
    Path(places[0]).unlink()
    seen.refuse_changed(places)


def test_of_very_many_images_in_a_store_some_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"https://host/{i}.png?key=secret" for i in range(5000)]
    seen = SeenImages(tmp_path / "images.json")
    seen.note(urls, ["a"] * 5000, ["old"] * 5000)
    asked: list[str] = []
    monkeypatch.setattr(seen_images, "tag_of", lambda url: asked.append(url) or "b")
    monkeypatch.setattr(seen_images, "open_bytes", lambda url: b"new")
    with pytest.raises(RunFolderError, match="1000 images are others") as refused:
        seen.refuse_changed(urls)
    assert len({*asked}) == 1000
    assert "secret" not in str(refused.value)
    monkeypatch.setattr(seen_images, "tag_of", lambda url: "")
    seen.refuse_changed(urls)
