"""Copies of a photo are found whatever was done to them; photos that differ somewhere are not."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from autofocus.data.images import near_duplicates as module
from autofocus.data.images.near_duplicates import NUM_BYTES, near_duplicates, thumbnail

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photos() -> list[Pixels]:
    """Return parts of real photos."""
    found = []
    for photo in (data.coffee(), data.chelsea(), data.astronaut(), data.rocket()):
        height, width, _ = photo.shape
        found += [photo[: height // 2], photo[height // 3 :, : width // 2], photo[:, width // 3 :]]
    return found


def saved(photo: Pixels, quality: int) -> Pixels:
    bgr = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def resized(photo: Pixels, factor: float) -> Pixels:
    return cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def cropped(photo: Pixels, left: float, top: float, right: float, bottom: float) -> Pixels:
    height, width, _ = photo.shape
    return photo[
        int(top * height) : int((1 - bottom) * height), int(left * width) : int((1 - right) * width)
    ]


def brighter(photo: Pixels, gain: float, offset: int) -> Pixels:
    return np.clip(photo * gain + offset, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "saved anew": lambda photo: saved(photo, 60),
    "half": lambda photo: resized(photo, 0.5),
    "a third": lambda photo: resized(photo, 1 / 3),
    "larger": lambda photo: cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "cropped around": lambda photo: cropped(photo, 0.015, 0.015, 0.015, 0.015),
    "cropped at a corner": lambda photo: cropped(photo, 0.03, 0.03, 0, 0),
    "brighter": lambda photo: brighter(photo, 1.0, 20),
    "darker": lambda photo: brighter(photo, 0.8, 0),
    "all": lambda photo: saved(
        brighter(resized(cropped(photo, 0.02, 0.01, 0, 0), 0.7), 0.95, 10), 60
    ),
}


def pairs_of(images: list[Pixels]) -> set[tuple[int, int]]:
    return set(near_duplicates(np.stack([thumbnail(image) for image in images])))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(photos: list[Pixels], change: str) -> None:
    num = len(photos)
    found = pairs_of([*photos, *map(CHANGES[change], photos)])
    assert found == {(i, i + num) for i in range(num)}


def test_a_thing_that_was_moved_makes_another_photo(photos: list[Pixels]) -> None:
    """The camera has not moved, nor has the light: a patch of a tenth of the side has."""
    changed = []
    for photo in photos:
        height, width, _ = photo.shape
        other = photo.copy()
        part = other[height // 3 : height // 3 + height // 8, width // 4 : width // 4 + width // 8]
        part[:] = np.where(part.mean() < 128, part // 2 + 127, part // 2)
        changed.append(other)
    assert pairs_of([*photos, *changed]) == set()


def test_the_same_shape_in_another_colour_is_another_photo() -> None:
    red, green = np.full((2, 90, 120, 3), 230, np.uint8)
    # Both are as bright.
    red[20:70, 30:90], green[20:70, 30:90] = (200, 30, 40), (20, 117, 40)
    assert pairs_of([red, green]) == set()
    assert pairs_of([red, brighter(red, 0.9, 0)]) == {(0, 1)}


def test_empty_images_are_nobodys_copies() -> None:
    grey = [np.full((40, 40, 3), level, np.uint8) for level in (0, 128, 128, 255)]
    assert pairs_of(grey) == set()


@pytest.mark.parametrize("num", [0, 1])
def test_too_few_to_compare(num: int) -> None:
    assert list(near_duplicates(np.zeros((num, NUM_BYTES), np.uint8))) == []


def test_of_too_many_pairs_the_most_alike_are_compared(
    photos: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS", 3)
    crops = [cropped(photos[0], 0.005 * i, 0, 0, 0) for i in range(8)]
    assert pairs_of([*crops, *photos[1:], photos[3]]) >= {(10, 19)}


def test_no_pair_is_missed_in_a_search_by_parts() -> None:
    """Random patterns, some of them nearly twice: all are found in parts of any size."""
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 255, (3_000, 4, 4)).astype(np.float32)
    lumas = np.stack([cv2.resize(row, (32, 32)) for row in smooth]).reshape(3_000, -1)
    rows = np.full((3_000, NUM_BYTES), 128, np.uint8)
    rows[:, : lumas.shape[1]] = lumas
    rows[2_900:] = rows[100:200]
    rows[2_900:, 0] ^= 1
    assert set(near_duplicates(rows)) >= {(100 + i, 2_900 + i) for i in range(100)}
