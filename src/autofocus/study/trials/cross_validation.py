"""Cross-validation of the recipe against the probe, where validation images are too few to tell.

One of thirteen photos can be all that speaks for a network. The probe and the recipe are then
fitted again on other four fifths of the images, and compared on all fifths that judged them.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autofocus.data.images.fetch import open_bytes
from autofocus.data.splits import kfold_indices
from autofocus.study.folder.trial_folder import read_losses
from autofocus.study.study import RESERVE_FACTOR, Study
from autofocus.study.trials.finetune import probe_and_finetune
from autofocus.study.trials.refit import TrainedTrial, can_refit, refit_s
from autofocus.study.trials.trial import Common, Hooks, failure, is_disk_full
from autofocus.training.selection import Comparison, compare

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


def cross_validate(
    study: Study,
    common: Common,
    trained: TrainedTrial,
    losses: Losses,
    is_stopped: Callable[[], bool],
) -> Losses:
    """Return losses of more images than were held out, where these cannot tell.

    As many folds are trained as the time allows that is not needed to train the trained once more.

    Args:
        study: The run.
        common: The run's data.
        trained: Fine-tuned trial, the best or not.
        losses: Losses of the held-out images.
        is_stopped: Whether the user has asked to stop.
    """
    first = compare(losses.before, losses.after)
    if not can_refit(study, common) or not _is_undecided(first):
        return losses
    deadline_s = _deadline(study, common, trained)
    hooks = Hooks(study.folder.decide, should_stop=is_stopped, track=study.track)
    found, failed = losses, None
    for number, part in enumerate(_folds(study, common), 1):
        if is_stopped() or time.monotonic() + trained.seconds > deadline_s:
            break
        text = f"trial {trained.trial} on fold {number + 1} of {NUM_FOLDS}"
        log.info("%d images cannot tell whether fine-tuning helps: %s", len(found.before), text)
        study.report_progress("folds", text)
        trial, fold = f"{trained.trial}-fold-{number + 1}", _without(common, part)
        try:
            before, finetuned = probe_and_finetune(fold, trained.plan, trial, deadline_s, hooks)
        except Exception as error:
            if is_disk_full(error):
                raise
            failed = failure(error)
            log.warning("%s: %s", text, failed)
            break
        if finetuned.trained.status != "completed":
            break
        found = found.joined(Losses(before, finetuned.losses))
    inputs = {"trial": trained.trial, "num_images": len(found.before), "failed": failed}
    study.folder.decide("other_folds", first=first.inputs(), **inputs)
    return found


def cross_validation_s(common: Common, probe: NDArray[np.float64] | None, seconds: float) -> float:
    """Return the seconds that the other folds would take; 0 where the default recipe is decided.

    Args:
        common: The run's data.
        probe: Loss of each validation image under the probe, [n].
        seconds: Training time of the default recipe.
    """
    after = read_losses(common.folder / "trials" / "0")
    if probe is None or after is None or not _is_undecided(compare(probe, after)):
        return 0.0
    return (NUM_FOLDS - 1) * seconds


def _is_undecided(comparison: Comparison) -> bool:
    low, high = (bound * comparison.standard_error for bound in _UNDECIDED)
    return low < comparison.mean_gain < high


def _deadline(study: Study, common: Common, trained: TrainedTrial) -> float:
    """Return the time (`time.monotonic()`) by which folds end."""
    package_s = study.packaging_s * RESERVE_FACTOR + study.test_reserve_s(trained.image_s)
    budgeted_s = study.deadline(study.packaging_s + package_s + refit_s(common, trained.seconds))
    return time.monotonic() + MAX_SECONDS if budgeted_s is None else budgeted_s


def _folds(study: Study, common: Common) -> list[NDArray[np.int64]]:
    """Split the training images into folds; identical ones stay together."""
    labels = [study.plan.task.record_labels(record) for record in common.train.records]
    hashes = [hashlib.sha256(open_bytes(path)).digest() for path in common.train.locations]
    return kfold_indices(labels, hashes, NUM_FOLDS - 1, study.seed)


def _without(common: Common, part: NDArray[np.int64]) -> Common:
    """Return a fold: validation on a part of the training images, training on the others."""
    others = np.setdiff1d(np.arange(len(common.train)), part)
    train = common.train.chosen(others).joined(common.validation)
    return replace(common, train=train, validation=common.train.chosen(part))
