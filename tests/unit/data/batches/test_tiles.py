"""Grids, where tiles lie, and what of an object each shows."""

import itertools

import numpy as np
import pytest

from autofocus.data.batches.tiles import (
    WHOLE,
    auto_grid,
    crop_target,
    tile_regions,
    tile_targets,
    tiling_of,
)
from autofocus.errors import JobError
from autofocus.manifest import Tiling
from autofocus.settings.parameters import read_parameters
from autofocus.structures.targets import BoxTarget, OutlineTarget

SIZE = (1000, 2000)


def boxes(*xyxy: list[float], size: tuple[int, int] = SIZE) -> BoxTarget:
    num = len(xyxy)
    return BoxTarget(
        np.array(xyxy, np.float32).reshape(-1, 4), np.arange(num), np.zeros(num, bool), size
    )


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
@pytest.mark.parametrize("grid", [(3, 2), (1, 4), (16, 16)])
def test_tiles_cover_the_image_and_share_the_overlap(grid: tuple[int, int], overlap: float) -> None:
    regions = tile_regions(Tiling(*grid, overlap))
    assert len(regions) == grid[0] * grid[1]
    columns = [(left, right) for left, top, right, _ in regions if top == 0]
    rows = [(top, bottom) for left, top, _, bottom in regions if left == 0]
    assert len(columns) == grid[0]
    assert len(rows) == grid[1]
    for intervals in (columns, rows):
        assert intervals[0][0] == 0
        assert intervals[-1][1] == 1
        side = intervals[0][1]
        for (start, end), (next_start, next_end) in itertools.pairwise(intervals):
            assert end - next_start == pytest.approx(overlap * side)
            assert next_end - next_start == pytest.approx(end - start)


def test_tiles_are_row_by_row() -> None:
    assert tile_regions(Tiling(2, 2, 0.0)) == [
        (0, 0, 0.5, 0.5),
        (0.5, 0, 1, 0.5),
        (0, 0.5, 0.5, 1),
        (0.5, 0.5, 1, 1),
    ]


def test_cropped_boxes_are_in_fractions_of_the_tile() -> None:
    target = boxes([0.6, 0.2, 0.7, 0.4], [0.1, 0.1, 0.2, 0.2])
    part = crop_target(target, (0.5, 0.0, 1.0, 0.5))
    np.testing.assert_allclose(part.xyxy_frac, [[0.2, 0.4, 0.4, 0.8]], rtol=1e-5)
    assert part.classes.tolist() == [0]
    assert part.size == (500, 1000)


def test_whole_region_changes_nothing() -> None:
    target = boxes([0.6, 0.2, 0.7, 0.4], [0.0, 0.0, 1.0, 1.0])
    part = crop_target(target, WHOLE)
    np.testing.assert_array_equal(part.xyxy_frac, target.xyxy_frac)
    assert not part.is_crowd.any()
    assert part.size == SIZE


@pytest.mark.parametrize(
    ("box", "is_crowd"),
    [
        ([0.4, 0.1, 0.6, 0.2], False),  # half of it
        ([0.48, 0.1, 0.6, 0.2], True),  # a sixth of it, which is next to nothing of the tile
        ([0.3, 0.1, 1.0, 0.9], False),  # two sevenths of it, which is a third of the tile
    ],
)
def test_what_is_hardly_visible_becomes_a_crowd(box: list[float], is_crowd: bool) -> None:
    part = crop_target(boxes(box), (0.0, 0.0, 0.5, 1.0))
    assert part.is_crowd.tolist() == [is_crowd]
    assert part.xyxy_frac[0, 2] == 1


def test_crowd_stays_a_crowd() -> None:
    target = BoxTarget(np.float32([[0.1, 0.1, 0.2, 0.2]]), np.array([0]), np.array([True]), SIZE)
    assert crop_target(target, (0.0, 0.0, 0.5, 0.5)).is_crowd.tolist() == [True]


