"""Messages between a driver and its worker processes, over two pipes.

An `Assignment` goes to a worker and a `TrialEnd` comes back; everything else is here.
"""

import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from autofocus.training.candidate import Samples


@dataclass(frozen=True)
class WorkerSetup:
    """First message to a worker.

    Attributes:
        samples: The run's images.
        run: Run folder.
        num_workers: Processes that share the machine.
        log_level: Level of the `autofocus` logger.
    """

    samples: Samples
    run: Path
    num_workers: int
    log_level: int


@dataclass(frozen=True)
class Answer:
    """Answer to a report.

    Attributes:
        should_end: Whether the trial ends.
    """

    should_end: bool


@dataclass(frozen=True)
class Stop:
    """The user has asked to stop: save what is running, and end it."""


@dataclass(frozen=True)
class EpochReport:
    """An evaluation; the worker waits for the answer."""

    report: dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """A decision of a trial and its inputs."""

    what: str
    inputs: dict[str, Any]


@dataclass(frozen=True)
class LogLine:
    """A line for the log."""

    level: int
    text: str


@dataclass(frozen=True)
class Fatal:
    """An error that ends the whole sweep."""

    error: OSError


class Channel:
    """Messages over two binary streams; several threads may send.

    Args:
        source: Stream to read.
        sink: Stream to write.
    """

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            OSError: If the other end is closed.
        """
        content = pickle.dumps(message)
        with self._lock:
            self._sink.write(content)
            self._sink.flush()

    def receive(self) -> Any:
        """Return the next message.

        Raises:
            EOFError: If the other end is closed.
        """
        try:
            # Unpickling is safe: the other end of our own pipe wrote this.
            return pickle.load(self._source)
        except (pickle.UnpicklingError, OSError, ValueError) as error:
            raise EOFError from error
