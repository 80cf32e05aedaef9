"""One run from its data to its best model: trials, package, verify, swap."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autofocus.data.images.fetch import open_bytes
from autofocus.data.rows.issues import Issue, IssueLog
from autofocus.data.rows.labels import label_map
from autofocus.data.sources.read import Data
from autofocus.errors import DataError, InputError, StoppedError
from autofocus.runtime import Track, write_atomically
from autofocus.study.folder.run_folder import Leaderboard, RunFolder
from autofocus.study.resolve import Plan
from autofocus.study.sources import Sources

# torch takes seconds to import: only once the job and the data are known to be good.
if TYPE_CHECKING:
    from autofocus.training.candidate import Candidate, Samples

log = logging.getLogger(__name__)

# Seconds of a budget kept back for packaging before it was measured.
PACKAGING_RESERVE_S = 20.0
# Factor on the last packaging's time: the next one may take longer.
RESERVE_FACTOR = 1.3


@dataclass(frozen=True)
class Outcome:
    """Result of a run's trials.

    Attributes:
        trial: Id of the best trial.
        metrics: Every metric of it on validation.
        model: Folder of its published model.
        seconds_to_first_model: Seconds from the start to the first verified model.
        is_stopped: Whether the user stopped the run.
    """

    trial: str
    metrics: dict[str, Any]
    model: Path
    seconds_to_first_model: float
    is_stopped: bool


class Study:
    """One run's state while it is scheduled."""

    def __init__(
        self, plan: Plan, sources: Sources, folder: RunFolder, started_s: float, track: Track
    ) -> None:
        self.plan = plan
        self.sources = sources
        self.folder = folder
        self.started_s = started_s
        self.track = track
        self.issues = {role: data.issues for role, data in sources.given.items()}
        self.num_lost = dict.fromkeys(self.issues, 0)
        self.trials: list[dict[str, Any]] = []
        self.board = Leaderboard()
        self.labels = self._labels()
        self.packaging_s = PACKAGING_RESERVE_S
        self.metric = str(plan.job.primary_metric)

    def run(self, run_trials: Callable[["Study"], Outcome]) -> dict[str, Any]:
        """Run the trials; return the result document.

        Args:
            run_trials: Function that trains and publishes.

        Raises:
            StoppedError: If the user stopped; the best model so far is published.
        """
        self._write_data_check()
        try:
            outcome = run_trials(self)
        finally:
            self._write_data_check()
        if outcome.is_stopped:
            raise StoppedError(self._how_to_go_on())
        return {
            "best_model": str(self.folder.path / "best_model"),
            "best_trial": outcome.trial,
            "run": str(self.folder.path),
            "task": self.plan.task.name,
            "primary_metric": self.metric,
            "value": outcome.metrics[self.metric],
            "metrics": outcome.metrics,
            "test_metrics": self._test(outcome.model),
            "seconds": self.seconds(),
            "seconds_to_first_model": outcome.seconds_to_first_model,
            "trials": self.trials,
        }

    @property
    def seed(self) -> int:
        """Seed of splits, folds and the order of work."""
        return self.plan.seed

    def samples(self) -> "dict[str, Samples[Any]]":
        """Return the data by role, as trials take it."""
        from autofocus.training.candidate import Samples

        return {
            role: Samples(data.records, data.locations, data.name)
            for role, data in self.sources.given.items()
        }

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

    def publish(self, trial: str, candidate: "Candidate") -> Path:
        """Package, verify and only then point `best_model` at the result."""
        from autofocus.package.mlflow_model import write_package
        from autofocus.package.verify import verify_package

        started_s = time.monotonic()
        target = self.folder.next_model_dir()
        unfinished = target.with_name(f".{target.name}")
        manifest = write_package(unfinished, candidate.network, candidate.manifest)
        images = _readable(candidate.check_images)
        try:
            difference = verify_package(unfinished, candidate.network, manifest, images)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
        unfinished.rename(target)
        self.folder.publish(target, trial)
        self.packaging_s = time.monotonic() - started_s
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

    def _test(self, model: Path) -> dict[str, Any] | None:
        """Score the test data with the package; it takes no part in anything else."""
        if self.sources.test is None:
            return None
        from autofocus.scoring.evaluate import evaluate_model

        metrics: dict[str, Any] = evaluate_model(model, self.sources.test, self.track)["metrics"]
        return metrics

    def test_reserve_s(self, image_s: float) -> float:
        """Return the seconds that scoring the test data takes, at `image_s` an image."""
        return 0.0 if self.sources.test is None else image_s * len(self.sources.test.records) + 1.0

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

    def _write_data_check(self) -> None:
        document = {
            role: _check_document(data, self.issues[role], self.num_lost[role])
            for role, data in self.sources.given.items()
        }
        self.folder.write_json("data_check.json", document)

    def _how_to_go_on(self) -> str:
        return (
            f"stopped; {self.folder.path / 'best_model'} is verified and can be served. "
            "The same command goes on where this one stopped."
        )

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
            step: `look`, `trials`, `soup`, `folds` or `refit`.
            text: Current activity.
            num_trials: Expected number of trials, or None.
            deadline_s: Time (`time.monotonic()`) by which this step ends, or None.
            eta: Expected time of the end, as Unix time, or None.
        """
        now = time.time()
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
