"""Objects at seams, seen by a made-up network that finds exactly what each view shows."""

from collections.abc import Sequence

import numpy as np
import pytest

from autofocus.data.batches.tiles import WHOLE, crop_target, tile_regions
from autofocus.manifest import Tiling
from autofocus.structures.merge_views import merge_views
from autofocus.structures.polygons import polygon_iou
from autofocus.structures.predictions import Detections, Instances
from autofocus.structures.targets import BoxTarget, OutlineTarget

SIZE = (600, 800)


def boxes(*xyxy: Sequence[float], classes: Sequence[int] | None = None) -> BoxTarget:
    return BoxTarget(
        np.array(xyxy, np.float32).reshape(-1, 4),
        np.array([0] * len(xyxy) if classes is None else classes, np.int64),
        np.zeros(len(xyxy), bool),
        SIZE,
    )


def found(target: BoxTarget, region: Sequence[float], scores: Sequence[float] = ()) -> Detections:
    """Return exactly what a view shows, in fractions of the image."""
    part = crop_target(target, tuple(region))  # type: ignore[arg-type]
    left, top, right, bottom = region
    span, start = np.float32([right - left, bottom - top]), np.float32([left, top])
    xyxy = (part.xyxy_frac.reshape(-1, 2, 2) * span + start).reshape(-1, 4)
    given = np.array(scores or [0.8] * len(part), np.float32)
    if isinstance(part, OutlineTarget):
        rings = tuple(tuple(r * span + start for r in outline) for outline in part.polygons)
        return Instances(xyxy, given, part.classes, SIZE, rings)
    return Detections(xyxy, given, part.classes, SIZE)


def merged_from(target: BoxTarget, tiling: Tiling, *, whole: bool = True) -> Detections:
    regions = [*([WHOLE] if whole else []), *tile_regions(tiling)]
    return merge_views([found(target, region) for region in regions], regions, {})


def assert_same(result: Detections, target: BoxTarget) -> None:
    """Check that there is exactly one object for each that was drawn, where it was drawn."""
    assert len(result) == len(target)
    nearest = np.abs(result.xyxy_frac[:, None] - target.xyxy_frac).max(axis=2)
    assert sorted(nearest.argmin(axis=1)) == list(range(len(target)))
    assert nearest.min(axis=1).max(initial=0) < 1e-4


