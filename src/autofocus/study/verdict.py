"""The verdict on a finished run: is its model any good, what limited it, what would more give.

A model is compared with one that has not looked at the images: for one class an image the
frequencies of the classes, which is always guessing the commonest; for several the same; for
objects finding nothing. Both are measured on the same images.

Notation for array shapes:
    - n: number of images, k: number of classes
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autofocus.structures.frames import Frame
from autofocus.study.folder.run_folder import read_decisions
from autofocus.study.study import Outcome, Study
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.loop import OUT_OF_TIME

# Standard errors on either side of a 90 % interval.
Z_90: Final = 1.645
# Least metric of objects that is more than next to nothing; it is 0 where nothing is found.
LEAST_FOUND: Final = 0.05


def verdict_of(study: Study, outcome: Outcome) -> dict[str, Any]:
    """Return the verdict, as `result.json` has it.

    Returns:
        `is_useful`, None where there is nothing to compare with; `measured_on`, `num_images`,
        `baseline`, `gain` over it, `training_data`, `limited_by`, `more_photos`.
    """
    judged = study.samples.chosen(study.validation)
    task, manifest = study.plan.task, outcome.manifest
    found: dict[str, Any] = {"is_useful": None, "baseline": None, "gain": None}
    if isinstance(task, ClassificationTask):
        found = _of_classes(task, np.asarray(judged.targets), study.labels, outcome)
    elif task.finds_objects:
        found = _of_objects(study.metric, outcome)
    return {
        **found,
        "measured_on": manifest.metrics_of,
        "num_images": len(judged),
        "training_data": study.plan.job.training_data.path,
        "limited_by": _limited_by(study, outcome.trial),
        "more_photos": _without_name(study.folder.decided("learning_curve")),
    }


def _of_classes(
    task: ClassificationTask[Any],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    outcome: Outcome,
) -> dict[str, Any]:
    """Compare a classifier with the frequencies of the classes."""
    is_exclusive = targets.ndim == 1
    counts = np.bincount(targets, minlength=len(labels)) if is_exclusive else targets.sum(axis=0)
    guesses = _guesses(task, counts, len(targets))
    baseline = task.evaluate(guesses, targets, labels, {})
    gain = _gain(task.sample_losses(guesses, targets), outcome.losses)
    metrics, intervals = outcome.manifest.metrics, outcome.manifest.intervals
    # A certain gain of either is one: the loss sees confidence, accuracy what it comes to.
    evidence = [] if gain is None else [gain["interval"][0] > 0]
    if "accuracy" in intervals:
        evidence.append(intervals["accuracy"][0] > baseline["accuracy"])
    if not evidence:
        evidence = [metrics["log_loss"] < baseline["log_loss"]]
    commonest = labels[int(counts.argmax())] if is_exclusive else None
    values = {name: v for name, v in baseline.items() if v is None or isinstance(v, float)}
    return {
        "is_useful": any(evidence),
        "baseline": {"class": commonest, "metrics": values},
        "gain": gain,
    }


def _guesses(
    task: ClassificationTask[Any], counts: NDArray[np.int64], num_images: int
) -> list[Any]:
    """Return the frequencies of the classes as the prediction of each of n images.

    Args:
        task: The task.
        counts: Images of each class, [k].
        num_images: n.
    """
    # Half an image of a class, or without it, that does not occur: no probability is 0 or 1.
    freqs = (counts + 0.5) / (num_images + 1)
    logits = np.log(freqs) if task.activation == "softmax" else np.log(freqs / (1 - freqs))
    rows = np.tile(logits.astype(np.float32), (num_images, 1))
    return task.postprocess({"logits": rows}, [Frame((1, 1))] * num_images, {})


def _gain(
    baseline: NDArray[np.float64], losses: NDArray[np.float64] | None
) -> dict[str, Any] | None:
    """Return the fall of the log loss, image by image, with its 90 % interval; both [n]."""
    if losses is None or len(losses) != len(baseline) or len(losses) < 2:
        return None
    gains = baseline - losses
    mean, error = float(gains.mean()), float(gains.std(ddof=1)) / len(gains) ** 0.5
    interval = [mean - Z_90 * error, mean + Z_90 * error]
    return {"metric": "log_loss", "mean": mean, "interval": interval}


def _of_objects(metric: str, outcome: Outcome) -> dict[str, Any]:
    """Compare a model of objects with one that finds nothing."""
    value, losses = outcome.manifest.metrics[metric], outcome.losses
    is_useful, interval = (value or 0.0) >= LEAST_FOUND, None
    if value is not None and losses is not None and len(losses) > 1:
        # What each group of images contributes (`metrics.jackknife`).
        error = float(losses.std(ddof=1)) / len(losses) ** 0.5
        interval = [max(0.0, value - Z_90 * error), min(1.0, value + Z_90 * error)]
        is_useful &= interval[0] > 0
    return {
        "is_useful": is_useful,
        "baseline": {"class": None, "metrics": {metric: 0.0}},
        "gain": None if interval is None else {"metric": metric, "interval": interval},
    }


def _limited_by(study: Study, trial: str) -> dict[str, Any] | None:
    """Return what kept the run from more; None where it did all that it was asked for."""
    made, _ = read_decisions(study.folder.path)
    last = {each["decision"]: each for each in made}
    # A refit is as long as the trial that it repeats.
    name = trial.removeprefix("refit-")
    row = next((row for row in study.trials if row["id"] == name), None)
    recipes = [each for each in made if each["decision"] == "recipe" and each.get("trial") == name]
    if row is not None and row["reason"] == OUT_OF_TIME and recipes:
        num_epochs, done = int(recipes[-1]["num_epochs"]), int(row["epochs"])
        needed_s = row["seconds"] * num_epochs / max(1, done)
        return {
            "reason": "epochs",
            "epochs": done,
            "num_epochs": num_epochs,
            "seconds_for_all": needed_s,
            "seconds_more": max(0.0, needed_s - row["seconds"]),
        }
    for reason in ("nothing_left", "no_more_trials"):
        if reason in last:
            return {"reason": reason, **_without_name(last[reason])}
    return None


def _without_name(decision: Mapping[str, Any] | None) -> Any:
    return decision and {key: value for key, value in decision.items() if key != "decision"}
