"""Segmentation: outlines from masks in boxes and over canvases, targets, responses."""

import numpy as np
import pytest

from autofocus.data.rows.records import InstanceSegmentationRecord, PolygonLabel
from autofocus.structures.frames import Frame
from autofocus.structures.polygons import outline_box, rasterize
from autofocus.tasks.instance_segmentation import (
    MAX_DRAWN_SIDE,
    InstanceSegmentation,
    outline_in_box,
    outline_on_canvas,
)

TASK = InstanceSegmentation()
LABELS = ["can", "jar"]
FULL = np.ones((28, 28), np.float32)


def disc(side: int) -> np.ndarray:
    """Return probabilities that are 0.5 on a circle whose radius is a quarter of the side."""
    y, x = np.mgrid[:side, :side] + 0.5
    distance = np.hypot(x - side / 2, y - side / 2) - side / 4
    return (1 / (1 + np.exp(distance))).astype(np.float32)


def outputs(boxes: list[list[float]], **masks: np.ndarray) -> dict[str, np.ndarray]:
    num = len(boxes)
    scores = np.linspace(0.9, 0.5, num, dtype=np.float32)
    return {
        "boxes": np.array([boxes], np.float32),
        "scores": scores[None],
        "classes": np.zeros((1, num), np.int64),
        **{name: mask[None] for name, mask in masks.items()},
    }


def test_a_full_mask_is_outlined_by_its_box() -> None:
    outline = outline_in_box(FULL, np.array([0.25, 0.25, 0.75, 0.5]), (80, 120), 0.5, 100)
    assert outline_box(outline) == pytest.approx([0.25, 0.25, 0.75, 0.5], abs=0.01)
    assert rasterize([outline], (80, 120)).sum() == pytest.approx(60 * 20, rel=0.02)


@pytest.mark.parametrize("box", [(0.1, 0.1, 0.9, 0.9), (0.45, 0.45, 0.55, 0.55)])
def test_a_disc_keeps_its_area_at_any_size(box: tuple[float, ...]) -> None:
    size = (400, 400)
    outline = outline_in_box(disc(28), np.array(box), size, 0.5, 100)
    radius = (box[2] - box[0]) * 400 / 4
    assert rasterize([outline], size).sum() == pytest.approx(np.pi * radius**2, rel=0.03)


def test_a_box_beyond_the_image_is_cut_but_not_squeezed() -> None:
    size = (100, 100)
    inside = outline_in_box(disc(28), np.array([0.1, 0.1, 0.9, 0.9]), size, 0.5, 100)
    shifted = outline_in_box(disc(28), np.array([-0.4, 0.1, 0.4, 0.9]), size, 0.5, 100)
    moved = rasterize([tuple(ring - np.float32([0.5, 0]) for ring in inside)], size)[0]
    agree = (rasterize([shifted], size)[0] == moved).mean()
    assert outline_box(shifted)[0] == 0
    assert agree > 0.995


def test_a_canvas_of_padding_and_a_tile_place_the_mask_in_the_image() -> None:
    # Over the whole canvas the circle spans 0.25 to 0.75.
    padded = outline_on_canvas(disc(64), Frame((200, 200), (0, 0, 1, 1.25)), 0.5, 100)
    assert outline_box(padded) == pytest.approx([0.25, 0.3125, 0.75, 0.9375], abs=0.006)
    tile = outline_on_canvas(disc(64), Frame((200, 200), (0.5, 0.0, 1.0, 0.5)), 0.5, 100)
    assert outline_box(tile) == pytest.approx([0.625, 0.125, 0.875, 0.375], abs=0.006)


def test_a_mask_to_the_canvas_rim_reaches_the_images_rim() -> None:
    outline = outline_on_canvas(np.ones((16, 16), np.float32), Frame((50, 70)), 0.5, 100)
    assert rasterize([outline], (50, 70)).all()


def test_a_mask_below_the_threshold_has_no_outline() -> None:
    assert outline_on_canvas(np.full((8, 8), 0.4, np.float32), Frame((50, 70)), 0.5, 100) == ()
    assert outline_in_box(0.4 * FULL, np.array([0, 0, 1, 1]), (50, 70), 0.5, 100) == ()
    assert outline_in_box(0.4 * FULL, np.array([0, 0, 1, 1]), (50, 70), 0.3, 100) != ()


def test_a_box_outside_the_image_has_no_outline() -> None:
    assert outline_in_box(FULL, np.array([1.2, 0, 1.5, 1]), (50, 70), 0.5, 100) == ()


