"""A sweep without training: trials whose curves are made up, workers that take random turns."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from autofocus.runtime import no_progress
from autofocus.study.executors import TrialScheduler
from autofocus.study.folder.run_folder import RunFolder
from autofocus.study.resolve import resolve
from autofocus.study.scheduler import Rules, Search, TrialController
from autofocus.study.search.samplers import make_sampler
from autofocus.study.sources import read_sources
from autofocus.study.study import Study
from autofocus.study.trials.base import Assignment, TrialEnd
from autofocus.training.candidate import Samples
from autofocus.training.loop import ENDED_EARLY

Values = Callable[[int, int], float | None]


class KilledError(Exception):
    """The driver died."""


def sweep_job(data: Path, num_trials: int, **sweep: Any) -> dict[str, Any]:
    return {
        "task": "image_classification",
        "training_data": str(data),
        "weights": "random",
        "limits": {"max_trials": num_trials},
        "sweep": {"sampling_algorithm": "random", **sweep},
        "search_space": [
            {
                "model_name": {"type": "choice", "values": ["test_resnet", "test_efficientnet"]},
                "learning_rate": {"type": "uniform", "min_value": 0.001, "max_value": 0.1},
            }
        ],
    }


@contextmanager
def scheduled(
    job: dict[str, Any], path: Path, is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[TrialController]:
    """Yield a scheduler of the job in a run folder, which may have been begun before."""
    plan = resolve(job)
    sources = read_sources(plan, no_progress)
    resolved = plan.job.model_dump(mode="json", by_alias=True)
    with RunFolder(path, resolved, sources.fingerprint, overwrite=False) as folder:
        study = Study(plan, sources, folder, 0.0, no_progress)
        study.is_stopped = is_stopped
        data = sources.training
        targets = plan.task.encode_targets(data.records, study.labels)
        hashes = [str(i) for i in range(len(data.records))]
        samples = Samples(data.records, data.locations, targets, hashes, hashes, data.name)
        everything = np.arange(len(samples))
        sampler = make_sampler(plan.sampling, plan.space, plan.job.seed)
        num_trials = plan.job.limits.max_trials
        rules = Rules(
            num_trials if sampler.num_trials is None else min(num_trials, sampler.num_trials),
            plan.early_termination,
            study.metric,
        )
        study.samples, study.train, study.validation = samples, everything, everything
        study.image_s = 0.0
        yield TrialController(study, Search(sampler, rules))


class SimulatedTrial:
    """A trial of `num_epochs` evaluations that goes on where the folder's checkpoint is."""

    def __init__(
        self, assignment: Assignment, run: Path, values: Values, num_epochs: int, fails_at: int
    ) -> None:
        self.number = assignment.number
        self.is_waiting = False
        self._folder = run / "trials" / assignment.spec.id
        self._values = values
        self._num_epochs = num_epochs
        self._fails_at = fails_at
        last = self._folder / "last.json"
        self._epoch, self._ended = json.loads(last.read_text()) if last.exists() else (0, False)

    def turn(self, scheduler: TrialScheduler) -> bool:
        """Do one thing that a kill may come after; return whether the trial is over."""
        if self.is_waiting:
            self._answered(scheduler.prune_decision(self.number))
        elif self._ended or self._epoch == self._num_epochs:
            reason = ENDED_EARLY if self._ended else "all epochs done"
            self._end(scheduler, "terminated" if self._ended else "completed", reason)
            return True
        elif self._epoch + 1 == self._fails_at:
            scheduler.end(self.number, TrialEnd("failed", "NaN", None, self._epoch, 0.1))
            return True
        else:
            reports = [self._report(epoch) for epoch in range(self._epoch + 2)]
            lines = "".join(json.dumps(report) + "\n" for report in reports)
            (self._folder / "metrics.jsonl").write_text(lines)
            self._answered(scheduler.report(self.number, reports[-1]))
        return False

    def _answered(self, verdict: str) -> None:
        self.is_waiting = verdict == "wait"
        if not self.is_waiting:
            self._epoch += 1
            self._ended = verdict == "stop"
            (self._folder / "last.json").write_text(json.dumps([self._epoch, self._ended]))

    def _end(self, scheduler: TrialScheduler, status: str, reason: str) -> None:
        values = [self._values(self.number, epoch) for epoch in range(1, self._epoch + 1)]
        best = max((value for value in values if value is not None), default=None)
        scheduler.end(self.number, TrialEnd(status, reason, best, self._epoch, 0.1))

    def _report(self, epoch: int) -> dict[str, Any]:
        loss, value = (None, 0.9) if epoch == 0 else (0.5, self._values(self.number, epoch))
        return {"epoch": epoch, "step": 10 * epoch, "loss": loss, "accuracy": value}


class SimulatedExecutor:
    """Workers that take turns at random; the driver or one of them may die at each.

    Args:
        run: The run folder.
        values: Of the primary metric: (trial, epoch) to value.
        chance: Decides turns and deaths.
        num_workers: Side by side.
        num_epochs: Of every trial.
        kill_share: How likely a turn is the driver's last.
        lose_share: How likely it is the worker's.
        fails_at: (trial) to the epoch in which it fails; 0 never.
    """

    def __init__(
        self,
        run: Path,
        values: Values,
        chance: random.Random,
        num_workers: int = 1,
        num_epochs: int = 4,
        kill_share: float = 0.0,
        lose_share: float = 0.0,
        fails_at: Callable[[int], int] = lambda number: 0,
    ) -> None:
        self._run = run
        self._values = values
        self._chance = chance
        self._num_workers = num_workers
        self._num_epochs = num_epochs
        self._kill_share = kill_share
        self._lose_share = lose_share
        self._fails_at = fails_at
        self.num_lost = 0

    def run(self, scheduler: TrialScheduler) -> None:
        """See `Executor.run`."""
        running: list[SimulatedTrial] = []
        while True:
            while len(running) < self._num_workers:
                assignment = scheduler.next_trial()
                if assignment is None:
                    break
                fails_at = self._fails_at(assignment.number)
                running.append(
                    SimulatedTrial(assignment, self._run, self._values, self._num_epochs, fails_at)
                )
            if not running:
                return
            trial = self._chance.choice(running)
            is_over = trial.turn(scheduler)
            if self._chance.random() < self._kill_share:
                raise KilledError
            if is_over:
                running.remove(trial)
                scheduler.publish_best()
            elif self._chance.random() < self._lose_share:
                running.remove(trial)
                self.num_lost += 1
                scheduler.requeue(trial.number, "signal 9")