def test_outlines_are_cut_and_their_boxes_follow() -> None:
    # A triangle whose tip, not its base, lies in the left half.
    triangle = np.float32([[0.3, 0.5], [0.7, 0.3], [0.7, 0.7]])
    hidden = np.float32([[0.8, 0.8], [0.9, 0.8], [0.9, 0.9]])
    target = OutlineTarget(
        np.float32([[0.3, 0.3, 0.7, 0.7], [0.8, 0.8, 0.9, 0.9]]),
        np.array([3, 4]),
        np.zeros(2, bool),
        SIZE,
        ((triangle,), (hidden,)),
    )
    part = crop_target(target, (0.0, 0.0, 0.5, 1.0))
    assert part.classes.tolist() == [3]
    np.testing.assert_allclose(part.xyxy_frac, [[0.6, 0.4, 1.0, 0.6]], rtol=1e-5)
    (ring,) = part.polygons[0]
    ring = ring[np.lexsort(ring.T[::-1])]
    np.testing.assert_allclose(ring, [[0.6, 0.5], [1.0, 0.4], [1.0, 0.6]], rtol=1e-5)
    # A quarter of it is left; as a part of the tile that is enough.
    assert part.is_crowd.tolist() == [False]


def test_crowd_without_an_outline_is_kept_by_its_box() -> None:
    target = OutlineTarget(
        np.float32([[0.1, 0.1, 0.4, 0.4]]), np.array([0]), np.array([True]), SIZE, ((),)
    )
    part = crop_target(target, (0.0, 0.0, 0.2, 1.0))
    np.testing.assert_allclose(part.xyxy_frac, [[0.5, 0.1, 1.0, 0.4]], rtol=1e-5)
    assert part.polygons == ((),)


def test_training_sees_each_image_whole_and_the_tiles_with_objects() -> None:
    targets = [boxes([0.1, 0.1, 0.2, 0.2]), boxes(), boxes([0.45, 0.45, 0.55, 0.55])]
    entries = tile_targets(targets, Tiling(2, 2, 0.0))
    assert [(index, region) for index, region, _ in entries] == [
        (0, WHOLE),
        (0, (0, 0, 0.5, 0.5)),
        (1, WHOLE),
        (2, WHOLE),
        *((2, region) for region in tile_regions(Tiling(2, 2, 0.0))),
    ]
    assert entries[0][2] is targets[0]
    assert [len(target) for _, _, target in entries] == [1, 1, 0, 1, 1, 1, 1, 1]


def test_auto_leaves_large_objects_whole() -> None:
    assert auto_grid([boxes([0.1, 0.1, 0.3, 0.5])]) is None
    assert auto_grid([]) is None
    assert auto_grid([boxes()]) is None


def test_auto_cuts_the_longer_side_first() -> None:
    # 50 pixels of 2000 x 1000: 2.5 % of the longer side, 4 % once it is cut in two.
    small = [0.5, 0.5, 0.525, 0.55]
    assert auto_grid([boxes(small, small, size=(1000, 2000))]) == (2, 1)
    tall = [0.5, 0.5, 0.55, 0.525]
    assert auto_grid([boxes(tall, tall, size=(2000, 1000))]) == (1, 2)


def test_auto_stops_at_what_can_be_paid() -> None:
    cols, rows = auto_grid([boxes([0.5, 0.5, 0.501, 0.502])]) or (0, 0)
    assert 8 <= cols * rows <= 12
    assert cols > rows


def test_auto_ignores_crowds() -> None:
    target = BoxTarget(
        np.float32([[0, 0, 1, 1], [0.5, 0.5, 0.52, 0.54]]),
        np.array([0, 0]),
        np.array([True, False]),
        SIZE,
    )
    assert auto_grid([target]) == (2, 1)


def test_tiling_of_a_job() -> None:
    small = boxes([0.5, 0.5, 0.52, 0.54])
    assert tiling_of("3x2", 0.25, [small]) == Tiling(3, 2, 0.25)
    for spelling in ("[3, 2]", "(3, 2)", "3x2"):
        parsed = read_parameters({"tile_grid_size": spelling})
        assert tiling_of(spelling, 0.25, []) == tiling_of(parsed["tile_grid_size"], 0.25, [])
    assert tiling_of("auto", 0.1, [small]) == Tiling(2, 1, 0.1)
    assert tiling_of("auto", 0.1, [boxes([0, 0, 1, 1])]) is None
    with pytest.raises(JobError, match=r"tile_overlap_ratio must be .* got 1\.0"):
        tiling_of("3x2", 1.0, [])
