"""One trial after the other, in this process."""

from autofocus.runtime import Track
from autofocus.study.executors import TrialScheduler
from autofocus.study.trials.runner import run_trial
from autofocus.study.trials.trial import Common, Hooks


class InlineExecutor:
    """Runs trials in the driver itself: no second copy of anything in memory.

    Args:
        common: Of all trials.
        track: Shows progress.
    """

    def __init__(self, common: Common, track: Track) -> None:
        self._common = common
        self._track = track

    def run(self, conductor: TrialScheduler) -> None:
        """See `Executor.run`."""
        while (assignment := conductor.next_trial()) is not None:
            number = assignment.number
            hooks = Hooks(
                decide=conductor.decide,
                # All trials of lower number have ended: nothing is ever waited for.
                on_epoch=lambda report, n=number: conductor.report(n, report) == "stop",  # type: ignore[misc]
                should_stop=conductor.is_stopped,
                track=self._track,
            )
            conductor.end(number, run_trial(self._common, assignment, hooks))
            conductor.improve()
