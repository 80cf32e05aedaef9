from pathlib import Path

import pytest

from autofocus.errors import ImageError, InputError
from autofocus.scoring.image_paths import expand_images, read_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", "sub/c.jpeg", "sub/[1].bmp", "empty/readme.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_folder_means_its_images_sorted(folder: Path) -> None:
    paths = expand_images([str(folder)])
    assert names(paths, folder) == ["a.png", "b.JPG", "sub/[1].bmp", "sub/c.jpeg"]


def test_pattern_means_the_images_it_matches(folder: Path) -> None:
    assert names(expand_images([f"{folder}/*"]), folder) == ["a.png", "b.JPG"]
    assert names(expand_images([f"{folder}/**/*.jp*"]), folder) == ["sub/c.jpeg"]
    assert len(expand_images([f"{folder}/**"])) == 4


def test_files_keep_the_order_given_there_or_not(folder: Path) -> None:
    given = [f"{folder}/sub/[1].bmp", f"{folder}/missing.jpg", f"{folder}/notes.txt"]
    assert expand_images(given) == [Path(name) for name in given]


def test_empty_argument_is_not_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="an image argument is empty"):
        expand_images(["a.png", ""])


def test_every_folder_and_pattern_without_images_is_named(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        expand_images([f"{folder}/empty", f"{folder}/*.gif", f"{folder}/a.png"])
    assert len(caught.value.problems) == 2
    assert "empty: has no image files" in caught.value.problems[0]
    assert "*.gif: matches no image files" in caught.value.problems[1]


def test_missing_and_unreadable_files_say_so(folder: Path) -> None:
    assert read_image(folder / "a.png") == b"a.png"
    missing, directory = read_image(folder / "no.jpg"), read_image(folder / "sub")
    assert isinstance(missing, ImageError)
    assert missing.code == "image.missing"
    assert isinstance(directory, ImageError)
    assert directory.code == "image.unreadable"
