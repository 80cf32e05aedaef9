"""The trials of a classification job: a frozen probe, then the whole network from its head."""

import logging
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from autofocus.errors import BudgetError, DataError
from autofocus.manifest import MANIFEST_NAME, ResizeCrop, encode_manifest
from autofocus.models.base import CLASSIFIER, LoadedWeights
from autofocus.models.network import Classifier
from autofocus.runtime import write_atomically
from autofocus.study.best_model import Score
from autofocus.study.groups import group_samples
from autofocus.study.resolve import Plan
from autofocus.study.study import Study, format_metric
from autofocus.study.trials.base import over_limit
from autofocus.study.trials.recipes import preprocess_for, recipe_for
from autofocus.training.candidate import Samples
from autofocus.training.classifier_trial import train_classifier
from autofocus.training.features import Features
from autofocus.training.probe_trial import Probed, encode, fit_head
from autofocus.training.thumbnails import Thumbnails
from autofocus.training.trial import TrialSpec
from autofocus.training.trial_log import trial_facts, trial_log
from autofocus.training.usable import image_issue

log = logging.getLogger(__name__)

_NOBODY: NDArray[np.int64] = np.zeros(0, np.int64)


class ClassifierTrials:
    """Fine-tune from a frozen probe; see `Trials`."""

    train = staticmethod(train_classifier)
    single_probe = "0"
    single_number = 1

    def begin(self, study: Study, plan: Plan, probe: str) -> None:
        """Read all images, split them, and fit a head on the frozen encoder of a plan's model."""
        begin_probed(study, plan, probe)

    def spec(
        self,
        study: Study,
        plan: Plan,
        trial: str,
        train: NDArray[np.int64] = _NOBODY,
        validation: NDArray[np.int64] = _NOBODY,
    ) -> TrialSpec:
        """Resolve a trial; see `Trials.spec`."""
        default = study.model_of(plan).preprocess
        assert isinstance(default, ResizeCrop), "classifiers see a crop"
        return TrialSpec(
            id=trial,
            task=plan.task,
            labels=study.labels,
            model=plan.model,
            weights=study.weights_of(plan),
            preprocess=replace(preprocess_for(plan, default), sample_bits=study.sample_bits),
            recipe=recipe_for(plan, len(train)),
            train=train,
            validation=validation,
            primary_metric=study.metric,
            seed=plan.seed,
            device=plan.job.device,
            data_fingerprint=study.sources.fingerprint,
        )


@dataclass(frozen=True)
class Looked:
    """An encoder that has looked at images.

    Attributes:
        spec: Trial of its head.
        weights: Its weights.
        network: Network on the CPU, with a random head.
        rows: Features of the samples, float32 [n, v, d]: images, views, feature size.
    """

    spec: TrialSpec
    weights: LoadedWeights
    network: Classifier
    rows: NDArray[np.float32]


def look(
    study: Study, plan: Plan, probe: str, deadline_s: float | None, *, is_last: bool = True
) -> tuple[Looked, int]:
    """Give a study its images; return the encoder that saw them, and the number of training images.

    Args:
        study: The run.
        plan: Plan with the encoder.
        probe: Id of the trial of its head.
        deadline_s: Time (`time.monotonic()`) by which to end; None for no limit.
        is_last: Whether images that are not seen now take no part in the run.
    """
    if len(study.labels) == 1 and study.plan.task.record_type.min_classes:
        log.warning("only one class, %r: there is nothing to tell apart", study.labels[0])
    data, given = study.sources.training, study.sources.validation
    num_training = len(data.locations)
    locations = [*data.locations, *([] if given is None else given.locations)]
    spec = ClassifierTrials().spec(study, plan, probe)
    if problem := study.limits.problem_of(spec, study.model_of(plan)):
        of_plan = partial(ClassifierTrials().spec, study, trial=probe)
        raise over_limit(study, plan, [problem], of_plan)
    context = study.context(probe, deadline_s)
    weights, device = spec.prepare(study.track)
    started_s = time.monotonic()
    counts = (data.name, num_training, None if given is None else len(given.locations))
    facts = trial_facts(weights, device, "no", context.deadline_s, *counts)
    with trial_log(context.folder, facts):
        with Thumbnails(study.sample_bits) as thumbnails:
            found = encode(spec, weights, device, locations, context, thumbnails=thumbnails)
        network, features = found
        if is_last or not len(features.index):
            _report(study, features, locations, num_training)
        seen = [locations[position] for position in features.index]
        study.folder.images.note(seen, features.tags, features.hashes)
        study.samples = _samples(study, features, thumbnails)
    study.image_s = (time.monotonic() - started_s) / max(1, len(study.samples))
    num_seen = int((features.index < num_training).sum())
    return Looked(spec, weights, network, features.rows), num_seen


