"""Measure on photos what explanations are worth. Imports torch where the model needs it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autofocus.data.images.fetch import open_bytes
from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import RECORD_TYPES, ImageRecord
from autofocus.data.sources.find import find_source, infer_tasks
from autofocus.data.sources.read import Data, read_data
from autofocus.errors import InputError
from autofocus.explain.parameters import Parameters
from autofocus.manifest import Manifest, read_manifest
from autofocus.runtime import Track, no_progress
from autofocus.scoring.explain.request import BoxChoice, choice_of
from autofocus.scoring.explain.truths import PLACED_RECORDS
from autofocus.scoring.scorer import task_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measuring:
    """How explanations are measured.

    Attributes:
        parameters: Of every algorithm, `xai_algorithm` aside.
        max_images: As many are drawn from the data.
        seed: Decides which, and whatever else is random.
    """

    parameters: Parameters
    max_images: int
    seed: int = 0


def read_photos(
    folder: Path, source: str | Path, options: ReadOptions, track: Track = no_progress
) -> Data[Any]:
    """Return the photos to measure on.

    For a model of whole images, data with outlines or boxes is read with them: they say where a
    class is. Otherwise rows are the model's own.

    Raises:
        DataError: If there is no such data, or nothing in it can be used.
    """
    manifest = read_manifest(folder)
    return read_data(source, _record_type(manifest, source, options), options, track)


def _record_type(manifest: Manifest, source: str | Path, options: ReadOptions) -> type[ImageRecord]:
    own = task_of(manifest).record_type
    if own in PLACED_RECORDS:
        return own
    fitting = {RECORD_TYPES[name] for name in infer_tasks(find_source(source, options), options)}
    # Rows whose labels are all empty lists fit the model's own type too.
    placed = [] if own in fitting else [kind for kind in PLACED_RECORDS if kind in fitting]
    return placed[0] if placed else own


def measure_explanations(
    folder: Path, data: Data[Any], measuring: Measuring, track: Track = no_progress
) -> dict[str, Any]:
    """Return `{"num_images", "num_explanations", "algorithms": {name: {…}}, "refused": {…}}`.

    Explained is what the endpoint explains: the most probable class, or all that are probable, or
    the boxes with the highest scores. Where `data` says where classes are, it is every class that
    an image shows.

    Args:
        folder: A model folder.
        data: What `read_photos` returned; labels of whole images are not used.
        measuring: How.
        track: Shows progress.

    Raises:
        DataError: If no image can be read, or none has anything to explain.
    """
    if isinstance(choice_of(task_of(read_manifest(folder))), BoxChoice):
        from autofocus.scoring.explain.box_quality import measure_boxes

        return measure_boxes(folder, data, measuring, track)
    from autofocus.scoring.explain.class_quality import measure_classes

    return measure_classes(folder, data, measuring, track)


def drawn(data: Data[Any], measuring: Measuring) -> Iterator[tuple[Any, bytes]]:
    """Yield records drawn without replacement and their files, the same for the same seed."""
    order = np.random.default_rng(measuring.seed).permutation(len(data.locations))
    for index in order[: measuring.max_images]:
        try:
            yield data.records[index], open_bytes(data.locations[index])
        except InputError as error:
            log.warning("%s; left out", error)
