"""COCO's evaluation of synthetic detections: ours beside pycocotools on the same arrays.

    python benchmarks/detection_metrics.py --images 5000
    python benchmarks/detection_metrics.py --images 500 --masks

Both start from the arrays that a task's `postprocess` returns. They take turns in one process, and
the least CPU time (of all threads) of each counts. Ours includes the conversion of those arrays;
pycocotools' is given without making its dicts (one an object), and that is shown beside it.
Target (docs/design.md): at least 100 times pycocotools, with the same 12 numbers to 1e-6.
"""

import argparse
import gc
import io
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autofocus.metrics.coco import Outlines, coco_metrics
from autofocus.metrics.detection import detection_metrics, segmentation_metrics
from autofocus.metrics.rle import encode_outlines, mask_areas
from autofocus.structures.predictions import Detections, Instances, Polygon
from autofocus.structures.targets import BoxTarget, OutlineTarget

SIZE = (480, 640)
Scenes = tuple[Sequence[Detections], Sequence[BoxTarget]]


def random_boxes(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    extent = rng.uniform(0.02, 0.6, (num, 2)) ** 1.5
    corner = rng.random((num, 2)) * (1 - extent)
    return np.concatenate([corner, corner + extent], axis=1).astype(np.float32)


def make_scenes(num_images: int, num_classes: int, num_detections: int) -> Scenes:
    """Return images of about 7 objects, as COCO's, each found about twice amid false alarms."""
    rng = np.random.default_rng(0)
    predictions, targets = [], []
    for _ in range(num_images):
        num = int(rng.poisson(7))
        boxes, classes = random_boxes(rng, num), rng.integers(0, num_classes, num)
        targets.append(BoxTarget(boxes, classes, rng.random(num) < 0.02, SIZE))
        again = np.tile(np.arange(num), 2)
        extent = np.tile(boxes[again, 2:] - boxes[again, :2], 2)
        near = boxes[again] + extent * rng.normal(0, 0.08, (2 * num, 4))
        num_wrong = max(num_detections - 2 * num, 0)
        found = np.concatenate([near, random_boxes(rng, num_wrong)])
        found = np.sort(found.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        of = np.concatenate([classes[again], rng.integers(0, num_classes, num_wrong)])
        scores = rng.uniform(0.01, 0.7, len(found))
        scores[: 2 * num] += 0.3
        order = np.argsort(-scores)
        predictions.append(
            Detections(
                np.clip(found, 0, 1).astype(np.float32)[order],
                scores.astype(np.float32)[order],
                of[order],
                SIZE,
            )
        )
    return predictions, targets


def outline(box: NDArray[np.float32]) -> Polygon:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    direction = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring = (box[:2] + box[2:]) / 2 + direction * (box[2:] - box[:2]) / 2
    return (ring.astype(np.float32),)


def outlined(scenes: Scenes) -> Scenes:
    found = [
        Instances(each.xyxy_frac, each.scores, each.classes, SIZE, (*map(outline, each.xyxy_frac),))
        for each in scenes[0]
    ]
    truth = [
        OutlineTarget(
            each.xyxy_frac, each.classes, each.is_crowd, SIZE, (*map(outline, each.xyxy_frac),)
        )
        for each in scenes[1]
    ]
    return found, truth


def encode(scenes: Scenes) -> Outlines:
    found, truth = (
        [encode_outlines(each.polygons, SIZE) for each in part]  # type: ignore[attr-defined]
        for part in scenes
    )
    return Outlines(found, truth)


def rows_of(
    objects: Sequence[Any], masks: list[list[Any]] | None, extra: Callable[[Any, int], Any]
) -> list[dict[str, Any]]:
    rows = []
    height, width = SIZE
    for i, each in enumerate(objects):
        for j in range(len(each)):
            row = {"image_id": i + 1, "category_id": int(each.classes[j]) + 1, **extra(each, j)}
            if masks is None:
                left, top, right, bottom = map(float, each.xyxy_frac[j])
                box = [left * width, top * height, (right - left) * width, (bottom - top) * height]
                row |= {"bbox": box, "area": box[2] * box[3]}
            else:
                mask = masks[i][j]
                row |= {"segmentation": mask, "area": float(mask_areas([mask])[0])}
            rows.append(row)
    return rows


def make_dicts(scenes: Scenes, outlines: Outlines | None, num_classes: int) -> tuple[Any, Any]:
    predictions, targets = scenes
    truth = rows_of(
        targets,
        outlines.truth if outlines else None,
        lambda target, j: {"iscrowd": int(target.is_crowd[j])},
    )
    for i, row in enumerate(truth, start=1):
        row["id"] = i
    dataset = {
        "images": [{"id": i + 1, "height": SIZE[0], "width": SIZE[1]} for i in range(len(targets))],
        "categories": [{"id": i + 1, "name": str(i)} for i in range(num_classes)],
        "annotations": truth,
    }
    found = rows_of(
        predictions,
        outlines.found if outlines else None,
        lambda prediction, j: {"score": float(prediction.scores[j])},
    )
    return dataset, found


def run_pycocotools(dataset: Any, found: Any, kind: str) -> list[float]:
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    # Neither pays for walking through what the other left.
    gc.collect()
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def compare(arguments: argparse.Namespace) -> bool:
    k = arguments.classes
    scenes = make_scenes(arguments.images, k, arguments.detections)
    outlines = None
    if arguments.masks:
        scenes = outlined(scenes)
        encode_s, outlines = timed(lambda: encode(scenes))
        print(f"outlines to masks, needed by both and in no other figure: {encode_s:.2f} s")
    measure = segmentation_metrics if arguments.masks else detection_metrics
    settings = {"score_threshold": 0.3, "max_detections": 100}
    labels = [str(i) for i in range(k)]
    least: dict[str, float] = {}
    for _ in range(arguments.rounds):
        cpu_s = {}
        cpu_s["ours, arrays to 12 numbers"], ours = timed(
            lambda: coco_metrics(*scenes, k, 100, outlines)
        )
        cpu_s["ours, every metric and table"], _ = timed(
            lambda: measure(*scenes, labels, **settings)  # type: ignore[arg-type]
        )
        cpu_s["making pycocotools' dicts"], dicts = timed(lambda: make_dicts(scenes, outlines, k))
        cpu_s["pycocotools, dicts to 12 numbers"], theirs = timed(
            lambda dicts=dicts: run_pycocotools(*dicts, "segm" if arguments.masks else "bbox")
        )
        del dicts
        least = {name: min(value, least.get(name, value)) for name, value in cpu_s.items()}
    mine = [-1.0 if value is None else value for value in ours.scalars.values()]
    difference = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    num_found = sum(len(each) for each in scenes[0])
    num_true = sum(len(each) for each in scenes[1])
    print(f"{arguments.images} images, {k} classes, {num_true} objects, {num_found} detections")
    print(f"least CPU of {arguments.rounds} rounds")
    for name, value in least.items():
        print(f"{name:36}{value:>9.3f} s")
    ratio = least["pycocotools, dicts to 12 numbers"] / least["ours, arrays to 12 numbers"]
    print(f"{'ratio':36}{ratio:>8.0f} x  (target: at least 100)")
    print(f"{'largest difference of 12 numbers':36}{difference:>11.1e}")
    print("12 numbers:", " ".join(f"{value:.4f}" for value in mine))
    return ratio >= 100 and difference <= 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--detections", type=int, default=50, help="at least, an image")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--masks", action="store_true")
    sys.exit(0 if compare(parser.parse_args()) else 1)


if __name__ == "__main__":
    main()
