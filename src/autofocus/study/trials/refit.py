"""Refit: the best network is trained again on training and validation images together.

Where a few photos were held out to choose, a fifth of all that could be learnt from has taught
nothing. Its recipe is run again on all of them, for as many epochs as were best, and the
result is served with the metrics that were measured before, on images that network had not seen.
So are the frozen probe's; AutoGluon calls it refit_full.
"""

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autofocus.models.network import Classifier
from autofocus.study.resolve import Plan
from autofocus.study.study import RESERVE_FACTOR, Study
from autofocus.study.trials.finetune import probe_setup
from autofocus.study.trials.prepare import prepare_trial
from autofocus.study.trials.recipes import recipe_for
from autofocus.study.trials.trial import Common, Hooks, failure, is_disk_full
from autofocus.training.candidate import Candidate
from autofocus.training.checkpoint import load_checkpoint
from autofocus.training.device import make_accelerator
from autofocus.training.finetune_trial import Finetuned, Finetuning, run_refit
from autofocus.training.probe_trial import run_probe
from autofocus.training.selection import SMALL_VALIDATION, compare

log = logging.getLogger(__name__)

# What a second training may take more than the first one, besides its further images.
_TIME_FACTOR = 1.2
# A budget may leave fewer epochs, for which the rate comes down too, but not much fewer.
_MIN_EPOCHS_FRAC = 0.7
# An image may cost so much more than before, in nats, without anything having gone wrong.
_HARMLESS_LOSS = 0.02


@dataclass(frozen=True)
class TrainedTrial:
    """A trial with its trained model.

    Attributes:
        trial: Its id.
        plan: Plan of that trial.
        candidate: The model.
        losses: Loss of each validation image, [n].
        seconds: Training time.
        image_s: Seconds that scoring a test image may take.
    """

    trial: str
    plan: Plan
    candidate: Candidate
    losses: NDArray[np.float64]
    seconds: float
    image_s: float

    @property
    def refit_id(self) -> str:
        """Id of the trial of its refit."""
        return f"refit-{self.trial}"


def can_refit(study: Study, common: Common) -> bool:
    """Return whether so few images were held out that training on them too is worth more."""
    return (
        study.sources.validation is None
        and len(common.validation) < SMALL_VALIDATION
        # With hardly any images, all are learnt from already.
        and set(common.train.locations).isdisjoint(common.validation.locations)
    )


def refit_s(common: Common, seconds: float) -> float:
    """Return the expected training time with all images, in seconds.

    Args:
        common: The run's data.
        seconds: Training time with the training images.
    """
    num_images = len(common.train) + len(common.validation)
    return _TIME_FACTOR * seconds * num_images / len(common.train)


def first_training_s(study: Study, common: Common, left_s: float) -> float:
    """Return the seconds that the first training may take, so that there is time for a refit.

    A fifth more training images is worth more than the last epochs.

    Args:
        study: The run.
        common: The run's data.
        left_s: Seconds left for both, and for the package between them.
    """
    return (left_s - study.packaging_s) / (1 + refit_s(common, 1.0))


def refit(
    study: Study, common: Common, trained: TrainedTrial, is_stopped: Callable[[], bool]
) -> Candidate | None:
    """Refit a trained trial on all images; return None where that is no use or there is no time.

    Args:
        study: The run.
        common: The run's data.
        trained: The best trial, fine-tuned.
        is_stopped: Whether the user has asked to stop.
    """
    best = load_checkpoint(common.folder / "trials" / trained.trial / "best")
    assert best is not None, "a trial that was trained has weights"
    num_epochs, share = int(best[1]["epoch"]), float(best[1].get("start_share", 0.0))
    # This package will take as long as the last one.
    reserve_s = study.packaging_s * RESERVE_FACTOR + study.test_reserve_s(trained.image_s)
    deadline_s = study.deadline(reserve_s)
    if is_stopped() or not can_refit(study, common) or not num_epochs:
        return None
    if _is_late(study, common, trained, deadline_s):
        return None
    num_images = len(common.train) + len(common.validation)
    log.info("once more with all %d images, %d epochs", num_images, num_epochs)
    study.report_progress(
        "refit", f"trial {trained.trial} once more, with all images", deadline_s=deadline_s
    )
    started_s = time.monotonic()
    hooks = Hooks(study.folder.decide, should_stop=is_stopped, track=study.track)
    try:
        made = _train(common, trained, num_epochs, share, deadline_s, hooks)
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


def _is_late(study: Study, common: Common, trained: TrainedTrial, deadline_s: float | None) -> bool:
    needed_s = refit_s(common, trained.seconds) / _TIME_FACTOR
    left_s = math.inf if deadline_s is None else deadline_s - time.monotonic()
    if left_s >= needed_s:
        return False
    inputs = {"seconds_left": left_s, "seconds_needed": needed_s}
    study.folder.decide("not_trained_again", reason="budget", trial=trained.trial, **inputs)
    log.info("no time to train once more with all images: it needs about %.0f s", needed_s)
    return True


def _train(
    common: Common,
    trained: TrainedTrial,
    num_epochs: int,
    initial_share: float,
    deadline_s: float | None,
    hooks: Hooks,
) -> Finetuned:
    """Fit the head on all images, and train from it."""
    plan = trained.plan
    weights, device = prepare_trial(plan, len(common.labels), hooks.track)
    setup = probe_setup(plan, weights, device, common.labels, common.data_fingerprint, deadline_s)
    everything = common.train.joined(common.validation)
    probed = run_probe(
        setup,
        everything,
        None,
        report=lambda role, issue: log.warning("%s", issue.text()),
        decide=lambda what, **inputs: hooks.decide(what, trial=trained.refit_id, **inputs),
        track=hooks.track,
    )
    initial_model = copy.deepcopy(probed.candidate.network)
    assert isinstance(initial_model, Classifier), "a probe is a classifier"
    recipe = replace(
        recipe_for(plan, len(common.train)),
        num_epochs=num_epochs,
        early_stopping=False,
        initial_share=0.0,
    )
    job = Finetuning(
        setup=setup,
        recipe=recipe,
        accelerator=make_accelerator(device),
        primary_metric=common.metric,
        folder=common.folder / "trials" / trained.refit_id,
        deadline_s=deadline_s,
        should_stop=hooks.should_stop,
        on_epoch=hooks.on_epoch,
        track=hooks.track,
        keeps_latest=True,
    )
    probed = replace(
        probed, initial_model=initial_model, train=everything, validation=common.validation
    )
    return run_refit(job, probed, trained.candidate, initial_share)


def _rejected(made: Finetuned, trained: TrainedTrial, num_epochs: int) -> str | None:
    """Return why the new model is not served, or None."""
    run = made.trained
    if run.status != "completed" or run.num_epochs < _MIN_EPOCHS_FRAC * num_epochs:
        return f"{run.reason} after {run.num_epochs} of {num_epochs} epochs"
    comparison = compare(made.losses, trained.losses)
    gain = comparison.mean_gain
    if comparison.is_better and gain > _HARMLESS_LOSS:
        return f"images that it has learnt now cost {gain:.3f} more than before it had seen them"
    return None
