"""Fitted score thresholds: from images that the model has not learnt from, into its package."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from autofocus.data.images.fetch import open_bytes
from autofocus.errors import ImageError, InputError, JobError
from autofocus.manifest import MANIFEST_NAME, Manifest, encode_manifest, read_manifest
from autofocus.metrics import thresholds
from autofocus.metrics.thresholds import ALL, Threshold, named, threshold_line
from autofocus.runtime import Track, write_atomically
from autofocus.scoring.backends.torch import TorchBackend
from autofocus.scoring.scorer import MAX_BATCH, Scorer
from autofocus.settings.job import Wanted
from autofocus.settings.spelling import did_you_mean
from autofocus.tasks.base import SCORE_THRESHOLDS, Targets, Task
from autofocus.training.candidate import Candidate, OutOfFold, Samples

if TYPE_CHECKING:
    from autofocus.study.study import Study

log = logging.getLogger(__name__)


def check_wanted(wanted: Wanted, labels: Sequence[str]) -> None:
    """Check that the classes of a job's wishes exist.

    Raises:
        JobError: Names every one that does not.
    """
    wishes = {"min_precision": wanted.min_precision, "min_recall": wanted.min_recall}
    problems = [
        f"thresholds.{key}: there is no class {label!r}{did_you_mean(label, labels)}"
        for key, of_class in wishes.items()
        for label in of_class
        if label != ALL and label not in labels
    ]
    if problems:
        raise JobError(problems)


def fit_thresholds(
    task: Task[Any, Any],
    wanted: Wanted,
    predictions: Sequence[Any],
    targets: Targets,
    labels: Sequence[str],
    groups: Sequence[Hashable],
    settings: Mapping[str, Any] | None = None,
) -> list[Threshold]:
    """Return the thresholds that a job wants; none where it wants none.

    Args:
        task: The task.
        wanted: The job's wishes.
        predictions: n predictions of images that the model was not fitted on, made with
            `task.evaluation_settings(settings)`.
        targets: n entries of `Task.encode_targets`.
        labels: k class names.
        groups: Group of each image, [n]: images of one group are one piece of evidence.
        settings: Settings of the manifest; None: the defaults.
    """
    if wanted.is_empty:
        return []
    decisions = task.decisions(predictions, targets, labels, settings or {})
    if decisions is None:
        log.warning("thresholds: %s has none; not used", task.name)
        return []
    wishes = wanted.min_precision, wanted.min_recall
    found = thresholds.fit(decisions, labels, groups, *wishes)
    known = {one.label for one in found}
    for label in dict.fromkeys([*wanted.min_precision, *wanted.min_recall]):
        if label not in known:
            log.warning("%s: no right answer to fit a threshold by", named(label))
    return found


def write_thresholds(
    model: Path, task: Task[Any, Any], found: Sequence[Threshold], source: str
) -> list[dict[str, Any]]:
    """Write thresholds into a model folder's manifest; return them as JSON objects.

    Args:
        model: The model folder; what was fitted before is replaced.
        task: Its task.
        found: The thresholds.
        source: Images that they were fitted on, such as `validation`.
    """
    manifest = read_manifest(model)
    documents = [{**one.document(), "source": source} for one in found]
    settings = {k: v for k, v in manifest.settings.items() if k != SCORE_THRESHOLDS}
    if found:
        of_label = {one.label: one.threshold for one in found}
        default = of_label.get(ALL, task.default_threshold(settings))
        settings[SCORE_THRESHOLDS] = [of_label.get(label, default) for label in manifest.labels]
    changed = msgspec.structs.replace(manifest, settings=settings, thresholds=documents)
    if changed != manifest:
        write_atomically(model / MANIFEST_NAME, encode_manifest(changed))
    for document in documents:
        say = log.info if document["is_reached"] else log.warning
        say("%s", threshold_line(document))
    return documents


def fit_on_validation(
    study: "Study", judged: Callable[[], Candidate], model: Path
) -> list[dict[str, Any]]:
    """Fit the thresholds that a job wants on the images that judged its model, and write them.

    Args:
        study: The run.
        judged: Function that returns the model that has not learnt from these images.
        model: Folder of the published model, which may have.
    """
    task, wanted = study.plan.task, study.plan.job.thresholds
    if wanted.is_empty or study.is_stopped():
        return []
    candidate = judged()
    seen, manifest = candidate.out_of_fold, candidate.manifest
    if seen is None:
        seen = _predictions(candidate, study.samples.chosen(study.validation), study.track)
    known = study.labels, seen.groups, manifest.settings
    found = fit_thresholds(task, wanted, seen.predictions, seen.targets, *known)
    study.folder.decide("thresholds", thresholds=[one.document() for one in found])
    return write_thresholds(model, task, found, manifest.metrics_of)


def _predictions(candidate: Candidate, samples: Samples, track: Track) -> OutOfFold:
    """Return a candidate's predictions of images; those that are gone are left out."""
    manifest: Manifest = candidate.manifest
    scorer = Scorer(manifest, TorchBackend(candidate.network, manifest.outputs))
    settings = scorer.task.evaluation_settings(manifest.settings)
    predictions: list[Any] = []
    positions: list[int] = []
    starts = range(0, len(samples), MAX_BATCH)
    for start in track(starts, "fit thresholds", len(starts)):
        some = range(start, min(start + MAX_BATCH, len(samples)))
        images = [(i, image) for i in some if (image := _read(samples.locations[i])) is not None]
        scored = scorer.try_predict([image for _, image in images], settings)
        for (i, _), prediction in zip(images, scored, strict=True):
            if not isinstance(prediction, ImageError):
                predictions.append(prediction)
                positions.append(i)
    seen = samples.chosen(positions)
    return OutOfFold(predictions, seen.targets, seen.groups)


def _read(location: str) -> bytes | None:
    try:
        return open_bytes(location)
    except InputError as error:
        log.warning("%s The image is left out.", error)
        return None
