"""Cross-validation of the recipe against the probe, where validation images are too few to tell.

One of thirteen photos can be all that speaks for a network. The probe and the recipe are then
fitted again on other four fifths of the images, and compared on all fifths that judged them.
"""

import logging
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofocus.data.splits import kfold_indices
from autofocus.study.best_model import Score
from autofocus.study.refit import can_refit, refit_s
from autofocus.study.scheduler import TrainedTrial, TrialController
from autofocus.study.study import RESERVE_FACTOR, Study
from autofocus.study.trials.base import failure, is_disk_full
from autofocus.study.trials.runner import TRIALS
from autofocus.training.selection import Comparison, compare
from autofocus.training.trial import TrialResult

log = logging.getLogger(__name__)

NUM_FOLDS = 5
# Maximum seconds of the other folds without a budget.
MAX_SECONDS = 240.0
# A gain between so many of its standard errors is no evidence in either direction.
_UNDECIDED = (-1.0, 2.0)


@dataclass(frozen=True)
class Losses:
    """Losses of the same images under two networks.

    Attributes:
        before: Losses under the probe, [n].
        after: Losses under the fine-tuned network, [n].
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def joined(self, other: "Losses") -> "Losses":
        """Return the losses of both sets of images."""
        return Losses(
            np.concatenate([self.before, other.before]), np.concatenate([self.after, other.after])
        )


def cross_validate_best(study: Study, scheduler: TrialController) -> None:
    """Cross-validate the best trial against the probe where validation does not decide."""
    trained, probe, candidate = scheduler.best_trained(), study.first_score, study.first_candidate
    if trained is None or probe is None or probe.losses is None or candidate is None:
        return
    losses = Losses(probe.losses, trained.losses)
    more = cross_validate(study, trained, losses)
    if len(more.before) == len(losses.before):
        return
    comparison = compare(more.before, more.after)
    study.folder.decide("trained_against_probe", trial=trained.trial, **comparison.inputs())
    log.info(
        "trial %s against the probe on %d images: log loss lower by %.4f ± %.4f: %s",
        trained.trial,
        comparison.num_pairs,
        comparison.mean_gain,
        comparison.standard_error,
        "taken" if comparison.is_better else "the probe stays",
    )
    if comparison.is_better:
        value = trained.candidate.metrics[study.metric]
        scheduler.replace_best(Score(trained.trial, value, trained.losses), trained.candidate)
    else:
        scheduler.replace_best(probe, candidate)


def cross_validate(study: Study, trained: TrainedTrial, losses: Losses) -> Losses:
    """Return losses of more images than were held out, where these cannot tell.

    As many folds are trained as the time allows that is not needed to train the trained once more.
    """
    first = compare(losses.before, losses.after)
    if not can_refit(study) or not _is_undecided(first):
        return losses
    deadline_s = _deadline(study, trained)
    found, failed = losses, None
    for number, part in enumerate(_folds(study), 1):
        if study.is_stopped() or time.monotonic() + trained.seconds > deadline_s:
            break
        text = f"trial {trained.trial} on fold {number + 1} of {NUM_FOLDS}"
        log.info("%d images cannot tell whether fine-tuning helps: %s", len(found.before), text)
        study.report_progress("folds", text)
        name = f"{trained.trial}-fold-{number + 1}"
        try:
            result = _train_fold(study, trained, part, name, deadline_s)
        except Exception as error:
            if is_disk_full(error):
                raise
            failed = failure(error)
            log.warning("%s: %s", text, failed)
            break
        if result.trained.status != "completed":
            break
        assert result.initial_losses is not None, "a classifier begins with its probe"
        assert result.losses is not None, "a classifier has losses"
        found = found.joined(Losses(result.initial_losses, result.losses))
    inputs = {"trial": trained.trial, "num_images": len(found.before), "failed": failed}
    study.folder.decide("other_folds", first=first.inputs(), **inputs)
    return found


def _is_undecided(comparison: Comparison) -> bool:
    low, high = (bound * comparison.standard_error for bound in _UNDECIDED)
    return low < comparison.mean_gain < high


def _deadline(study: Study, trained: TrainedTrial) -> float:
    """Return the time (`time.monotonic()`) by which folds end."""
    package_s = study.packaging_s * RESERVE_FACTOR + study.test_reserve_s()
    budgeted_s = study.deadline(study.packaging_s + package_s + refit_s(study, trained.seconds))
    return time.monotonic() + MAX_SECONDS if budgeted_s is None else budgeted_s


def _folds(study: Study) -> list[NDArray[np.int64]]:
    """Return folds as positions of training images; groups of them stay together."""
    train = study.samples.chosen(study.train)
    labels = [study.plan.task.record_labels(record) for record in train.records]
    folds = kfold_indices(labels, train.groups, NUM_FOLDS - 1, study.seed)
    return [study.train[fold] for fold in folds]


def _train_fold(
    study: Study,
    trained: TrainedTrial,
    fold: NDArray[np.int64],
    name: str,
    deadline_s: float,
) -> TrialResult:
    """Train a trial's recipe with validation on a part of the training images."""
    trials = TRIALS[trained.plan.model.kind]
    train = np.concatenate([np.setdiff1d(study.train, fold), study.validation])
    spec = trials.spec(study, trained.plan, name, train, fold)
    return trials.train(spec, study.samples, study.context(name, deadline_s))