CROSSING = {
    "a vertical seam": [0.45, 0.1, 0.55, 0.2],
    "a horizontal seam": [0.1, 0.42, 0.2, 0.6],
    "the corner of four tiles": [0.4, 0.4, 0.6, 0.6],
    "the corner of four tiles and much more": [0.2, 0.2, 0.9, 0.8],
    "all tiles and every edge": [0.0, 0.0, 1.0, 1.0],
    "three tiles in a row": [0.05, 0.05, 0.97, 0.15],
    "no seam": [0.05, 0.05, 0.15, 0.15],
    "a tile's edge that it only touches": [0.4, 0.1, 0.571428, 0.2],
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole image and tiles", "tiles only"])
@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("grid", [(2, 2), (3, 2), (5, 4)])
@pytest.mark.parametrize("name", CROSSING)
def test_object_across_seams_is_one(
    name: str, grid: tuple[int, int], overlap: float, whole: bool
) -> None:
    target = boxes(CROSSING[name])
    assert_same(merged_from(target, Tiling(*grid, overlap), whole=whole), target)


@pytest.mark.parametrize("whole", [True, False])
def test_neighbours_of_one_class_stay_apart(whole: bool) -> None:
    # At the middle seam, at a tile's edge, and across both.
    pairs = boxes(
        *([0.30, 0.1, 0.498, 0.3], [0.502, 0.1, 0.70, 0.3]),
        *([0.48, 0.4, 0.569, 0.5], [0.573, 0.4, 0.66, 0.5]),
        *([0.40, 0.6, 0.52, 0.8], [0.50, 0.6, 0.65, 0.8]),
    )
    assert_same(merged_from(pairs, Tiling(2, 2), whole=whole), pairs)


def test_whole_image_keeps_apart_what_meets_at_a_seam_without_overlap() -> None:
    pair = boxes([0.30, 0.1, 0.499, 0.3], [0.501, 0.1, 0.70, 0.3])
    assert_same(merged_from(pair, Tiling(2, 2, 0.0)), pair)


def test_objects_of_one_view_are_never_merged() -> None:
    # Their overlap, 0.33, is above the tiles' threshold and below the network's own.
    crowd = boxes([0.1, 0.1, 0.2, 0.3], [0.15, 0.1, 0.25, 0.3])
    assert_same(merged_from(crowd, Tiling(2, 2)), crowd)


def test_classes_do_not_meet() -> None:
    target = boxes([0.4, 0.4, 0.6, 0.6], [0.4, 0.4, 0.6, 0.6], classes=[0, 1])
    result = merged_from(target, Tiling(2, 2))
    assert sorted(result.classes.tolist()) == [0, 1]
    # Half a cup to the left of a seam, half a plate to its right.
    halves = [
        found(boxes([0.4, 0.1, 0.5, 0.2]), (0, 0, 0.5, 1)),
        found(boxes([0.5, 0.1, 0.6, 0.2], classes=[1]), (0.5, 0, 1, 1)),
    ]
    assert len(merge_views(halves, [(0, 0, 0.5, 1), (0.5, 0, 1, 1)], {})) == 2


def test_piece_gives_its_certainty_to_the_whole() -> None:
    target, regions = boxes([0.4, 0.1, 0.6, 0.2]), [WHOLE, (0.0, 0.0, 0.5, 1.0)]
    views = [found(target, WHOLE, [0.4]), found(target, regions[1], [0.9])]
    result = merge_views(views, regions, {})
    assert_same(result, target)
    assert result.scores == pytest.approx([0.9])


def test_piece_is_not_given_to_what_is_hardly_there() -> None:
    target, regions = boxes([0.4, 0.1, 0.6, 0.2]), [WHOLE, (0.0, 0.0, 0.5, 1.0)]
    junk = Detections(np.float32([[0.4, 0.1, 0.95, 0.2]]), np.float32([0.02]), np.array([0]), SIZE)
    result = merge_views([junk, found(target, regions[1], [0.9])], regions, {})
    np.testing.assert_allclose(result.xyxy_frac[0], [0.4, 0.1, 0.5, 0.2], atol=1e-6)
    assert result.scores[0] == pytest.approx(0.9)


def test_threshold_decides_what_two_views_share() -> None:
    regions = [WHOLE, (0.0, 0.0, 0.6, 0.6)]
    views = [
        found(boxes([0.1, 0.1, 0.3, 0.3]), WHOLE, [0.9]),
        found(boxes([0.2, 0.1, 0.4, 0.3]), regions[1], [0.8]),  # overlap 1/3
    ]
    assert len(merge_views(views, regions, {})) == 1
    assert len(merge_views(views, regions, {"tile_predictions_nms_threshold": 0.4})) == 2


def test_at_a_threshold_of_one_everything_is_returned_as_it_is() -> None:
    regions = [WHOLE, (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    target = boxes([0.4, 0.1, 0.6, 0.2])
    views = [
        found(target, region, [score])
        for region, score in zip(regions, (0.5, 0.9, 0.7), strict=True)
    ]
    result = merge_views(views, regions, {"tile_predictions_nms_threshold": 1.0})
    assert result.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    np.testing.assert_allclose(result.xyxy_frac[2], target.xyxy_frac[0], atol=1e-6)


def test_the_most_certain_are_returned_first_and_up_to_the_limit() -> None:
    target = boxes([0.1, 0.1, 0.2, 0.2], [0.7, 0.1, 0.8, 0.2], [0.4, 0.8, 0.6, 0.9])
    regions = [WHOLE]
    views = [found(target, WHOLE, [0.5, 0.9, 0.7])]
    result = merge_views(views, regions, {}, max_objects=2)
    assert result.scores.tolist() == pytest.approx([0.9, 0.7])


def test_nothing_found_is_nothing() -> None:
    regions = [WHOLE, *tile_regions(Tiling(2, 1))]
    nothing = Instances(
        np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64), SIZE
    )
    result = merge_views([nothing] * 3, regions, {})
    assert isinstance(result, Instances)
    assert len(result) == 0
    assert result.size == SIZE


def ellipse(centre: tuple[float, float], radii: tuple[float, float], turn: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], 1).astype(np.float32)


def outlines(*rings: np.ndarray) -> OutlineTarget:
    xyxy = np.array([[*r.min(axis=0), *r.max(axis=0)] for r in rings], np.float32)
    num = len(rings)
    return OutlineTarget(
        xyxy, np.zeros(num, np.int64), np.zeros(num, bool), SIZE, tuple((r,) for r in rings)
    )


@pytest.mark.parametrize("overlap", [0.0, 0.25])
@pytest.mark.parametrize("centre", [(0.5, 0.2), (0.3, 0.5), (0.5, 0.5), (0.52, 0.47)])
def test_outlines_are_united_across_seams(centre: tuple[float, float], overlap: float) -> None:
    target = outlines(ellipse(centre, (0.15, 0.08), 0.6))
    result = merged_from(target, Tiling(2, 2, overlap), whole=False)
    assert isinstance(result, Instances)
    assert len(result) == 1
    assert polygon_iou(result.polygons[0], target.polygons[0], 256) > 0.985
    np.testing.assert_allclose(result.xyxy_frac[0], target.xyxy_frac[0], atol=1e-4)
    assert len(result.polygons[0]) == 1


@pytest.mark.parametrize("whole", [True, False])
def test_outlines_side_by_side_stay_apart_though_their_boxes_overlap(whole: bool) -> None:
    target = outlines(
        ellipse((0.47, 0.47), (0.2, 0.02), 0.78), ellipse((0.53, 0.53), (0.2, 0.02), 0.78)
    )
    result = merged_from(target, Tiling(2, 2), whole=whole)
    assert isinstance(result, Instances)
    assert len(result) == 2
    for outline in target.polygons:
        overlaps = [polygon_iou(outline, other, 256) for other in result.polygons]
        assert max(overlaps) > 0.95


def test_hole_is_kept_when_pieces_are_united() -> None:
    outer, inner = ellipse((0.5, 0.3), (0.2, 0.2), 0), ellipse((0.5, 0.3), (0.1, 0.1), 0)
    target = OutlineTarget(
        np.float32([[0.3, 0.1, 0.7, 0.5]]),
        np.array([0]),
        np.array([False]),
        SIZE,
        ((outer, inner),),
    )
    result = merged_from(target, Tiling(2, 2), whole=False)
    assert isinstance(result, Instances)
    assert len(result) == 1
    assert polygon_iou(result.polygons[0], target.polygons[0], 256) > 0.97


def test_many_objects_at_random_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    centres = (np.stack(np.meshgrid(np.arange(14), np.arange(14)), -1).reshape(-1, 2) + 0.5) / 14
    centres = centres + rng.uniform(-0.005, 0.005, centres.shape)
    half = rng.uniform(0.01, 0.03, centres.shape)
    target = boxes(*np.concatenate([centres - half, centres + half], axis=1).tolist())
    for tiling in (Tiling(3, 3), Tiling(4, 2, 0.1), Tiling(2, 5, 0.0)):
        assert_same(merged_from(target, tiling), target)
