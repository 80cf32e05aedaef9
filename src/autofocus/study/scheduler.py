"""The scheduler of a study: chooses the next trial, prunes trials, publishes the best model.

Its state is the run folder: after a kill the next scheduler resumes the trials that were running
and repeats none that had ended.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count, takewhile
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import JobError
from autofocus.manifest import Manifest
from autofocus.settings.job import EarlyTermination
from autofocus.study.best_model import BestModel, Score
from autofocus.study.folder.trial_folder import (
    TRIAL_NAME,
    UNFINISHED,
    Curve,
    drop_checkpoint,
    forget_result,
    last_epoch,
    read_curve,
    read_losses,
    read_result,
    read_row,
    rebuild,
)
from autofocus.study.resolve import Plan, trial_plan
from autofocus.study.search.pruners import PruneDecision, Pruner, is_due
from autofocus.study.search.samplers import Past, Sampler
from autofocus.study.study import RESERVE_FACTOR, Outcome, Study, format_metric
from autofocus.study.thresholds import fit_on_validation
from autofocus.study.trials.base import Assignment, TrialEnd, failure, is_disk_full, without_model
from autofocus.study.trials.reopen import reopen_trials
from autofocus.study.trials.runner import TRIALS
from autofocus.training.candidate import NUM_CHECK_IMAGES, Candidate
from autofocus.training.loop import OUT_OF_TIME
from autofocus.training.trial import TrialSpec

log = logging.getLogger(__name__)

# Id of the first model of sweeps and of AutoMode, whose trials are numbered from 0.
PROBE_ID = "probe"
# Id of a refit before that of its trial.
REFIT_PREFIX = "refit-"
# Minimum seconds that must be left to begin a trial.
MIN_TRIAL_S = 10.0
# Deaths of a trial's process with no evaluation in between, after which the trial fails.
MAX_DEATHS = 3


@dataclass(frozen=True)
class TrainedTrial:
    """A trial of the study with its trained model.

    Attributes:
        trial: Its id.
        plan: Plan of that trial.
        candidate: The model.
        losses: Loss of each validation image, [n].
        seconds: Training time.
    """

    trial: str
    plan: Plan
    candidate: Candidate
    losses: NDArray[np.float64]
    seconds: float

    @property
    def refit_id(self) -> str:
        """Id of the trial of its refit."""
        return f"{REFIT_PREFIX}{self.trial}"


@dataclass(frozen=True)
class Rules:
    """Limits of a study's trials: their number, pruning, time.

    Attributes:
        num_trials: Maximum number of trials.
        policy: Pruning policy; None prunes nothing.
        metric: Key of the loop's reports that the policy compares.
        reserve_s: Function from the rows of the trials so far to the seconds of the budget to keep
            for the work after the trials.
        min_trial_s: Function from the same rows to the seconds that another trial needs.
        first_id: Id of trial 0; those of the others follow.
        is_paired: Whether losses of images choose the best model however many there are.
        margin: Standard errors by which a challenger must be better; None for more after others.
    """

    num_trials: int
    policy: EarlyTermination | None
    metric: str
    reserve_s: Callable[[Mapping[int, Mapping[str, Any]]], float] = lambda rows: 0.0
    min_trial_s: Callable[[Mapping[int, Mapping[str, Any]]], float] = lambda rows: MIN_TRIAL_S
    first_id: int = 0
    is_paired: bool = False
    margin: float | None = None


@dataclass(frozen=True)
class Search:
    """What a study tries.

    Attributes:
        sampler: Parameters of trial n.
        rules: Limits.
        last_phases: What follows the trials, in order, unless the user stops.
    """

    sampler: Sampler
    rules: Rules
    last_phases: "Sequence[Callable[[Study, TrialController], None]]" = ()


class TrialController:
    """The `TrialScheduler` of a study: one trial or many.

    Attributes:
        num_trials: Maximum number of trials.
    """

    def __init__(self, study: Study, search: Search) -> None:
        self._study = study
        self._plan = study.plan
        self._sampler = search.sampler
        self._rules = search.rules
        self.num_trials = search.rules.num_trials
        self._rows: dict[int, dict[str, Any]] = {}
        self._curves: dict[int, Curve] = {}
        self._points: dict[int, list[tuple[int, float]]] = {}
        self._ended: set[int] = set()
        # Under a time budget no trial waits for those of lower number.
        in_order = study.plan.job.budget_s is None
        self._pruner = Pruner(self._rules.policy, self._points, self._ended, in_order=in_order)
        self._unfinished: deque[int] = deque()
        self._best = self._best_of(study.first_score)
        self._deaths: dict[int, tuple[int, int]] = {}
        self._published: str | None = None
        self._is_over = False
        # Seconds of the trials that have ended.
        self._spent_s = 0.0
        # Models that cannot be rebuilt from a trial's folder, by trial.
        self._candidates: dict[str, Candidate] = {}
        # Unfinished trials of a finished run that goes on: until they have ended, what is published
        # stays.
        self._reopened: set[int] = set()
        if study.first_score is not None and study.first_candidate is not None:
            self._candidates[study.first_score.trial] = study.first_candidate
        self._restore()

    @property
    def num_left(self) -> int:
        """Number of trials that have not ended."""
        return self.num_trials - len(self._ended)

    def next_trial(self) -> Assignment | None:
        """See `TrialScheduler.next_trial`."""
        number = self._unfinished[0] if self._unfinished else len(self._rows)
        if self._is_over or self._study.is_stopped() or number >= self.num_trials:
            return None
        deadline_s = self._deadline()
        left_s = inf if deadline_s is None else deadline_s - time.monotonic()
        needed_s = self._rules.min_trial_s(self._rows)
        if left_s < needed_s:
            self._is_over = True
            inputs = {"seconds_left": left_s, "seconds_needed": needed_s}
            self.decide("no_more_trials", reason="budget", next_trial=number, **inputs)
            log.info(
                "no time for another trial: it needs %.0f s, %.0f are left",
                needed_s,
                max(0.0, left_s),
            )
            self._end_as_before()
            return None
        if self._unfinished:
            self._unfinished.popleft()
        spec = self._begin(number)
        model = self._study.model_of(self._plan_of(number))
        problem = self._study.limits.problem_of(spec, model)
        if problem is None:
            return Assignment(number, spec, deadline_s)
        self._rows[number]["over_limit"] = True
        self.end(number, TrialEnd("failed", problem, None, 0, 0.0))
        return self.next_trial()

    def report(self, number: int, report: dict[str, Any]) -> PruneDecision:
        """See `TrialScheduler.report`."""
        if not self._curves[number].add(report, self._rules.metric):
            return "continue"
        self._report_progress(f"trial {self._id(number)}, epoch {report['epoch']}")
        return self.prune_decision(number)

    def prune_decision(self, number: int) -> PruneDecision:
        """See `TrialScheduler.prune_decision`."""
        policy, interval = self._rules.policy, self._curves[number].interval
        if policy is None or not is_due(policy, interval):
            return "continue"
        found = self._pruner.decision(number, interval)
        if found == "stop":
            self.decide(
                "early_termination",
                trial=self._id(number),
                policy=policy.type,
                interval=interval,
                best=max(value for _, value in self._points[number]),
                num_trials=len(self._points),
                num_ended=len(self._ended),
            )
        return found

    def end(self, number: int, end: TrialEnd) -> None:
        """See `TrialScheduler.end`."""
        row = self._rows[number]
        row |= {
            "status": end.status,
            "value": end.value,
            "epochs": end.epochs,
            "seconds": round(row["seconds"] + end.seconds, 3),
            "reason": end.reason,
        }
        self._study.add_row(row)
        if end.status not in UNFINISHED:
            self._spent_s += row["seconds"]
            self._reopened.discard(number)
            self._add_ended(number)
        eta = self._eta() if self.num_left else None
        log.info(
            "trial %s (%d of %d): %s%s · %s · %s %s after %d epochs, %.0f s (%s)%s",
            self._id(number),
            number + 1,
            self.num_trials,
            row["model"],
            format_parameters(row["parameters"]),
            end.status,
            self._study.metric,
            format_metric(end.value),
            end.epochs,
            row["seconds"],
            end.reason,
            "" if eta is None else f" · all by about {datetime.fromtimestamp(eta):%H:%M}",
        )

    def requeue(self, number: int, reason: str) -> None:
        """See `TrialScheduler.requeue`."""
        interval = self._curves[number].interval
        before, num_deaths = self._deaths.get(number, (-1, 0))
        num_deaths = num_deaths + 1 if before == interval else 1
        self._deaths[number] = interval, num_deaths
        self.decide("process_died", trial=self._id(number), reason=reason, num_deaths=num_deaths)
        if num_deaths < MAX_DEATHS:
            self._unfinished = deque(sorted([*self._unfinished, number]))
            return
        forget_result(self._folder(number))
        text = f"its process died {num_deaths} times without getting on ({reason}); out of memory?"
        self.end(number, TrialEnd("failed", text, None, last_epoch(self._folder(number)), 0.0))

    def publish_best(self) -> None:
        """See `TrialScheduler.publish_best`."""
        if self._reopened:
            return
        while (best := self._best.current) is not None and best.trial != self._published:
            try:
                self._publish(best)
            except Exception as error:
                is_start = best == self._study.first_score
                if is_start or is_disk_full(error):
                    raise
                self._disqualify(best.trial, error)

    def decide(self, what: str, **inputs: Any) -> None:
        """See `TrialScheduler.decide`."""
        self._study.folder.decide(what, **inputs)

    def is_stopped(self) -> bool:
        """See `TrialScheduler.is_stopped`."""
        return self._study.is_stopped()

    def spec_of(self, number: int) -> TrialSpec:
        """Return what a trial trains that was begun."""
        return self._spec(self._id(number), self._plan_of(number))

    def _spec(self, trial: str, plan: Plan) -> TrialSpec:
        study = self._study
        return TRIALS[plan.model.kind].spec(study, plan, trial, study.train, study.validation)

    def _plan_of(self, number: int) -> Plan:
        return trial_plan(self._plan, self._rows[number]["parameters"])

    def best_if_trained(self) -> TrainedTrial | None:
        """Return the best model if a trial of the sweep trained it."""
        best = self._best.current
        return None if best is None else self._trained(best)

    def best_trained(self) -> TrainedTrial | None:
        """Return the best model that a trial of the sweep trained, the best of all or not."""
        best = self._best.current
        if best is not None and best != self._study.first_score:
            return self._trained(best)
        scored = [
            (float(score.losses.mean()), score)
            for score in map(self._score, sorted(self._ended))
            if score is not None and score.losses is not None
        ]
        return self._trained(min(scored, key=lambda one: one[0])[1]) if scored else None

    def _trained(self, score: Score) -> TrainedTrial | None:
        row = next((row for row in self._rows.values() if row["id"] == score.trial), None)
        if score.losses is None or row is None:
            return None
        return TrainedTrial(
            trial=score.trial,
            plan=trial_plan(self._plan, row["parameters"]),
            candidate=self._candidate(score.trial),
            losses=score.losses,
            seconds=row["seconds"],
        )

    def replace_best(self, score: Score, candidate: Candidate) -> None:
        """Make a model the best, for reasons found outside the sweep.

        Args:
            score: Its score; the leaderboard has its trial.
            candidate: The model.
        """
        self._candidates[score.trial] = candidate
        self._best = self._best_of(score)
        self.publish_best()

    def outcome(self) -> Outcome:
        """Return the outcome, once all trials have ended or the user has stopped.

        Raises:
            StoppedError: If the user stopped before any trial had a model.
            BudgetError: If the budget ended before any trial had a model.
            TrainingError: If no trial had a model.
        """
        best = self._best.current
        if best is None and self._study.is_stopped():
            best = self._best_unfinished()
            if best is not None:
                self._publish(best)
        if best is None:
            rows = self._rows.values()
            raise without_model(self._study, self._plan, rows, partial(self._spec, PROBE_ID))
        model = self._study.folder.published(best.trial)
        assert model is not None, "the best is published"
        # What it was compared with last may have ended after it was published.
        self._study.mark_served(best.trial)
        self._study.trials.sort(key=_order)
        manifest = self._manifest(best.trial)
        # A refit has learnt from the images that judge: its first training had not.
        judged = partial(self._candidate, best.trial.removeprefix(REFIT_PREFIX))
        thresholds = fit_on_validation(self._study, judged, model)
        first_s = self._study.first_model_s
        return Outcome(best.trial, manifest, model, first_s, best.losses, thresholds)

    def _restore(self) -> None:
        """Restore the state from the run folder, with trials of a longer run before this one."""
        folders = map(self._folder, count())
        goes_on = reopen_trials(self._study.folder, takewhile(Path.exists, folders))
        while (row := read_row(self._folder(number := len(self._rows)))) is not None:
            self._rows[number] = row
            self._set_points(number, read_curve(self._folder(number), self._rules.metric))
            if row["status"] not in UNFINISHED:
                self._restore_ended(number)
                continue
            self._unfinished.append(number)
            if goes_on:
                self._reopened.add(number)
        self.num_trials = max(self.num_trials, len(self._rows))
        if self._rows:
            log.info(
                "%d trials were begun before, %d of them ended", len(self._rows), len(self._ended)
            )

    def _restore_ended(self, number: int) -> None:
        row = self._rows[number]
        self._spent_s += row["seconds"]
        self._study.trials.append(row)
        self._study.board.add(row)
        self._add_ended(number)

    def _end_as_before(self) -> None:
        """Let trials that were to go on, and for which there is no time, end as they had."""
        for number in sorted(self._reopened):
            if read_result(self._folder(number)) is not None:
                self._unfinished.remove(number)
                self._rows[number] |= {"status": "completed", "reason": OUT_OF_TIME}
                self._study.write_row(self._rows[number])
                self._restore_ended(number)
        self._reopened.clear()

    def _add_ended(self, number: int) -> None:
        folder = self._folder(number)
        if self._rows[number]["reason"] != OUT_OF_TIME:
            drop_checkpoint(folder)
        self._ended.add(number)
        self._best.add(number, self._score(number))

    def _score(self, number: int) -> Score | None:
        """Return the score of a trial that ended, or None without a model."""
        folder = self._folder(number)
        if read_result(folder) is None:
            return None
        return Score(self._id(number), self._rows[number]["value"], read_losses(folder))

    def _begin(self, number: int) -> TrialSpec:
        """Record that a trial is running, and return what it trains."""
        folder, row = self._folder(number), self._rows.get(number)
        if row is None:
            parameters = self._sampler.ask(number, self._past())
            row = {
                "id": self._id(number),
                "model": "",
                "status": "running",
                "value": None,
                "epochs": 0,
            }
            row |= {"seconds": 0.0, "reason": "", "parameters": parameters}
            self._rows[number] = row
            self._set_points(number, Curve())
        else:
            forget_result(folder)
        plan = trial_plan(self._plan, row["parameters"])
        row |= {"model": plan.model.name, "status": "running"}
        self._report_progress(f"trial {self._id(number)}")
        self._study.folder.write_json(f"trials/{row['id']}/{TRIAL_NAME}", row)
        log.info(
            "trial %s (%d of %d): %s%s",
            self._id(number),
            number + 1,
            self.num_trials,
            plan.model.name,
            format_parameters(row["parameters"]),
        )
        return self.spec_of(number)

    def _set_points(self, number: int, curve: Curve) -> None:
        self._curves[number], self._points[number] = curve, curve.points

    def _past(self) -> list[Past]:
        if not self._sampler.reads_past:
            return []
        return [
            Past(number, row["parameters"], row["value"], is_running=number not in self._ended)
            for number, row in self._rows.items()
        ]

    def _deadline(self) -> float | None:
        study = self._study
        reserve_s = study.packaging_s * RESERVE_FACTOR + study.test_reserve_s()
        return study.deadline(reserve_s + self._rules.reserve_s(self._rows))

    def _publish(self, best: Score) -> None:
        folder = self._study.folder
        model = folder.published(best.trial)
        if model is None:
            self._report_progress(f"packaging and verifying the model of trial {best.trial}")
            self._study.publish(best.trial, self._candidate(best.trial))
        elif not folder.is_best_model(model):
            folder.publish(model, best.trial)
        self._study.mark_served(best.trial)
        self._study.first_model_s = self._study.first_model_s or self._study.seconds()
        self._published = best.trial
        log.info(
            "served now: trial %s, %s %s",
            best.trial,
            self._study.metric,
            format_metric(best.value),
        )

    def _candidate(self, trial: str) -> Candidate:
        if trial in self._candidates:
            return self._candidates[trial]
        folder = self._folder(self._number(trial))
        manifest = read_result(folder)
        assert manifest is not None, "only a trial with a model is published"
        checked = self._study.validation[:NUM_CHECK_IMAGES]
        images = [self._study.samples.locations[position] for position in checked]
        return rebuild(folder, manifest, images)

    def _manifest(self, trial: str) -> Manifest:
        if trial in self._candidates:
            return self._candidates[trial].manifest
        manifest = read_result(self._folder(self._number(trial)))
        assert manifest is not None, "only a trial with a model is published"
        return manifest

    def _disqualify(self, trial: str, error: Exception) -> None:
        """Fail a trial whose model cannot be packaged, and choose among the others."""
        # Limits of the job say it themselves.
        why = str(error) if isinstance(error, JobError) else failure(error)
        reason = f"its model cannot be served: {why}"
        log.warning("trial %s: %s", trial, reason)
        if trial in self._candidates:
            del self._candidates[trial]
        else:
            forget_result(self._folder(self._number(trial)))
        row = next(row for row in self._study.trials if row["id"] == trial)
        row |= {"status": "failed", "value": None, "reason": reason}
        self._study.write_row(row)
        self._best = self._best_of(self._study.first_score)
        for ended in sorted(self._ended):
            self._add_ended(ended)

    def _best_unfinished(self) -> Score | None:
        """Return the best of the trials that the user stopped: it is all there is."""
        found = [
            Score(self._id(number), row["value"])
            for number, row in self._rows.items()
            if row["status"] == "stopped" and read_result(self._folder(number)) is not None
        ]
        return max(
            found, key=lambda score: -inf if score.value is None else score.value, default=None
        )

    def _best_of(self, baseline: Score | None) -> BestModel:
        rules = self._rules
        return BestModel(self.decide, baseline, is_paired=rules.is_paired, margin=rules.margin)

    def _folder(self, number: int) -> Path:
        return self._study.folder.path / "trials" / self._id(number)

    def _id(self, number: int) -> str:
        return str(self._rules.first_id + number)

    def _number(self, trial: str) -> int:
        return int(trial) - self._rules.first_id

    def _report_progress(self, text: str) -> None:
        """Write the current activity and the expected end into the run folder."""
        self._study.report_progress("trials", text, self.num_trials, self._deadline(), self._eta())

    def _eta(self) -> float | None:
        """Return the expected end of all trials as Unix time; None before the first has ended."""
        if not self._ended:
            return None
        at_once = min(self._plan.job.limits.max_concurrent_trials, max(1, self.num_left))
        left_s = self._spent_s / len(self._ended) * self.num_left / at_once
        deadline_s = self._deadline()
        if deadline_s is not None:
            left_s = min(left_s, max(0.0, deadline_s - time.monotonic()))
        return time.time() + left_s


def format_parameters(parameters: Mapping[str, Any]) -> str:
    """Return a trial's parameters as text that follows the name of its model."""
    searched = {name: value for name, value in parameters.items() if name != "model_name"}
    text = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in searched.items()
    )
    return f" {text}" if text else ", its default recipe"


def _order(row: Mapping[str, Any]) -> float:
    """Return a key to sort rows by: probes, then trials by number, then what was made of them."""
    if row["id"].startswith(PROBE_ID):
        return -1
    return int(row["id"]) if row["id"].isdigit() else inf
