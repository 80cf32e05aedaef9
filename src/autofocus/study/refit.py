"""Refit: the best network is trained again on training and validation images together.

Where a few photos were held out to choose, a fifth of all that could be learnt from has taught
nothing. Its recipe is run again on all of them, for as many epochs as were best, and the
result is served with the metrics that were measured before, on images that network had not seen.
So are the frozen probe's; AutoGluon calls it refit_full.
"""

import logging
import math
import time
from dataclasses import replace

import numpy as np

from autofocus.study.best_model import Score
from autofocus.study.scheduler import MIN_TRIAL_S, TrainedTrial, TrialController
from autofocus.study.study import RESERVE_FACTOR, Study
from autofocus.study.trials.base import failure, is_disk_full
from autofocus.study.trials.runner import TRIALS
from autofocus.training.candidate import Candidate
from autofocus.training.checkpoint import load_checkpoint
from autofocus.training.classifier_trial import refit_classifier
from autofocus.training.selection import SMALL_VALIDATION, compare
from autofocus.training.trial import TrialResult, TrialSpec

log = logging.getLogger(__name__)

# What a second training may take more than the first one, besides its further images.
_TIME_FACTOR = 1.2
# A budget may leave fewer epochs, for which the rate comes down too, but not much fewer.
_MIN_EPOCHS_FRAC = 0.7
# An image may cost so much more than before, in nats, without anything having gone wrong.
_HARMLESS_LOSS = 0.02


def refit_best(study: Study, scheduler: TrialController) -> None:
    """Refit the best model on all images, if a trial of the study trained it."""
    trained = scheduler.best_if_trained()
    again = None if trained is None else refit(study, trained)
    if trained is not None and again is not None:
        value = again.metrics[study.metric]
        scheduler.replace_best(Score(trained.refit_id, value), again)


def can_refit(study: Study) -> bool:
    """Return whether so few images were held out that training on them too is worth more."""
    return (
        # Those who begin with a probe know how to learn from what judged it.
        study.first_score is not None
        and study.sources.validation is None
        and len(study.validation) < SMALL_VALIDATION
        # With hardly any images, all are learnt from already.
        and not np.isin(study.train, study.validation).any()
    )


def refit_s(study: Study, seconds: float) -> float:
    """Return the expected training time with all images, in seconds.

    Args:
        study: The run.
        seconds: Training time with the training images.
    """
    num_images = len(study.train) + len(study.validation)
    return _TIME_FACTOR * seconds * num_images / len(study.train)


def refit_reserve_s(study: Study) -> float:
    """Return the seconds that the first training leaves for a refit.

    A fifth more training images is worth more than the last epochs.
    """
    left_s = study.left_s()
    if math.isinf(left_s) or not can_refit(study):
        return 0.0
    first_s = (left_s - study.packaging_s) / (1 + refit_s(study, 1.0))
    return left_s - first_s if first_s >= MIN_TRIAL_S else 0.0


def refit(study: Study, trained: TrainedTrial) -> Candidate | None:
    """Refit a trained trial on all images; return None where that is no use or there is no time."""
    best = load_checkpoint(study.folder.path / "trials" / trained.trial / "best")
    assert best is not None, "a trial that was trained has weights"
    num_epochs, share = int(best[1]["epoch"]), float(best[1].get("start_share", 0.0))
    # This package will take as long as the last one.
    reserve_s = study.packaging_s * RESERVE_FACTOR + study.test_reserve_s()
    deadline_s = study.deadline(reserve_s)
    if study.is_stopped() or not can_refit(study) or not num_epochs:
        return None
    if _is_late(study, trained, deadline_s):
        return None
    num_images = len(study.train) + len(study.validation)
    log.info("once more with all %d images, %d epochs", num_images, num_epochs)
    study.report_progress(
        "refit", f"trial {trained.trial} once more, with all images", deadline_s=deadline_s
    )
    started_s = time.monotonic()
    try:
        spec = _spec(study, trained, num_epochs)
        context = study.context(spec.id, deadline_s)
        made = refit_classifier(spec, study.samples, context, trained.candidate, share)
        reason = _rejected(made, trained, num_epochs)
    except Exception as error:
        if is_disk_full(error):
            raise
        made, reason = None, failure(error)
    study.folder.decide(
        "trained_again",
        trial=trained.trial,
        num_images=num_images,
        num_epochs=num_epochs,
        start_share=share,
        rejected=reason,
    )
    if made is None or reason is not None:
        log.warning("the model that saw fewer images stays: %s", reason)
        return None
    study.record(
        trained.refit_id,
        trained.plan.model.name,
        trained.candidate.metrics[study.metric],
        made.trained.num_epochs,
        time.monotonic() - started_s,
        "completed",
        f"trial {trained.trial} once more, with all images; judged as that",
    )
    return made.candidate


def _is_late(study: Study, trained: TrainedTrial, deadline_s: float | None) -> bool:
    needed_s = refit_s(study, trained.seconds) / _TIME_FACTOR
    left_s = math.inf if deadline_s is None else deadline_s - time.monotonic()
    if left_s >= needed_s:
        return False
    inputs = {"seconds_left": left_s, "seconds_needed": needed_s}
    study.folder.decide("not_trained_again", reason="budget", trial=trained.trial, **inputs)
    log.info("no time to train once more with all images: it needs about %.0f s", needed_s)
    return True


def _spec(study: Study, trained: TrainedTrial, num_epochs: int) -> TrialSpec:
    """Return the trial of a refit: the same recipe, on all images."""
    spec = TRIALS[trained.plan.model.kind].spec(
        study, trained.plan, trained.refit_id, study.train, study.validation
    )
    recipe = replace(spec.recipe, num_epochs=num_epochs, early_stopping=False, initial_share=0.0)
    return replace(spec, train=np.concatenate([study.train, study.validation]), recipe=recipe)


def _rejected(made: TrialResult, trained: TrainedTrial, num_epochs: int) -> str | None:
    """Return why the new model is not served, or None."""
    run = made.trained
    if run.status != "completed" or run.num_epochs < _MIN_EPOCHS_FRAC * num_epochs:
        return f"{run.reason} after {run.num_epochs} of {num_epochs} epochs"
    assert made.losses is not None, "a classifier has losses"
    comparison = compare(made.losses, trained.losses)
    gain = comparison.mean_gain
    if comparison.is_better and gain > _HARMLESS_LOSS:
        return f"images that it has learnt now cost {gain:.3f} more than before it had seen them"
    return None
