"""D-RISE on detectors whose needs are known, because they are written here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.errors import RequestError
from autofocus.explain.base import FoundBoxes
from autofocus.explain.d_rise import BoxMaps, box_maps, random_masks, resemblance
from autofocus.explain.parameters import Parameters
from autofocus.structures.frames import Frame

SIZE = (48, 64)
FRAME = Frame((96, 128))
UPPER_LEFT, LOWER_RIGHT = [0.1, 0.1, 0.4, 0.5], [0.6, 0.5, 0.9, 0.9]
# What is looked at: rows and columns of the canvas, the same places as the two boxes.
PLACES = ((slice(5, 24), slice(6, 26)), (slice(24, 43), slice(38, 58)))
BOTH = FoundBoxes(np.array([UPPER_LEFT, LOWER_RIGHT], np.float32), np.array([0, 1]))
QUICK = Parameters(xai_algorithm="d_rise", num_masks=400, grid=6)


def detect(images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Find one box of each class; each score is the mean of the pixels in one place."""
    scores = np.stack([images[:, 0, y, x].mean(axis=(1, 2)) for y, x in PLACES], axis=1)
    num = len(images)
    return {
        "boxes": np.tile(BOTH.xyxy_frac, (num, 1, 1)),
        "scores": scores.astype(np.float32),
        "classes": np.tile(BOTH.classes, (num, 1)),
    }


def explain(
    parameters: Parameters = QUICK,
    boxes: FoundBoxes = BOTH,
    check: Callable[[], None] = lambda: None,
    shown: tuple[int, int] = SIZE,
) -> BoxMaps:
    canvas = np.ones((3, *SIZE), np.float32)
    return box_maps(detect, canvas, shown, FRAME, boxes, parameters, check)


def test_each_map_is_highest_where_its_detector_looks() -> None:
    found = explain()
    assert found.maps.shape == (2, *SIZE)
    assert found.maps.dtype == np.float32
    for saliency, (rows, columns) in zip(found.maps, PLACES, strict=True):
        inside = np.zeros(SIZE, np.bool_)
        inside[rows, columns] = True
        assert inside.ravel()[saliency.argmax()]
        assert saliency[inside].mean() > 10 * abs(saliency[~inside].mean())
    assert (found.half_agreement > 0.7).all()
    assert found.mean_resemblance == pytest.approx([0.5, 0.5], abs=0.05)


def test_what_a_network_sees_through_no_mask_has_no_map() -> None:
    blind = FoundBoxes(np.array([UPPER_LEFT], np.float32), np.array([2]))
    found = explain(boxes=blind)
    assert not found.maps.any()
    assert np.isnan(found.half_agreement).all()


def test_the_seed_decides_the_map() -> None:
    first, again = explain(), explain()
    assert np.array_equal(first.maps, again.maps)
    other = explain(Parameters(num_masks=400, grid=6, seed=1))
    assert not np.array_equal(first.maps, other.maps)


def test_a_box_has_the_same_map_alone_and_beside_others() -> None:
    alone = explain(boxes=BOTH[[1]])
    np.testing.assert_allclose(alone.maps[0], explain().maps[1], atol=1e-6)


def test_more_masks_agree_better_with_each_other() -> None:
    few, many = (explain(Parameters(num_masks=n, grid=6)) for n in (30, 1000))
    assert (many.half_agreement > few.half_agreement).all()


def test_padding_is_not_masked_and_has_no_map() -> None:
    seen: list[NDArray[np.float32]] = []

    def watch(images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        seen.append(images)
        return detect(images)

    canvas = np.ones((3, *SIZE), np.float32)
    found = box_maps(watch, canvas, (32, 64), FRAME, BOTH, QUICK)
    assert found.maps.shape == (2, 32, 64)
    images = np.concatenate(seen)
    assert len(images) == QUICK.num_masks
    assert (images[:, :, 32:] == 1).all()
    hidden = images[:, :, :32]
    assert hidden.min() == 0
    assert hidden.max() == 1
    assert hidden.mean() == pytest.approx(0.5, abs=0.02)


def test_resemblance_is_overlap_times_score_of_the_best_candidate_of_the_class() -> None:
    outputs = {
        "boxes": np.array([[[0, 0, 0.5, 1], [0, 0, 1, 1], [0, 0, 0.5, 1]]], np.float32),
        "scores": np.array([[0.4, 0.9, 1.0]], np.float32),
        "classes": np.array([[0, 0, 1]]),
    }
    boxes = FoundBoxes(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], np.float32), np.array([0, 1]))
    found = resemblance(outputs, Frame((10, 10)), boxes)
    # 0.5 · 0.9 beats 1 · 0.4; nothing of class 1 touches the second box.
    assert found == pytest.approx(np.array([[0.45, 0.0]]))
    # Candidates that reach beyond the image are cut to it, as boxes are.
    padded = resemblance(outputs, Frame((10, 10), (0, 0, 2, 2)), boxes[[0]])
    assert padded == pytest.approx(np.array([[0.5 * 0.9]]))


def test_masks_show_half_and_are_soft() -> None:
    masks = random_masks(np.random.default_rng(0), 200, 5, (40, 30))
    assert masks.shape == (200, 40, 30)
    assert masks.min() == 0
    assert masks.max() == 1
    assert masks.mean() == pytest.approx(0.5, abs=0.02)
    # Shifts are random, so that no pixel is shown more often than others.
    assert masks.mean(axis=0).std() < 0.05
    assert 0.3 < ((masks > 0.02) & (masks < 0.98)).mean() < 0.9


def test_the_caller_may_stop_between_batches() -> None:
    def stop() -> None:
        raise RequestError("late", 408)

    with pytest.raises(RequestError, match="late"):
        explain(check=stop)


@pytest.mark.parametrize(("num_masks", "grid"), [(2, 1), (3, 64), (7, 16)])
def test_few_masks_and_any_grid_give_finite_maps(num_masks: int, grid: int) -> None:
    found = explain(Parameters(num_masks=num_masks, grid=grid))
    assert np.isfinite(found.maps).all()
