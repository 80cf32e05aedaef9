"""COCO's 12 numbers against pycocotools' own `loadRes` and `summarize`, one dict an object."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.metrics.coco import Outlines, coco_metrics
from autofocus.metrics.rle import encode_outlines
from autofocus.structures.predictions import Detections, Instances, Polygon
from autofocus.structures.targets import BoxTarget, OutlineTarget
from support.detection_scenes import outlined, random_scenes

coco_module = pytest.importorskip("pycocotools.coco")
cocoeval_module = pytest.importorskip("pycocotools.cocoeval")
mask_module = pytest.importorskip("pycocotools.mask")

# In the order of pycocotools' `stats`.
NAMES = (
    "coco_AP",
    "coco_AP50",
    "coco_AP75",
    "coco_AP_small",
    "coco_AP_medium",
    "coco_AP_large",
    "coco_AR1",
    "coco_AR10",
    "coco_AR",
    "coco_AR_small",
    "coco_AR_medium",
    "coco_AR_large",
)
pytestmark = pytest.mark.filterwarnings(
    # pycocotools 2.0.11 under numpy 2.
    "ignore:__array__ implementation:DeprecationWarning"
)


def mask_of(rings: Polygon, size: tuple[int, int]) -> dict[str, Any]:
    """Draw every ring as a bitmap; what an odd number of them covers is the object."""
    height, width = size
    bitmap = np.zeros(size, np.uint8)
    for ring in rings:
        flat = [
            float(value) * side
            for point in ring
            for value, side in zip(point, (width, height), strict=True)
        ]
        bitmap ^= mask_module.decode(mask_module.frPyObjects([flat], height, width))[..., 0]
    encoded: dict[str, Any] = mask_module.encode(np.asfortranarray(bitmap))
    return encoded


def xywh(box: NDArray[np.float32], size: tuple[int, int]) -> list[float]:
    left, top, right, bottom = (float(value) for value in box)
    height, width = size
    return [left * width, top * height, (right - left) * width, (bottom - top) * height]


def ground_truth(targets: Sequence[BoxTarget], num_classes: int) -> Any:
    annotations: list[dict[str, Any]] = []
    for i, target in enumerate(targets):
        for j in range(len(target)):
            row = {
                "id": len(annotations) + 1,
                "image_id": i + 1,
                "category_id": int(target.classes[j]) + 1,
                "iscrowd": int(target.is_crowd[j]),
                "bbox": xywh(target.xyxy_frac[j], target.size),
            }
            row["area"] = row["bbox"][2] * row["bbox"][3]
            if isinstance(target, OutlineTarget):
                row["segmentation"] = mask_of(target.polygons[j], target.size)
                row["area"] = float(mask_module.area(row["segmentation"]))
            annotations.append(row)
    dataset = coco_module.COCO()
    dataset.dataset = {
        "images": [
            {"id": i + 1, "height": target.size[0], "width": target.size[1]}
            for i, target in enumerate(targets)
        ],
        "categories": [{"id": i + 1, "name": f"class{i}"} for i in range(num_classes)],
        "annotations": annotations,
    }
    dataset.createIndex()
    return dataset


def results(predictions: Sequence[Detections]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, prediction in enumerate(predictions):
        for j in range(len(prediction)):
            row: dict[str, Any] = {
                "image_id": i + 1,
                "category_id": int(prediction.classes[j]) + 1,
                "score": float(prediction.scores[j]),
            }
            if isinstance(prediction, Instances):
                row["segmentation"] = mask_of(prediction.polygons[j], prediction.size)
            else:
                row["bbox"] = xywh(prediction.xyxy_frac[j], prediction.size)
            rows.append(row)
    return rows


def reference(
    predictions: Sequence[Detections], targets: Sequence[BoxTarget], num_classes: int
) -> Any:
    """Return pycocotools' evaluation, with COCO's own caps."""
    with redirect_stdout(io.StringIO()):
        truth = ground_truth(targets, num_classes)
        kind = "segm" if isinstance(targets[0], OutlineTarget) else "bbox"
        evaluation = cocoeval_module.COCOeval(truth, truth.loadRes(results(predictions)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def outlines_of(predictions: Sequence[Instances], targets: Sequence[OutlineTarget]) -> Outlines:
    return Outlines(
        found=[encode_outlines(each.polygons, each.size) for each in predictions],
        truth=[encode_outlines(each.polygons, each.size) for each in targets],
    )


def assert_equal(scalars: dict[str, float | None], stats: NDArray[np.float64]) -> None:
    assert tuple(scalars) == NAMES
    values = [-1.0 if value is None else value for value in scalars.values()]
    assert values == pytest.approx(stats.tolist(), abs=1e-6)
    # A comparison of nothing with nothing would hold as well.
    assert 0.1 < values[0] < 0.9


def box_case(num_images: int, num_classes: int, max_objects: int, max_spurious: int) -> Any:
    """Return scenes and pycocotools' evaluation of them."""
    scenes = random_scenes(7, num_images, num_classes, max_objects, max_spurious)
    return scenes, reference(*scenes, num_classes)


