"""Run one trial to its end: its errors are its own. `TRIALS` has the trials by kind of model."""

import gc
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from filelock import FileLock

from autofocus.models.base import CLASSIFIER, DETECTOR, SEGMENTER
from autofocus.runtime import write_atomically
from autofocus.study.folder.trial_folder import forget_result, keep_losses, last_epoch
from autofocus.study.trials.base import TrialEnd, Trials, failure, is_disk_full
from autofocus.study.trials.classifiers import ClassifierTrials
from autofocus.study.trials.detectors import DetectorTrials
from autofocus.training.candidate import Samples
from autofocus.training.loop import ENDED_EARLY
from autofocus.training.trial import RunContext, TrialResult, TrialSpec

TRIALS: Final[dict[str, Trials]] = {
    CLASSIFIER: ClassifierTrials(),
    DETECTOR: DetectorTrials(),
    SEGMENTER: DetectorTrials(),
}


def run_trial(spec: TrialSpec, samples: Samples, context: RunContext) -> TrialEnd:
    """Train, and leave the result in the trial's folder.

    Raises:
        OSError: If the disk is full: no other trial could do better.
    """
    trials, folder, started_s = TRIALS[spec.model.kind], context.folder, time.monotonic()
    try:
        # A worker may outlive its killed driver by the moment in which the next one begins.
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            end = _ended(folder, trials.train(spec, samples, context), spec.primary_metric)
    except Exception as error:
        if is_disk_full(error):
            raise
        end = _failed(folder, error)
    # What a failed trial held must be free for the next one.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return replace(end, seconds=round(time.monotonic() - started_s, 3))


def _ended(folder: Path, result: TrialResult, metric: str) -> TrialEnd:
    trained = result.trained
    if trained.status == "failed" and not trained.improved:
        forget_result(folder)
        return TrialEnd("failed", trained.reason, None, trained.num_epochs, 0.0)
    if result.losses is not None:
        keep_losses(folder, result.losses)
    status = "terminated" if trained.reason == ENDED_EARLY else trained.status
    value = result.candidate.metrics[metric]
    return TrialEnd(status, trained.reason, value, trained.num_epochs, 0.0)


def _failed(folder: Path, error: Exception) -> TrialEnd:
    forget_result(folder)
    text = "".join(traceback.format_exception(error))
    write_atomically(folder / "error.txt", text.encode())
    return TrialEnd("failed", failure(error), None, last_epoch(folder), 0.0)
