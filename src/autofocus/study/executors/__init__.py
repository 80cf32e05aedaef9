"""Where the trials of a sweep run."""

from typing import Any, Protocol

from autofocus.study.search.pruners import PruneDecision
from autofocus.study.trials.trial import Assignment, TrialEnd


class TrialScheduler(Protocol):
    """What an executor asks, and tells. Everything is decided here, in the driver."""

    def next_trial(self) -> Assignment | None:
        """Return a trial to run now, or None when none is left."""

    def report(self, number: int, report: dict[str, Any]) -> PruneDecision:
        """Take an evaluation; `wait` is to be asked again through `verdict`."""

    def prune_decision(self, number: int) -> PruneDecision:
        """Return whether a trial goes on after its last evaluation."""

    def end(self, number: int, end: TrialEnd) -> None:
        """Take a trial that ended."""

    def requeue(self, number: int, reason: str) -> None:
        """Take back a trial whose process died."""

    def publish_best(self) -> None:
        """Publish what is better now; takes seconds, so idle workers get their trials first."""

    def decide(self, what: str, **inputs: Any) -> None:
        """Take a choice of a trial and its inputs."""

    def is_stopped(self) -> bool:
        """Return whether the user has asked to stop."""


class Executor(Protocol):
    """Runs the trials that a scheduler hands out."""

    def run(self, scheduler: TrialScheduler) -> None:
        """Return when the scheduler has no trial left and none is running."""