def test_a_huge_image_is_not_drawn_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from autofocus.tasks import instance_segmentation

    shapes = []

    def spy(mask, max_points):
        shapes.append(mask.shape)
        return []

    monkeypatch.setattr(instance_segmentation, "mask_rings", spy)
    outline_in_box(FULL, np.array([0.0, 0.0, 1.0, 0.001]), (20_000, 30_000), 0.5, 100)
    assert shapes == [(20, MAX_DRAWN_SIDE)]


def test_a_huge_image_has_the_same_outline_as_a_small_one() -> None:
    small, huge = (
        outline_on_canvas(disc(64), Frame(size), 0.5, 100) for size in ((300, 300), (9000, 9000))
    )
    masks = rasterize([small, huge], (300, 300))
    assert (masks[0] == masks[1]).mean() > 0.995


@pytest.mark.parametrize("name", ["box_masks", "masks"])
def test_candidates_become_outlined_objects(name: str) -> None:
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0.5, 0.5, 1.0, 1.0]]
    masks = np.stack([disc(32), np.zeros((32, 32), np.float32), disc(32)])
    (prediction,) = TASK.postprocess(outputs(boxes, **{name: masks}), [Frame((60, 60))], {})
    # The object without a mask is none.
    assert prediction.scores == pytest.approx([0.9, 0.5])
    assert len(prediction.polygons) == 2
    centre = [0.25, 0.25] if name == "box_masks" else [0.5, 0.5]
    first = outline_box(prediction.polygons[0])
    assert (first[:2] + first[2:]) / 2 == pytest.approx(centre, abs=0.02)


def test_no_object_at_all() -> None:
    nothing = {name: value[:, :0] for name, value in outputs([[0, 0, 1, 1]]).items()}
    nothing["box_masks"] = np.zeros((1, 0, 28, 28), np.float32)
    (prediction,) = TASK.postprocess(nothing, [Frame((60, 60))], {})
    assert TASK.encode(prediction, LABELS) == {"boxes": []}


def test_polygons_are_flat_lists_of_at_most_so_many_points() -> None:
    settings = {"max_number_of_polygon_points": 7}
    (prediction,) = TASK.postprocess(
        outputs([[0, 0, 1, 1]], box_masks=disc(28)[None]), [Frame((300, 300))], settings
    )
    (item,) = TASK.encode(prediction, LABELS)["boxes"]
    assert list(item) == ["box", "label", "score", "polygon"]
    (ring,) = item["polygon"]
    assert 6 <= len(ring) <= 14
    assert all(isinstance(number, float) for number in ring)


def test_rows_become_targets_with_boxes_around_their_outlines() -> None:
    rings = [[0.1, 0.2, 0.5, 0.2, 0.5, 0.6], [0.6, 0.1, 0.7, 0.1, 0.7, 0.2]]
    label = [PolygonLabel(label="jar", polygon=rings, is_crowd=True)]
    record = InstanceSegmentationRecord(image_url="a", label=label)
    target, negative = TASK.encode_targets(
        [record, InstanceSegmentationRecord(image_url="b", label=[])], LABELS
    )
    assert target.xyxy_frac == pytest.approx(np.array([[0.1, 0.1, 0.7, 0.6]]))
    assert (target.classes.tolist(), target.is_crowd.tolist()) == ([1], [True])
    assert [ring.shape for ring in target.polygons[0]] == [(3, 2), (3, 2)]
    assert len(negative) == 0
    assert negative.polygons == ()


def test_metrics_are_those_of_masks() -> None:
    square = PolygonLabel(label="can", polygon=[[0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
    record = InstanceSegmentationRecord(image_url="a", label=[square])
    targets = TASK.encode_targets([record], LABELS)
    frames = [Frame((60, 60))]
    scores = []
    for mask in (FULL, disc(28)):
        predictions = TASK.postprocess(outputs([[0, 0, 1, 1]], box_masks=mask[None]), frames, {})
        metrics = TASK.evaluate(predictions, targets, LABELS, {})
        scores.append(metrics["mean_average_precision"])
    # The disc's box is right, its mask covers a fifth.
    assert scores == [1, 0]


def test_replies_whose_masks_differ_are_apart() -> None:
    def reply(mask: np.ndarray):
        made = outputs([[0, 0, 1, 1]], box_masks=mask[None])
        (prediction,) = TASK.postprocess(made, [Frame((300, 300))], {})
        return TASK.encode(prediction, LABELS)

    noise = np.random.default_rng(0).normal(size=(28, 28), scale=1e-5).astype(np.float32)
    same, noisy, other = reply(disc(28)), reply(disc(28) + noise), reply(np.roll(disc(28), 5))
    assert TASK.wire_difference(same, same) == 0
    assert TASK.wire_difference(same, noisy) < TASK.wire_tolerance
    assert TASK.wire_difference(same, other) > TASK.wire_tolerance
