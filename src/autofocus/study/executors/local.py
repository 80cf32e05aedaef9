"""Executors of this machine: inline, one trial after the other, or in warm worker processes."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch

from autofocus.errors import TrainingError
from autofocus.runtime import Track, num_cores, process_count
from autofocus.study.executors import Executor, TrialScheduler
from autofocus.study.executors.messages import (
    Answer,
    Channel,
    Decision,
    EpochReport,
    Fatal,
    LogLine,
    Stop,
    WorkerSetup,
)
from autofocus.study.search.pruners import PruneDecision
from autofocus.study.study import Study
from autofocus.study.trials.base import Assignment, TrialEnd
from autofocus.study.trials.runner import run_trial
from autofocus.training.candidate import Samples
from autofocus.training.device import choose_device
from autofocus.training.trial import RunContext

log = logging.getLogger(__name__)

# Arguments of a worker process.
WORKER = ("-m", "autofocus.study.executors.worker")
# Seconds between checks whether the user has asked to stop.
POLL_S = 0.2
# Deaths in a row of workers that had sent no message, after which none can be expected to start.
MAX_DEAD_STARTS = 3


class LocalExecutor:
    """Runs trials in processes that import torch once and then take one trial after the other.

    Args:
        samples: The run's images.
        run: Run folder.
        num_workers: Processes.
        devices: Values of CUDA_VISIBLE_DEVICES, dealt out in turn; empty leaves it unchanged.
    """

    def __init__(
        self, samples: Samples, run: Path, num_workers: int, devices: Sequence[str] = ()
    ) -> None:
        level = logging.getLogger("autofocus").level
        self._setup = WorkerSetup(samples, run, num_workers, level)
        self._devices = devices
        self._workers: list[_WorkerHandle] = []
        self._inbox: SimpleQueue[tuple[_WorkerHandle, Any]] = SimpleQueue()
        self._num_dead_starts = 0
        self._told_to_stop = False

    def run(self, scheduler: TrialScheduler) -> None:
        """See `Executor.run`."""
        try:
            self._assign(scheduler)
            while any(worker.number is not None for worker in self._workers):
                self._handle_next(scheduler)
        finally:
            for worker in self._workers:
                worker.close()

    def _handle_next(self, scheduler: TrialScheduler) -> None:
        """Handle the next message, and assign trials where workers are idle."""
        try:
            worker, message = self._inbox.get(timeout=POLL_S)
        except Empty:
            self._stop_where_asked(scheduler)
            return
        if message is None:
            self._replace_dead(worker, scheduler)
        else:
            self._num_dead_starts = 0
            worker.handle(message, scheduler)
        self._stop_where_asked(scheduler)
        if not isinstance(message, EpochReport | TrialEnd | None):
            return
        for waiting in self._workers:
            waiting.answer_waiting(scheduler)
        if not isinstance(message, EpochReport):
            self._assign(scheduler)
            scheduler.publish_best()

    def _assign(self, scheduler: TrialScheduler) -> None:
        """Give every idle worker a trial; start workers while there are fewer than there may be."""
        idle = [worker for worker in self._workers if worker.number is None]
        while idle or len(self._workers) < self._setup.num_workers:
            assignment = scheduler.next_trial()
            if assignment is None:
                return
            if not idle:
                idle.append(self._start())
            idle.pop(0).begin(assignment)

    def _start(self) -> "_WorkerHandle":
        index = len(self._workers)
        device = self._devices[index % len(self._devices)] if self._devices else None
        worker = _WorkerHandle(self._setup, device, self._inbox)
        self._workers.append(worker)
        return worker

    def _replace_dead(self, worker: "_WorkerHandle", scheduler: TrialScheduler) -> None:
        """Requeue the trial of a worker that died."""
        self._workers.remove(worker)
        reason = worker.close()
        self._num_dead_starts += not worker.has_spoken
        if self._num_dead_starts >= MAX_DEAD_STARTS:
            raise TrainingError(f"worker processes do not start ({reason}).")
        if worker.number is not None and not scheduler.is_stopped():
            log.warning("the process of trial %d died (%s)", worker.number, reason)
            scheduler.requeue(worker.number, reason)

    def _stop_where_asked(self, scheduler: TrialScheduler) -> None:
        if self._told_to_stop or not scheduler.is_stopped():
            return
        self._told_to_stop = True
        for worker in self._workers:
            if worker.is_waiting:
                # Without an answer it saves nothing of this epoch; resumed, it asks again.
                worker.process.kill()
            else:
                worker.send(Stop())


class _WorkerHandle:
    """Handle of a worker process in the driver.

    Attributes:
        number: Number of its trial; None while it is idle.
        is_waiting: Whether it waits for a pruning decision.
        has_spoken: Whether it has ever sent a message.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        device: str | None,
        inbox: "SimpleQueue[tuple[_WorkerHandle, Any]]",
    ) -> None:
        self.number: int | None = None
        self.is_waiting = False
        self.has_spoken = False
        threads = str(max(1, num_cores() // setup.num_workers))
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self.process = subprocess.Popen(
            [sys.executable, *WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._channel = Channel(self.process.stdout, self.process.stdin)
        self.send(setup)
        self._listener = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()

    def begin(self, assignment: Assignment) -> None:
        """Assign a trial."""
        self.number = assignment.number
        self.send(assignment)

    def handle(self, message: object, scheduler: TrialScheduler) -> None:
        """Handle a message from the worker."""
        self.has_spoken = True
        assert self.number is not None, "an idle worker says nothing"
        if isinstance(message, EpochReport):
            self._answer(scheduler.report(self.number, message.report))
        elif isinstance(message, Decision):
            scheduler.decide(message.what, **message.inputs)
        elif isinstance(message, LogLine):
            log.log(message.level, "%s", message.text)
        elif isinstance(message, Fatal):
            raise message.error
        else:
            assert isinstance(message, TrialEnd), message
            number, self.number = self.number, None
            scheduler.end(number, message)

    def answer_waiting(self, scheduler: TrialScheduler) -> None:
        """Send the pruning decision if the worker waits for it and it is known by now."""
        if self.is_waiting and self.number is not None:
            self._answer(scheduler.prune_decision(self.number))

    def send(self, message: object) -> None:
        """Send a message; the listener notices when the process has died."""
        try:
            self._channel.send(message)
        except OSError:
            log.debug("a worker died before it could be told %s", type(message).__name__)

    def close(self) -> str:
        """End the process; return how it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
        except OSError:
            log.debug("a worker died before its pipe was closed")
        status = self.process.wait()
        self._listener.join()
        self.process.stdout.close()
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def _answer(self, decision: PruneDecision) -> None:
        self.is_waiting = decision == "wait"
        if not self.is_waiting:
            self.send(Answer(decision == "stop"))

    def _listen(self, inbox: "SimpleQueue[tuple[_WorkerHandle, Any]]") -> None:
        while True:
            try:
                message = self._channel.receive()
            except EOFError:
                inbox.put((self, None))
                return
            inbox.put((self, message))


class InlineExecutor:
    """Runs trials in the driver itself: no second copy of anything in memory."""

    def __init__(self, samples: Samples, run: Path, track: Track) -> None:
        self._samples = samples
        self._run = run
        self._track = track

    def run(self, scheduler: TrialScheduler) -> None:
        """See `Executor.run`."""
        while (assignment := scheduler.next_trial()) is not None:
            number, spec = assignment.number, assignment.spec
            context = RunContext(
                self._run / "trials" / spec.id,
                assignment.deadline_s,
                should_stop=scheduler.is_stopped,
                # All trials of lower number have ended: the answer is never `wait`.
                on_epoch=lambda report, n=number: scheduler.report(n, report) == "stop",  # type: ignore[misc]
                decide=scheduler.decide,
                track=self._track,
            )
            scheduler.end(number, run_trial(spec, self._samples, context))
            scheduler.publish_best()


def executor_of(study: Study, num_trials: int) -> Executor:
    """Return the executor of a study with so many trials left."""
    asked, run = study.plan.job.limits.max_concurrent_trials, study.folder.path
    samples = study.samples
    device = choose_device(study.plan.job.device)
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    # More trials than cores would only take turns, and more memory.
    num_workers = min(asked, num_trials, max(num_cores(), num_gpus))
    if num_workers < 2 or process_count() > 1:
        return InlineExecutor(samples, run, study.track)
    log.info("%d trials at a time, %d asked for", num_workers, asked)
    return LocalExecutor(samples, run, num_workers, _devices(device, num_gpus))


def _devices(device: torch.device, num_gpus: int) -> list[str]:
    """Return the visible GPU of each worker in turn; empty where there is no choice."""
    if num_gpus < 2 or ":" in str(device):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(num_gpus)]
