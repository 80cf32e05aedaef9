"""From masks to rings: pixel edges, holes, specks, the number of points."""

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.structures.contours import mask_rings
from autofocus.structures.polygons import rasterize


def redrawn(mask: NDArray[np.bool_], max_points: int = 100) -> NDArray[np.bool_]:
    height, width = mask.shape
    outline = tuple(ring / np.float32([width, height]) for ring in mask_rings(mask, max_points))
    return rasterize([outline], mask.shape)[0] > 0


def disc(side: int, radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side, :side] + 0.5
    return np.asarray(np.hypot(x - side / 2, y - side / 2) < radius)


def test_a_rectangle_is_outlined_on_pixel_edges() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:15, 4:24] = True
    (ring,) = mask_rings(mask, 100)
    assert ring.min(axis=0).tolist() == [4, 5]
    assert ring.max(axis=0).tolist() == [24, 15]
    assert (redrawn(mask) == mask).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 2)])
def test_a_mask_that_fills_its_array_comes_back(shape: tuple[int, int]) -> None:
    assert redrawn(np.ones(shape, bool)).all()


def test_a_hole_is_a_further_ring() -> None:
    mask = disc(60, 25) & ~disc(60, 10)
    outer, inner = mask_rings(mask, 100)
    assert np.ptp(outer, axis=0).tolist() == pytest.approx([50, 50], abs=1)
    assert np.ptp(inner, axis=0).tolist() == pytest.approx([20, 20], abs=1)
    assert (redrawn(mask) == mask).mean() > 0.995


def test_pixels_that_touch_by_their_corners_come_back() -> None:
    mask = np.indices((8, 8)).sum(axis=0) % 2 == 0
    assert (redrawn(mask) == mask).all()


def test_a_staircase_becomes_a_slope_of_few_points() -> None:
    mask = np.tril(np.ones((80, 80), bool))
    (ring,) = mask_rings(mask, 100)
    assert len(ring) <= 8
    assert (redrawn(mask) == mask).mean() > 0.998


@pytest.mark.parametrize("seed", range(20))
def test_no_pixel_changes_sides_where_points_are_not_counted(seed: int) -> None:
    """Sloping edges are where a simplified ring strays across the centre of a pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :40] + 0.5
    turn = np.arctan2(y - 24, x - 20)
    waves = sum(rng.uniform(-2, 2) * np.cos(i * turn + rng.uniform(0, 6)) for i in range(1, 6))
    mask = np.asarray(np.hypot(x - 20, y - 24) < 13 + waves)
    assert (redrawn(mask, max_points=10_000) == mask).all()


def test_specks_and_pinholes_go() -> None:
    mask = disc(100, 40)
    speckled = mask.copy()
    speckled[2, 2], speckled[50, 50] = True, False
    assert len(mask_rings(speckled, 100)) == 1
    assert (redrawn(speckled) == redrawn(mask)).all()


def test_specks_of_labels_stay() -> None:
    mask = disc(100, 40)
    mask[2, 2], mask[50, 50], mask[90:92, 5] = True, False, True
    rings = mask_rings(mask, 100, speck_frac=0.0)
    assert len(rings) == 4
    outline = tuple(ring / np.float32(100) for ring in rings)
    drawn = rasterize([outline], mask.shape)[0] > 0
    assert (drawn[2, 2], drawn[50, 50]) == (True, False)
    assert drawn[90:92, 5].all()


def test_hundreds_of_equal_parts_are_no_specks() -> None:
    mask = np.zeros((60, 60), bool)
    mask[::3, ::3] = True
    assert len(mask_rings(mask, 100)) == 400
    assert (redrawn(mask) == mask).all()
    assert mask_rings(np.zeros((5, 5), bool), 100) == []


def test_parts_that_matter_stay_the_largest_first() -> None:
    mask = np.zeros((40, 100), bool)
    mask[10:20, 10:20], mask[5:35, 50:90] = True, True
    rings = mask_rings(mask, 100)
    assert [ring.min(axis=0).tolist() for ring in rings] == [[50, 5], [10, 10]]


@pytest.mark.parametrize("max_points", [4, 10, 40])
def test_no_ring_has_more_points_and_more_points_are_closer(max_points: int) -> None:
    rng = np.random.default_rng(0)
    angles = np.arctan2(*(np.mgrid[:200, :200] - 100))
    y, x = np.mgrid[:200, :200] - 100
    ragged = np.hypot(x, y) < 60 + 20 * np.sin(9 * angles) + 2 * rng.random((200, 200))
    assert max(map(len, mask_rings(ragged, max_points))) <= max_points
    agreement = [(redrawn(ragged, n) == ragged).mean() for n in (max_points, 2 * max_points)]
    assert agreement[1] > agreement[0]


@pytest.mark.parametrize("max_points", [3, 4, 100])
def test_what_is_thin_stays_a_ring(max_points: int) -> None:
    shapes = [np.eye(30), np.eye(30)[:, ::-1], np.ones((1, 30)), np.ones((30, 1)), np.ones((9, 9))]
    for shape in shapes:
        rings = mask_rings(shape > 0, max_points)
        assert rings
        assert all(3 <= len(ring) <= max_points for ring in rings)


def test_nothing_has_no_rings() -> None:
    assert mask_rings(np.zeros((5, 5), bool), 100) == []
    assert mask_rings(np.zeros((0, 5), bool), 100) == []
