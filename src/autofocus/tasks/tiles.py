"""Merging of the predictions of an image's tiles, the same for torch evaluation and scoring."""

from collections.abc import Sequence
from typing import Any

from autofocus.structures.merge_views import merge_views
from autofocus.tasks.base import Settings, Task
from autofocus.tasks.objects import ObjectsTask

# (left, top, right, bottom) in fractions of the image.
Region = Sequence[float]


def can_tile(task: Task[Any, Any]) -> bool:
    """Return whether a task's predictions have positions in the image."""
    return isinstance(task, ObjectsTask)


def merge_tiles(
    task: Task[Any, Any], predictions: Sequence[Any], regions: Sequence[Region], settings: Settings
) -> Any:
    """Return one image's prediction.

    Args:
        task: One that `can_tile`.
        predictions: One a view of the image, made with `settings`.
        regions: Region of each view, in fractions of the image.
        settings: Settings of the manifest.
    """
    assert isinstance(task, ObjectsTask), f"{task.name} says what a whole image shows"
    cap = int(task.number(settings, "box_detections_per_image"))
    return merge_views(predictions, regions, settings, cap)


def merge_images(
    task: Task[Any, Any],
    predictions: Sequence[Any],
    entries: Sequence[tuple[int, Region]],
    settings: Settings,
) -> list[Any]:
    """Return one prediction an image, in order.

    Args:
        task: One that `can_tile`.
        predictions: One an entry.
        entries: (position of the image, region) of each view, images in order.
        settings: Settings of the manifest.
    """
    views: dict[int, tuple[list[Any], list[Region]]] = {}
    for prediction, (index, region) in zip(predictions, entries, strict=True):
        found, regions = views.setdefault(index, ([], []))
        found.append(prediction)
        regions.append(region)
    return [merge_tiles(task, found, regions, settings) for found, regions in views.values()]
