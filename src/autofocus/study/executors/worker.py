"""A warm worker process, which runs the trials that the driver assigns.

A file of its own: it is started with `python -m`.

`python -m autofocus.study.executors.worker` is started by `executors.local`, which speaks to it
over its standard input and output. It ends when the driver does, however that ended.
"""

import logging
import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import Any

from autofocus.runtime import share_machine
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
from autofocus.study.trials.base import Assignment
from autofocus.study.trials.runner import run_trial
from autofocus.training.trial import RunContext


def main() -> None:
    """Serve the driver until it is gone."""
    # Ctrl-C reaches every process of the terminal; only the driver handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    # Prints go to stderr: standard output carries messages.
    os.dup2(2, 1)
    setup: WorkerSetup = channel.receive()
    share_machine(setup.num_workers)
    worker = _Worker(channel, setup)
    logger = logging.getLogger("autofocus")
    logger.setLevel(setup.log_level)
    logger.addHandler(_ToDriver(worker))
    logger.propagate = False
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.work()


class _Worker:
    def __init__(self, channel: Channel, setup: WorkerSetup) -> None:
        self.trial = ""
        self.channel = channel
        self._setup = setup
        self._assignments: SimpleQueue[Assignment] = SimpleQueue()
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._stop = threading.Event()

    def listen(self) -> None:
        """Take messages while trials run; end the process when the driver is gone."""
        while True:
            try:
                message = self.channel.receive()
            except EOFError:
                # Every file appears whole or not at all, so there is nothing to clean up.
                os._exit(0)
            if isinstance(message, Assignment):
                self._assignments.put(message)
            elif isinstance(message, Answer):
                self._answers.put(message)
            else:
                assert isinstance(message, Stop), message
                self._stop.set()

    def work(self) -> None:
        """Run the assigned trials."""
        while True:
            assignment = self._assignments.get()
            self.trial = assignment.spec.id
            context = RunContext(
                self._setup.run / "trials" / self.trial,
                assignment.deadline_s,
                self._stop.is_set,
                self._on_epoch,
                self._decide,
            )
            try:
                end: object = run_trial(assignment.spec, self._setup.samples, context)
            except OSError as error:
                end = Fatal(error)
            self.channel.send(end)

    def _decide(self, what: str, **inputs: Any) -> None:
        self.channel.send(Decision(what, inputs))

    def _on_epoch(self, report: dict[str, Any]) -> bool:
        self.channel.send(EpochReport(report))
        return self._answers.get().should_end


class _ToDriver(logging.Handler):
    """Sends log lines to the driver, which keeps one log of all trials."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Send the line; exit if the driver is gone."""
        text = f"trial {self._worker.trial}: {record.getMessage()}"
        try:
            self._worker.channel.send(LogLine(record.levelno, text))
        except OSError:
            sys.exit(1)


if __name__ == "__main__":
    main()
