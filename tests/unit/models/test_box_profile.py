import numpy as np
import pytest

from autofocus.models.box_profile import TYPICAL, profile_boxes
from autofocus.structures.targets import BoxTarget


def target(
    boxes: list[list[float]], size: tuple[int, int] = (100, 200), crowd: tuple[int, ...] = ()
) -> BoxTarget:
    """Boxes in pixels (left, top, right, bottom) of an image of `size`."""
    height, width = size
    array = np.array(boxes, np.float32).reshape(-1, 4) / [width, height, width, height]
    is_crowd = np.isin(np.arange(len(boxes)), crowd)
    return BoxTarget(array.astype(np.float32), np.zeros(len(boxes), np.int64), is_crowd, size)


def test_sides_and_shapes_are_those_of_the_boxes() -> None:
    profile = profile_boxes([target([[0, 0, 20, 40]]), target([[50, 10, 70, 50]] * 3)])
    assert profile.num_images == 2
    assert profile.num_objects == 4
    # 20 x 40 pixels of 200 x 100.
    np.testing.assert_allclose(profile.side_frac, [(800 / 20_000) ** 0.5] * 5, rtol=1e-5)
    np.testing.assert_allclose(profile.aspect, [2.0] * 5, rtol=1e-5)
    assert profile.image_size == (100, 200)
    np.testing.assert_allclose(profile.image_aspect, [0.5] * 5)


def test_quantiles_are_over_objects_and_numbers_over_images() -> None:
    sides = np.linspace(10, 90, 81)
    crowded = target([[0, 0, side, side] for side in sides], size=(100, 100))
    profile = profile_boxes([crowded, *[target([])] * 99])
    np.testing.assert_allclose(profile.side_frac[2], 0.5, rtol=1e-4)
    assert profile.side_frac[0] < profile.side_frac[1] < profile.side_frac[4] <= 0.9
    assert 0 < profile.objects_p99 < 81


def test_crowds_and_boxes_without_area_do_not_count() -> None:
    boxes = [[0, 0, 100, 100], [30, 30, 30, 60], [10, 10, 20, 20]]
    profile = profile_boxes([target(boxes, size=(100, 100), crowd=(0,))])
    assert profile.num_objects == 1
    np.testing.assert_allclose(profile.side_frac[2], 0.1, rtol=1e-5)


def test_images_without_objects_leave_everyday_sizes() -> None:
    profile = profile_boxes([target([], size=(300, 400))] * 3)
    assert profile.num_objects == 0
    assert profile.objects_p99 == 0
    assert profile.side_frac == TYPICAL.side_frac
    assert profile.image_size == (300, 400)


def test_no_images_are_everyday_images() -> None:
    assert profile_boxes([]) == TYPICAL


@pytest.mark.parametrize("position", range(5))
def test_quantiles_grow(position: int) -> None:
    assert list(TYPICAL.side_frac) == sorted(TYPICAL.side_frac)
    assert TYPICAL.aspect[position] > 0
