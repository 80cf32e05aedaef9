"""A study: one run's data, clock, best model and records."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.images.check import few_bits
from autofocus.data.images.decode import MAX_SAMPLE_BITS
from autofocus.data.images.fetch import open_bytes
from autofocus.data.rows.issues import Issue, IssueLog
from autofocus.data.rows.labels import label_map
from autofocus.data.sources.read import Data
from autofocus.data.splits import split_indices
from autofocus.errors import DataError, InputError, JobError
from autofocus.manifest import Manifest
from autofocus.models.base import ModelSpec
from autofocus.package.mlflow_model import write_package
from autofocus.package.verify import verify_package
from autofocus.runtime import Track, write_atomically
from autofocus.study.best_model import Score
from autofocus.study.folder.run_folder import Leaderboard, RunFolder, read_decisions
from autofocus.study.limits import ModelLimits
from autofocus.study.resolve import Plan
from autofocus.study.sources import Sources
from autofocus.study.thresholds import check_wanted
from autofocus.study.why_served import why_served
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.device import choose_device, prepare_torch
from autofocus.training.trial import RunContext, WeightsChoice
from autofocus.training.usable import bits_in_use

log = logging.getLogger(__name__)

# Seconds of a budget, and its largest share, kept back for packaging before it was measured.
_PACKAGING_S = 20.0
_PACKAGING_SHARE = 0.4
# Decision on how 16-bit images are read.
_BITS = "sample_bits"
# Factor on the last packaging's time: the next one may take longer.
RESERVE_FACTOR = 1.3


@dataclass(frozen=True)
class Outcome:
    """Result of a run's trials.

    Attributes:
        trial: Id of the best trial.
        manifest: Its manifest, with its metrics.
        model: Folder of its published model.
        seconds_to_first_model: Seconds from the start to the first verified model.
        losses: Loss of each image that it was judged by, or of each group of them, [n]; None where
            there are none.
        thresholds: Its fitted score thresholds, as `write_thresholds` returns them.
    """

    trial: str
    manifest: Manifest
    model: Path
    seconds_to_first_model: float
    losses: NDArray[np.float64] | None = None
    thresholds: Sequence[dict[str, Any]] = ()


class Study:
    """One run's state while its trials are scheduled.

    Args:
        plan: The resolved job.
        sources: Its data.
        folder: Run folder.
        started_s: Time (`time.monotonic()`) at which the budget began.
        track: Progress display.

    Attributes:
        is_stopped: Whether the user has asked to stop.
        samples: Images of training and validation that decode, once they were looked at.
        train: Positions of the training images, [n].
        validation: Positions of the validation images, [m].
        image_s: Seconds that scoring a test image may take.
        first_score: Score of a model from before the first trial; None without one.
        first_candidate: That model.
        limits: What the job allows a model to take.
        first_model_s: Seconds to the first model that can be served; 0 before there is one.
    """

    samples: Samples
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    image_s: float

    def __init__(
        self,
        plan: Plan,
        sources: Sources,
        folder: RunFolder,
        started_s: float,
        track: Track,
    ) -> None:
        self.plan = plan
        self.sources = sources
        self.folder = folder
        self.started_s = started_s
        self.track = track
        self.is_stopped: Callable[[], bool] = lambda: False
        self.issues = {role: data.issues for role, data in sources.given.items()}
        self.num_lost = dict.fromkeys(self.issues, 0)
        self.trials: list[dict[str, Any]] = []
        self.board = Leaderboard()
        self.labels = self._labels()
        check_wanted(plan.job.thresholds, self.labels)
        budget_s = math.inf if plan.job.budget_s is None else plan.job.budget_s
        self.packaging_s = min(_PACKAGING_S, _PACKAGING_SHARE * budget_s)
        self.first_score: Score | None = None
        self.first_candidate: Candidate | None = None
        self.first_model_s = 0.0
        self.metric = str(plan.job.primary_metric)
        self.limits = ModelLimits.of(plan.job, folder.decide)
        self._models: dict[str, ModelSpec] = {}
        self.write_data_check()

    @cached_property
    def sample_bits(self) -> int:
        """Bits that the training images use of 16-bit samples; said and recorded once a run."""
        known = self.folder.decided(_BITS)
        if known is not None:
            return int(known["bits"])
        training = self.sources.training
        bits = bits_in_use(training.locations)
        if bits < MAX_SAMPLE_BITS:
            issue = few_bits(training.name, bits)
            self.issues["training"].add(issue)
            log.warning("%s", issue.text())
            self.folder.decide(_BITS, bits=bits)
        return bits

    @property
    def seed(self) -> int:
        """Seed of splits, folds and the order of work."""
        return self.plan.seed

    def weights_of(self, plan: Plan) -> WeightsChoice:
        """Return the weights that a plan's model is to take."""
        job = plan.job
        return WeightsChoice(
            job.weights, job.on_missing_weights, tuple(job.accept_license), plan.user_named_model
        )

    def model_of(self, plan: Plan) -> ModelSpec:
        """Return the model whose weights are there: the plan's, or the one that stands in for it.

        Raises:
            WeightsError: If the weights cannot be had or their licence was not accepted.
            JobError: If the job's device does not exist.
        """
        name = plan.model.name
        if name not in self._models:
            prepare_torch()
            device = choose_device(plan.job.device)
            weights = self.weights_of(plan).load(plan.model, self.track)
            num_classes = len(self.labels)
            classes = f"{num_classes} class{'es' * (num_classes != 1)}"
            log.info("%s · device %s · %s", weights.line, device, classes)
            self._models[name] = weights.spec
        return self._models[name]

    def context(self, trial: str, deadline_s: float | None) -> RunContext:
        """Return the context of a trial that runs in this process."""
        return RunContext(
            self.folder.path / "trials" / trial,
            deadline_s,
            should_stop=self.is_stopped,
            decide=self.folder.decide,
            track=self.track,
        )

    def split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return positions to train on and to validate on; groups of images stay together."""
        labels = [self.plan.task.record_labels(record) for record in self.samples.records]
        validation_frac = self.plan.job.validation_data_size
        train, validation = split_indices(labels, self.samples.groups, validation_frac, self.seed)
        self.folder.decide(
            "split", seed=self.seed, num_training=len(train), num_validation=len(validation)
        )
        if len(train) and np.array_equal(train, validation):
            log.warning("too few images to hold any out: validation metrics are on training images")
        return train, validation

    def _labels(self) -> list[str]:
        task = self.plan.task
        known = [self.sources.training, self.sources.validation]
        labels = label_map(
            *(task.record_labels(r) for data in known if data is not None for r in data.records)
        )
        if not labels:
            source = self.plan.job.training_data.path
            raise DataError(f"{source}: no row has a label; there is nothing to learn.")
        self._check_test_labels(labels)
        return labels

    def _check_test_labels(self, labels: list[str]) -> None:
        """Refuse now test data that could not be scored after hours of training."""
        test = self.sources.test
        if test is None:
            return
        found = {name for record in test.records for name in self.plan.task.record_labels(record)}
        if unknown := sorted(found - set(labels)):
            raise DataError(
                f"{test.name}: test data has classes that training data has not: "
                f"{', '.join(unknown[:10])}. Training has {', '.join(labels[:10])}."
            )

    def report(self, role: str, issue: Issue) -> None:
        """Record the issue of an unusable image.

        Raises:
            DataError: If `data.on_invalid` is `error`.
        """
        self.issues[role].add(issue)
        self.num_lost[role] += 1
        if self.plan.job.data.on_invalid == "error":
            raise DataError(issue.text())
        log.warning("%s", issue.text())

    def publish(self, trial: str, candidate: Candidate) -> Path:
        """Package, verify and only then point `best_model` at the result.

        Raises:
            JobError: If the network exceeds the job's limits.
        """
        started_s = time.monotonic()
        target = self.folder.next_model_dir()
        unfinished = target.with_name(f".{target.name}")
        manifest = write_package(unfinished, candidate.network, candidate.manifest)
        images = _readable(candidate.check_images)
        try:
            self._check_limits(manifest)
            difference = verify_package(unfinished, candidate.network, manifest, images)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
        unfinished.rename(target)
        self.folder.publish(target, trial)
        self.mark_served(trial)
        self.packaging_s = time.monotonic() - started_s
        self.first_model_s = self.first_model_s or self.seconds()
        self.folder.decide(
            "best_model",
            trial=trial,
            model=f"models/{target.name}",
            largest_difference_onnx_torch=difference,
            num_images=len(images),
        )
        log.info(
            "%s verified on %d images: ONNX differs from torch by %.1g",
            target,
            len(images),
            difference,
        )
        return target

    def _check_limits(self, manifest: Manifest) -> None:
        name, size = manifest.model_name, manifest.preprocess.size
        problem = self.limits.problem_of_measured(name, size, manifest.measured)
        if problem is not None:
            raise JobError(f"{problem}. It was not published.")

    def test_reserve_s(self) -> float:
        """Return the seconds after training: to score test data, and to fit thresholds."""
        test = self.sources.test
        num_images = 0 if test is None else len(test.records)
        if not self.plan.job.thresholds.is_empty:
            num_images += len(self.validation)
        return self.image_s * num_images + 1.0 if num_images else 0.0

    def record(
        self,
        trial: str,
        model: str,
        value: float | None,
        epochs: int,
        seconds: float,
        status: str,
        reason: str,
    ) -> None:
        """Add the row of a trial that ended."""
        row = {
            "id": trial,
            "model": model,
            "status": status,
            "value": value,
            "epochs": epochs,
            "seconds": round(seconds, 3),
            "reason": reason,
        }
        self.add_row(row)

    def add_row(self, row: dict[str, Any]) -> None:
        """Add the row of a trial that ended, and write it."""
        self.trials.append(row)
        self.write_row(row)

    def write_row(self, row: dict[str, Any]) -> None:
        """Write a trial's row, which may have changed, and the leaderboard."""
        self.folder.write_json(f"trials/{row['id']}/trial.json", row)
        self.board.add(row)
        write_atomically(self.folder.path / "leaderboard.json", self.board.json())

    def mark_served(self, trial: str) -> None:
        """Mark the row of the trial whose model is served, and say there why."""
        made, _ = read_decisions(self.folder.path)
        self.board.serve(trial, why_served(made, trial, self.metric))
        write_atomically(self.folder.path / "leaderboard.json", self.board.json())

    def write_data_check(self) -> None:
        """Write what was found in the data, with the images that turned out to be unusable."""
        document = {
            role: _check_document(data, self.issues[role], self.num_lost[role])
            for role, data in self.sources.given.items()
        }
        self.folder.write_json("data_check.json", document)

    def deadline(self, reserve_s: float) -> float | None:
        """Return the time (`time.monotonic()`) by which work ends, to keep back `reserve_s`."""
        budget_s = self.plan.job.budget_s
        return None if budget_s is None else self.started_s + budget_s - reserve_s

    def report_progress(
        self,
        step: str,
        text: str,
        num_trials: int | None = None,
        deadline_s: float | None = None,
        eta: float | None = None,
    ) -> None:
        """Write the current activity into the run folder.

        Args:
            step: `look`, `trials`, `folds` or `refit`.
            text: Current activity.
            num_trials: Expected number of trials, or None.
            deadline_s: Time (`time.monotonic()`) by which this step ends, or None.
            eta: Expected time of the end, as Unix time, or None.
        """
        now, budget_end_s = time.time(), self.deadline(0.0)
        if eta is not None and budget_end_s is not None:
            eta = min(eta, now + budget_end_s - time.monotonic())
        self.folder.write_progress(
            step=step,
            text=text,
            primary_metric=self.metric,
            num_trials=num_trials,
            started=now - self.seconds(),
            deadline=None if deadline_s is None else now + deadline_s - time.monotonic(),
            eta=eta,
        )

    def left_s(self) -> float:
        """Return the seconds left to probe and train; infinite without a budget."""
        deadline_s = self.deadline(self.packaging_s * RESERVE_FACTOR)
        return math.inf if deadline_s is None else max(0.0, deadline_s - time.monotonic())

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return round(time.monotonic() - self.started_s, 3)


def _check_document(data: Data[Any], issues: IssueLog, num_lost: int) -> dict[str, Any]:
    return {
        "num_rows": data.num_rows,
        "num_valid": len(data.records) - num_lost,
        "counts": dict(issues.counts),
        "issues": [issue.text() for issue in issues.examples()],
    }


def _readable(locations: Sequence[str]) -> list[bytes]:
    images = []
    for location in locations:
        try:
            images.append(open_bytes(location))
        except InputError as error:
            # Read minutes ago, gone now; the check goes on with the others.
            log.warning("%s", error)
    return images


def format_metric(value: float | None) -> str:
    """Return a metric as text."""
    return "undefined" if value is None else f"{value:.4f}"
