"""Groups: copies, near-duplicates and a column's value, joined over any number of steps."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data import groups as module
from autofocus.data.groups import group_images
from autofocus.data.images.near_duplicates import thumbnail


def picture(seed: int) -> NDArray[np.uint8]:
    rough = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return cv2.resize(rough, (96, 96), interpolation=cv2.INTER_CUBIC)


def grouped(
    pictures: Sequence[NDArray[np.uint8]],
    hashes: str | None = None,
    names: Sequence[str | None] | None = None,
) -> module.Groups:
    num = len(pictures)
    rows = np.stack([thumbnail(pixels) for pixels in pictures])
    return group_images(list(hashes or map(str, range(num))), rows, names or [None] * num)


def test_images_without_anything_in_common_are_by_themselves() -> None:
    found = grouped([picture(i) for i in range(6)])
    assert found.of_image == list(range(6))
    assert found.near_duplicates == []
    assert found.num_alike == 0


def test_equal_bytes_equal_names_and_equal_looks_join() -> None:
    a, b, c, d = (picture(i) for i in range(4))
    small = cv2.resize(a, (48, 48), interpolation=cv2.INTER_AREA)
    assert grouped([a, b, small, c]).of_image == [0, 1, 0, 3]
    assert grouped([a, b, b, c], hashes="abbc").of_image == [0, 1, 1, 3]
    assert grouped([a, b, c, d], names=[None, "x", "y", "x"]).of_image == [0, 1, 2, 1]


def test_groups_join_through_each_other() -> None:
    a, b, c, d = (picture(i) for i in range(4))
    small = cv2.resize(a, (48, 48), interpolation=cv2.INTER_AREA)
    # d is in b's group, b in the column's group of the small copy of a.
    found = grouped([d, b, small, a, c, d], "dbsacd", [None, "x", "x", None, "y", "x"])
    assert found.of_image == [0, 0, 0, 0, 4, 0]
    assert found.near_duplicates == [(2, 3)]


def test_of_a_small_set_half_may_be_copies_of_one() -> None:
    a, b, c = (picture(i) for i in range(3))
    half, third = (cv2.resize(a, (s, s), interpolation=cv2.INTER_AREA) for s in (48, 32))
    assert grouped([a, half, third, b, c, picture(4)]).of_image == [0, 0, 0, 3, 4, 5]
    assert grouped([a, half, third, b, c]).of_image == [0, 1, 2, 3, 4]


def test_no_name_is_no_name_in_common() -> None:
    assert grouped([picture(0), picture(1)], names=[None, None]).of_image == [0, 1]


def test_of_many_that_look_alike_none_is_taken_for_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ALIKE", 3)
    rng = np.random.default_rng(0)
    belt = [np.clip(picture(0) + rng.normal(0, 4, (96, 96, 3)), 0, 255).astype(np.uint8)] * 4
    copy = cv2.resize(picture(1), (48, 48), interpolation=cv2.INTER_AREA)
    found = grouped([*belt, picture(1), copy], hashes="aaaabc")
    assert found.num_alike == 0
    assert found.of_image == [0, 0, 0, 0, 4, 4]
    found = grouped([*belt, picture(1), copy])
    assert found.num_alike == 4
    assert found.of_image == [0, 1, 2, 3, 4, 4]
    assert found.near_duplicates == [(4, 5)]