def begin_probed(study: Study, plan: Plan, probe: str) -> None:
    """Give a study its images, and probe a plan's model."""
    started_s = time.monotonic()
    looked, num_training = look(study, plan, probe, study.deadline(study.packaging_s))
    study.train, study.validation = _split(study, num_training)
    spec = ClassifierTrials().spec(study, plan, probe, study.train, study.validation)
    probed = fit_head(
        spec,
        looked.weights,
        looked.network,
        study.samples,
        looked.rows,
        study.context(probe, study.deadline(study.packaging_s)),
        serves_all=study.sources.validation is None,
    )
    study.first_score = _keep(study, spec, probed, started_s)
    study.first_candidate = probed.candidate
    if study.folder.published(probe) is None:
        # Now: what follows takes minutes, and knows then how long packaging takes.
        study.publish(probe, probed.candidate)


def _keep(study: Study, spec: TrialSpec, probed: Probed, started_s: float) -> Score:
    """Keep a probe's manifest and row; return its score."""
    manifest = probed.candidate.manifest
    path = study.folder.path / "trials" / spec.id / MANIFEST_NAME
    write_atomically(path, encode_manifest(manifest))
    value, seconds = manifest.metrics[study.metric], time.monotonic() - started_s
    log.info(
        "frozen probe: %s %s after %.0f s", study.metric, format_metric(value), study.seconds()
    )
    reason = "frozen-feature probe"
    study.record(spec.id, manifest.model_name, value, 0, seconds, "completed", reason)
    return Score(spec.id, value, probed.losses)


def _report(study: Study, features: Features, locations: list[str], num_training: int) -> None:
    """Report the images that cannot be used, and those that a budget left out."""
    for position, error in features.failures:
        role = "training" if position < num_training else "validation"
        study.report(role, image_issue(locations[position], error))
    if features.num_skipped:
        num_left_out = features.num_skipped
        study.folder.decide("images_left_out", reason="budget", num_left_out=num_left_out)
        log.warning("budget: %d of %d images were not looked at", num_left_out, len(locations))
    if len(features.index):
        return
    if features.num_skipped == len(locations):
        raise BudgetError("The budget ended before the first image was seen; give more.")
    raise DataError(
        f"{study.sources.training.name}: no image can be used; data_check.json in the run folder"
        " says why."
    )


def _samples(study: Study, features: Features, thumbnails: Thumbnails) -> Samples:
    """Return the images that have features, in order."""
    data = [study.sources.training, study.sources.validation]
    records = [record for each in data if each is not None for record in each.records]
    locations = [path for each in data if each is not None for path in each.locations]
    found = [records[i] for i in features.index]
    places, hashes = [locations[i] for i in features.index], features.hashes
    return Samples(
        records=found,
        locations=places,
        targets=study.plan.task.encode_targets(found, study.labels),
        hashes=hashes,
        groups=group_samples(study, found, places, hashes, thumbnails.rows(hashes)),
        source=study.sources.training.name,
    )


def _split(study: Study, num_training: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the training and of the validation images."""
    if study.sources.validation is None:
        train, validation = study.split()
    else:
        everything = np.arange(len(study.samples), dtype=np.int64)
        train, validation = everything[:num_training], everything[num_training:]
        note_leak(study, train, validation)
    if not len(train) or not len(validation):
        which = "training" if not len(train) else "validation"
        raise DataError(
            f"no {which} image can be used; data_check.json in the run folder says why."
        )
    return train, validation


def is_within_limits(study: Study, plan: Plan) -> bool:
    """Return whether a plan's classifier may be published; detectors are asked at their trials."""
    if plan.model.kind != CLASSIFIER:
        return True
    spec = ClassifierTrials().spec(study, plan, plan.model.name)
    return study.limits.problem_of(spec, study.model_of(plan)) is None


def note_leak(study: Study, train: NDArray[np.int64], validation: NDArray[np.int64]) -> None:
    """Say how many images are both to learn from and to judge by."""
    groups = study.samples.groups
    known = {groups[i] for i in train}
    num_shared = sum(groups[i] in known for i in validation)
    if num_shared:
        study.folder.decide("leak", num_shared=num_shared, num_validation=len(validation))
        log.warning(
            "%d of %d validation images are also training images: validation metrics flatter",
            num_shared,
            len(validation),
        )
