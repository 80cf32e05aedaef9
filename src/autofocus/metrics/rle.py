"""Outlines as COCO's run-length encoding, in which masks are compared without ever being bitmaps.

A mask in column-major order is known by the places where it changes between 0 and 1. Rings are
rasterised by the evaluator's own `frPyObjects` (area convention); the exclusive or of several
rings is the set of places that an odd number of them name.
"""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import AutofocusError
from autofocus.structures.masks import rle_counts
from autofocus.structures.predictions import Polygon

# {"size": [height, width], "counts": bytes}, as in pycocotools.
Rle = dict[str, Any]

# Fastest first. Each has the modules `mask` with the same functions.
BACKENDS = ("hotcoco", "faster_coco_eval", "pycocotools")
_MIN_POINTS = 3
_BLOCK = 255


def find_backend() -> str:
    """Return the fastest evaluator that is installed.

    Raises:
        AutofocusError: If there is none.
    """
    for name in BACKENDS:
        try:
            import_module(name)
        except ImportError:
            continue
        return name
    raise AutofocusError(
        "metrics of detection and segmentation need one of the packages "
        f"{', '.join(BACKENDS)}, and none is installed. Run 'pip install hotcoco'."
    )


def mask_module(backend: str) -> ModuleType:
    """Return the RLE functions of one of `BACKENDS`."""
    return import_module(
        f"{backend}.mask" if backend != "faster_coco_eval" else backend + ".core.mask"
    )


def encode_outlines(polygons: Sequence[Polygon], size: tuple[int, int], backend: str) -> list[Rle]:
    """Return one mask an outline; where its rings overlap is a hole.

    Args:
        polygons: m outlines, each with rings float32 [p, 2], (x, y) in fractions of the image.
            A ring of fewer than 3 points covers nothing.
        size: (height, width) of the image, in pixels.
        backend: One of `BACKENDS`.
    """
    height, width = size
    mask = mask_module(backend)
    drawn = [[ring for ring in rings if len(ring) >= _MIN_POINTS] for rings in polygons]
    scale = np.array([width, height], np.float64)
    flat = [(ring * scale).ravel().tolist() for rings in drawn for ring in rings]
    encoded = iter(mask.frPyObjects(flat, height, width) if flat else [])
    masks = []
    for rings in drawn:
        parts = [next(encoded) for _ in rings]
        if len(parts) == 1:
            masks.append(parts[0])
        else:
            counts = _exclusive_or(parts, height * width)
            masks.append(
                mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            )
    return masks


def mask_areas(masks: Sequence[Rle], backend: str) -> NDArray[np.float64]:
    """Return the number of pixels of each mask, float64 [m]."""
    area = mask_module(backend).area
    # pycocotools 2.0.11 fails on lists of more than 255 under numpy 2.
    blocks = [area(list(masks[i : i + _BLOCK])) for i in range(0, len(masks), _BLOCK)]
    return np.concatenate([np.zeros(0), *blocks])


def mask_iou(left: Sequence[Rle], right: Sequence[Rle], backend: str) -> NDArray[np.float64]:
    """Return intersection over union of every pair, float64 [m, p]."""
    if not left or not right:
        return np.zeros((len(left), len(right)))
    overlaps = mask_module(backend).iou(list(left), list(right), [0] * len(right))
    return np.asarray(overlaps, np.float64)


def _exclusive_or(masks: Sequence[Rle], num_pixels: int) -> list[int]:
    """Return run lengths of the pixels that an odd number of masks cover."""
    changes = [np.cumsum(rle_counts(mask)) for mask in masks]
    places, times = np.unique(np.concatenate([[0], *changes])[1:], return_counts=True)
    odd = places[(times % 2 == 1) & (places < num_pixels)].astype(np.int64)
    ends = np.concatenate([[0], odd, [num_pixels]])
    return [int(length) for length in np.diff(ends)]
