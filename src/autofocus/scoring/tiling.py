"""Tiled images at inference: what the network sees of one, and the objects of all views as one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.preprocess import frame_of, preprocess
from autofocus.data.tiles import WHOLE, Region, tile_regions
from autofocus.errors import ModelFolderError
from autofocus.manifest import Preprocess, Tiling
from autofocus.structures.frames import Frame
from autofocus.structures.merge_views import merge_views
from autofocus.tasks.base import Task
from autofocus.tasks.objects import ObjectsTask


@dataclass(frozen=True)
class View:
    """One thing the network sees of an image.

    Attributes:
        tensor: float32 [3, h, w], the network's input.
        frame: Where the network's canvas lies in the image.
        region: (left, top, right, bottom) of what is seen, in fractions of the image.
    """

    tensor: NDArray[np.float32]
    frame: Frame
    region: Region


def tile_views(image: NDArray[np.uint8], spec: Preprocess, tiling: Tiling) -> Iterator[View]:
    """Make the views of an image as they are wanted: the whole, then its tiles row by row.

    Args:
        image: RGB [h, w, 3].
        spec: How pixels become input.
        tiling: The grid.
    """
    for region in (WHOLE, *tile_regions(tiling)):
        yield view_of(image, spec, region)


def view_of(image: NDArray[np.uint8], spec: Preprocess, region: Region) -> View:
    """Return the part of an image that a region covers, in whole pixels."""
    height, width = image.shape[:2]
    left, top = floor(region[0] * width), floor(region[1] * height)
    right, bottom = ceil(region[2] * width), ceil(region[3] * height)
    part = image[top:bottom, left:right]
    # Within the part, then within the image.
    canvas = np.array(frame_of(spec, (bottom - top, right - left)).region)
    placed = canvas * ([right - left, bottom - top] * 2) + [left, top] * 2
    fractions = placed / ([width, height] * 2)
    shown = (left / width, top / height, right / width, bottom / height)
    return View(preprocess(part, spec), Frame((height, width), tuple(fractions.tolist())), shown)


def merge_tiles(
    task: Task[Any, Any],
    predictions: Sequence[Any],
    regions: Sequence[Region],
    settings: Mapping[str, float | str],
) -> Any:
    """Return one image's prediction from those of its views.

    Args:
        task: Which predictions these are.
        predictions: One a view.
        regions: What each view shows, in fractions of the image.
        settings: Of the manifest.

    Raises:
        ModelFolderError: If the task's predictions are not of places in the image.
    """
    check_tiles(task)
    assert isinstance(task, ObjectsTask), "checked above"
    cap = int(task.number(settings, "box_detections_per_image"))
    return merge_views(predictions, regions, settings, cap)


def check_tiles(task: Task[Any, Any]) -> None:
    """Check that a task's images can be tiled.

    Raises:
        ModelFolderError: If it says something of whole images only.
    """
    if not isinstance(task, ObjectsTask):
        raise ModelFolderError(
            f"manifest.json: tiling is for models that find objects; {task.name} says what a "
            "whole image shows. Remove tiling."
        )