def mask_case(num_images: int, max_objects: int) -> Any:
    scenes = outlined(*random_scenes(3, num_images, 3, max_objects))
    return scenes, reference(*scenes, 3)


@pytest.mark.parametrize(
    ("num_images", "num_classes", "max_objects", "max_spurious"),
    [(60, 1, 9, 12), (60, 4, 9, 12), (80, 40, 6, 6), (4, 2, 300, 200), (1, 2, 40, 5)],
)
def test_boxes(num_images: int, num_classes: int, max_objects: int, max_spurious: int) -> None:
    scenes, expected = box_case(num_images, num_classes, max_objects, max_spurious)
    found = coco_metrics(*scenes, num_classes, 100)
    assert_equal(found.scalars, expected.stats)
    tables = expected.eval["precision"][:, :, :, 0, -1]
    for i in range(num_classes):
        for ap, table in (
            (found.average_precisions[i], tables[:, :, i]),
            (found.average_precisions_50[i], tables[0, :, i]),
        ):
            mean = table.mean() if (table > -1).any() else -1
            assert (-1 if ap is None else ap) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(("num_images", "max_objects"), [(25, 8), (2, 320)])
def test_masks(num_images: int, max_objects: int) -> None:
    scenes, expected = mask_case(num_images, max_objects)
    outlines = outlines_of(*scenes)
    found = coco_metrics(*scenes, 3, 100, outlines)
    assert_equal(found.scalars, expected.stats)


def test_a_cap_above_100_counts_what_the_model_may_return() -> None:
    scenes = random_scenes(1, 1, 1, max_objects=300, max_spurious=20)
    assert len(scenes[0][0]) > 150
    found = coco_metrics(*scenes, 1, 500)
    # pycocotools' own `summarize` looks for a cap of exactly 100 and says -1: read its tables.
    with redirect_stdout(io.StringIO()):
        truth = ground_truth(scenes[1], 1)
        evaluation = cocoeval_module.COCOeval(truth, truth.loadRes(results(scenes[0])), "bbox")
        evaluation.params.maxDets = [1, 10, 500]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    assert found.scalars["coco_AP"] == pytest.approx(precision[:, :, 0, 0, 2].mean(), abs=1e-6)
    assert found.scalars["coco_AR"] == pytest.approx(recall[:, 0, 0, 2].mean(), abs=1e-6)
    capped = coco_metrics(*scenes, 1, 10).scalars["coco_AR"]
    assert capped is not None
    assert found.scalars["coco_AR"] > capped + 0.1


def test_no_detections_find_nothing() -> None:
    scenes = random_scenes(2, 5, 2)
    empty = [
        Detections(each.xyxy_frac[:0], each.scores[:0], each.classes[:0], each.size)
        for each in scenes[0]
    ]
    found = coco_metrics(empty, scenes[1], 2, 100)
    assert set(found.scalars.values()) == {0.0}


def test_masks_are_small_or_large_by_their_own_area() -> None:
    """A thin frame in a large box: 65 x 65 box, mask of about 500 pixels, so "small"."""
    outer = np.array([(0, 0), (0.65, 0), (0.65, 0.65), (0, 0.65)], np.float32)
    inner = np.array([(0.02, 0.02), (0.63, 0.02), (0.63, 0.63), (0.02, 0.63)], np.float32)
    box, classes = np.array([[0, 0, 0.65, 0.65]], np.float32), np.zeros(1, np.int64)
    score = np.ones(1, np.float32)
    found = [Instances(box, score, classes, (100, 100), ((outer, inner),))]
    truth = [OutlineTarget(box, classes, np.zeros(1, np.bool_), (100, 100), ((outer, inner),))]
    metrics = coco_metrics(found, truth, 1, 100, outlines_of(found, truth))
    assert metrics.scalars["coco_AP_small"] == pytest.approx(1)
    assert metrics.scalars["coco_AP_medium"] is None
