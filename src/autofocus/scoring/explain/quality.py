"""Quality of explanations, measured on photos. Imports torch only where the model needs it."""

from pathlib import Path
from typing import Any

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import RECORD_TYPES, ImageRecord, ObjectsRecord
from autofocus.data.sources.find import find_source, infer_tasks
from autofocus.data.sources.read import Data, read_data
from autofocus.manifest import Manifest, read_manifest
from autofocus.runtime import Track, no_progress
from autofocus.scoring.explain.measuring import Measuring
from autofocus.scoring.explain.request import BoxSelector, selector_of
from autofocus.scoring.scorer import task_of


def read_photos(
    folder: Path, source: str | Path, options: ReadOptions, track: Track = no_progress
) -> Data[Any]:
    """Return the photos to measure on.

    For a model of whole images, outlines and boxes in the data are read too: they locate
    classes. Otherwise rows are of the model's own type.

    Raises:
        DataError: If there is no such data, or nothing in it can be used.
    """
    manifest = read_manifest(folder)
    return read_data(source, _record_type(manifest, source, options), options, track)


def _record_type(manifest: Manifest, source: str | Path, options: ReadOptions) -> type[ImageRecord]:
    own = task_of(manifest).record_type
    if issubclass(own, ObjectsRecord):
        return own
    fitting = {RECORD_TYPES[name] for name in infer_tasks(find_source(source, options), options)}
    # Rows whose labels are all empty lists fit the model's own type too.
    placed = [kind for kind in fitting if issubclass(kind, ObjectsRecord)]
    if own in fitting or not placed:
        return own
    # Outlines say more than boxes.
    return max(placed, key=lambda kind: kind.object_shape == "outline")


def measure_explanations(
    folder: Path, data: Data[Any], measuring: Measuring, track: Track = no_progress
) -> dict[str, Any]:
    """Return `{"num_images", "num_explanations", "algorithms": {name: {…}}, "refused": {…}}`.

    Targets are the endpoint's: the most probable class, or all that are probable, or the boxes
    with the highest scores. Where `data` says where classes are, every class that an image shows
    is a target.

    Args:
        folder: A model folder.
        data: Photos from `read_photos`; labels of whole images are not used.
        measuring: Options.
        track: Progress display.

    Raises:
        DataError: If no image can be read, or none has anything to explain.
    """
    if isinstance(selector_of(task_of(read_manifest(folder))), BoxSelector):
        from autofocus.scoring.explain.box_quality import measure_boxes

        return measure_boxes(folder, data, measuring, track)
    from autofocus.scoring.explain.class_quality import measure_classes

    return measure_classes(folder, data, measuring, track)
