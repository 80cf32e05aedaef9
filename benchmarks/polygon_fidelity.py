"""Overlap of masks with the polygons of responses, beside the contours of OpenCV.

    python benchmarks/polygon_fidelity.py

Masks of at least 100 pixels from ../shared/data/nuclei-masks and coco128 become rings in fractions,
rounded as replies are, and are drawn again by `pycocotools.mask.frPyObjects` from fractions times
(width, height); rings of one object are joined by exclusive or. Target: median IoU of at least
0.97, 5th percentile of at least 0.90.
"""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from autofocus.structures.contours import mask_rings
from autofocus.tasks.objects import rounded

DATA = Path(__file__).parents[2] / "shared/data"
MAX_POINTS = 100
MIN_AREA = 100

Mask = NDArray[np.bool_]
Rings = list[NDArray[np.float32]]


def main() -> None:
    ways: dict[str, Callable[[Mask], Rings]] = {
        "ours": lambda mask: mask_rings(mask, MAX_POINTS),
        "cv2.findContours": opencv_vertices,
    }
    header = f"{'data':10}{'way':18}{'masks':>7}{'median':>8}{'p5':>8}{'least':>8}"
    print(f"{header}{'points':>8}{'ms':>7}")
    for name, masks in (("nuclei", list(nuclei())), ("coco128", list(coco128()))):
        for way, outline in ways.items():
            overlaps, points, seconds = measure(masks, outline)
            low, middle = np.percentile(overlaps, [5, 50])
            print(
                f"{name:10}{way:18}{len(masks):>7}{middle:>8.3f}{low:>8.3f}{min(overlaps):>8.3f}"
                f"{points:>8.1f}{1e3 * seconds / len(masks):>7.2f}"
            )


def measure(
    masks: list[Mask], outline: Callable[[Mask], Rings]
) -> tuple[list[float], float, float]:
    """Return the overlaps, the mean number of points, and CPU seconds."""
    overlaps, num_points, seconds = [], 0, 0.0
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        start = time.process_time()
        rings = outline(crop)
        seconds += time.process_time() - start
        corner = np.array([columns[0], rows[0]], np.float32)
        shape = np.array(mask.shape[::-1], np.float32)
        fractions = [rounded((ring + corner) / shape) for ring in rings]
        drawn = draw(fractions, mask.shape)
        overlaps.append(int((drawn & mask).sum()) / int((drawn | mask).sum()))
        num_points += sum(map(len, rings))
    return overlaps, num_points / len(masks), seconds


def draw(rings: list[list[list[float]]], size: tuple[int, ...]) -> Mask:
    height, width = size
    drawn = np.zeros(size, np.uint8)
    for ring in rings:
        if len(ring) >= 3:
            points = (np.array(ring) * (width, height)).ravel().tolist()
            drawn ^= coco_mask.decode(coco_mask.frPyObjects([points], height, width))[:, :, 0]
    return drawn > 0


def opencv_vertices(mask: Mask) -> Rings:
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return [contour.reshape(-1, 2).astype(np.float32) for contour in contours]


def nuclei() -> Iterator[Mask]:
    for path in sorted((DATA / "nuclei-masks/masks").glob("*.png")):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for number in np.unique(ids)[1:]:
            if (ids == number).sum() >= MIN_AREA:
                yield ids == number


def coco128() -> Iterator[Mask]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(next((DATA / "coco128").rglob("instances.json"))))
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation) > 0
        if mask.sum() >= MIN_AREA:
            yield mask


if __name__ == "__main__":
    main()
