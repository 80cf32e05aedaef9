"""Tiled images at inference: the views of an image that the network sees."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import input_frame, preprocess
from autofocus.data.batches.tiles import WHOLE, frame_in_image, pixel_region, tile_regions
from autofocus.errors import ModelFolderError
from autofocus.manifest import Preprocess, Tiling
from autofocus.structures.frames import Frame, Region
from autofocus.tasks.base import Task


@dataclass(frozen=True)
class TiledView:
    """One view of an image that the network sees.

    Attributes:
        tensor: float32 [3, h, w], the network's input.
        frame: Position of the network's canvas in the image.
        region: (left, top, right, bottom) of the view, in fractions of the image.
    """

    tensor: NDArray[np.float32]
    frame: Frame
    region: Region


def tile_views(image: NDArray[np.uint8], spec: Preprocess, tiling: Tiling) -> Iterator[TiledView]:
    """Yield the views of an image: the whole, then its tiles row by row.

    Args:
        image: RGB [h, w, 3].
        spec: Preprocessing.
        tiling: The grid.
    """
    for region in (WHOLE, *tile_regions(tiling)):
        yield view_of(image, spec, region)


def view_of(image: NDArray[np.uint8], spec: Preprocess, region: Region) -> TiledView:
    """Return the part of an image that a region covers, in whole pixels."""
    height, width = image.shape[:2]
    pixels = pixel_region(region, (height, width))
    left, top, right, bottom = pixels
    part = image[top:bottom, left:right]
    canvas = input_frame(spec, (bottom - top, right - left))
    placed = (left / width, top / height, right / width, bottom / height)
    return TiledView(
        preprocess(part, spec), frame_in_image(canvas, pixels, (height, width)), placed
    )


def check_tiles(task: Task[Any, Any]) -> None:
    """Check that a task's images can be tiled.

    Raises:
        ModelFolderError: If it predicts for whole images only.
    """
    if not task.finds_objects:
        raise ModelFolderError(
            f"manifest.json: tiling is for models that find objects; {task.name} says what a "
            "whole image shows. Remove tiling."
        )
