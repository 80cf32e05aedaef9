"""Executors run the trials that a scheduler hands out; the protocols of both."""

from typing import Any, Protocol

from autofocus.study.search.pruners import PruneDecision
from autofocus.study.trials.base import Assignment, TrialEnd


class TrialScheduler(Protocol):
    """Decides for an executor, in the driver's process."""

    def next_trial(self) -> Assignment | None:
        """Return a trial to run now, or None when none is left."""

    def report(self, number: int, report: dict[str, Any]) -> PruneDecision:
        """Take an evaluation; after `wait` the executor asks `prune_decision` again."""

    def prune_decision(self, number: int) -> PruneDecision:
        """Return whether a trial goes on after its last evaluation."""

    def end(self, number: int, end: TrialEnd) -> None:
        """Add the end of a trial."""

    def requeue(self, number: int, reason: str) -> None:
        """Requeue a trial whose worker died."""

    def publish_best(self) -> None:
        """Publish a better model; takes seconds, so idle workers get their trials first."""

    def decide(self, what: str, **inputs: Any) -> None:
        """Record a decision of a trial and its inputs."""

    def is_stopped(self) -> bool:
        """Return whether the user has asked to stop."""


class Executor(Protocol):
    """Runs the trials that a scheduler hands out."""

    def run(self, scheduler: TrialScheduler) -> None:
        """Run trials until the scheduler has none left and none is running."""
