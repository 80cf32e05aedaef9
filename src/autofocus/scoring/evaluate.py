"""Score labelled data with a model folder and compute every metric of its task."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from autofocus.data.images.fetch import open_bytes
from autofocus.data.sources.read import Data
from autofocus.errors import DataError, ImageError, InputError
from autofocus.metrics.thresholds import reached_on
from autofocus.runtime import Track, no_progress, num_cores
from autofocus.scoring.scorer import MAX_BATCH, Scorer
from autofocus.tasks.base import SCORE_THRESHOLDS, Targets

log = logging.getLogger(__name__)


class Observe(Protocol):
    """Observer of each image that was scored."""

    def __call__(self, scorer: Scorer, index: int, image: bytes, prediction: Any) -> None:
        """Receive the file and the prediction of the data's record at `index`."""


def evaluate_model(
    folder: Path,
    data: Data[Any],
    track: Track = no_progress,
    observe: Observe | None = None,
) -> dict[str, Any]:
    """Return `{"metrics": {…}, "num_images": n, "thresholds": […]}`.

    The last is what the model's fitted score thresholds reach on these images.

    Args:
        folder: A model folder.
        data: Rows of the model's task.
        track: Progress display.
        observe: Called with each image that was scored.

    Raises:
        DataError: If a row has a class that the model does not know, or no image can be read.
    """
    scorer = Scorer.load(folder, num_threads=num_cores())
    _check_labels(scorer, data)
    task, settings = scorer.task, scorer.manifest.settings
    measured = task.evaluation_settings(settings)
    predictions: list[tuple[Any, Any]] = []
    starts = range(0, len(data.records), MAX_BATCH)
    for start in track(starts, "evaluate", len(starts)):
        loaded = _loaded(data.locations, range(start, min(start + MAX_BATCH, len(data.records))))
        scored = scorer.try_predict([image for _, image in loaded], measured)
        for (index, image), prediction in zip(loaded, scored, strict=True):
            record = data.records[index]
            if isinstance(prediction, ImageError):
                log.warning("%s: %s The image is left out.", record.image_url, prediction)
                continue
            predictions.append((record, prediction))
            if observe:
                observe(scorer, index, image, prediction)
    if not predictions:
        raise DataError(f"{data.name}: no image can be read.")
    targets = task.encode_targets([record for record, _ in predictions], scorer.labels)
    found = [prediction for _, prediction in predictions]
    return {
        "metrics": task.evaluate(found, targets, scorer.labels, settings),
        "num_images": len(predictions),
        "thresholds": _thresholds(scorer, found, targets, data.name),
    }


def _thresholds(
    scorer: Scorer, predictions: Sequence[Any], targets: Targets, source: str
) -> list[dict[str, Any]]:
    settings, labels = scorer.manifest.settings, scorer.labels
    fitted, of_class = scorer.manifest.thresholds, settings.get(SCORE_THRESHOLDS)
    if not fitted or not isinstance(of_class, list):
        return []
    decisions = scorer.task.decisions(predictions, targets, labels, settings)
    if decisions is None:
        return []
    reached = reached_on(decisions, labels, range(len(predictions)), of_class, fitted)
    return [{**one, "source": source} for one in reached]


def _loaded(locations: Sequence[str], indices: Sequence[int]) -> list[tuple[int, bytes]]:
    loaded = []
    for index in indices:
        try:
            loaded.append((index, open_bytes(locations[index])))
        except InputError as error:
            log.warning("%s The image is left out.", error)
    return loaded


def _check_labels(scorer: Scorer, data: Data[Any]) -> None:
    known = set(scorer.labels)
    unknown = sorted({n for r in data.records for n in scorer.task.record_labels(r)} - known)
    if unknown:
        raise DataError(
            f"{data.name}: classes the model was not trained on: {', '.join(unknown[:10])}. "
            f"It knows {', '.join(scorer.labels[:10])}{'…' if len(scorer.labels) > 10 else ''}."
        )
