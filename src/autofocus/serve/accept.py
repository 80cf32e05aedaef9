"""Accepting connections so that workers share them evenly.

A connection that is kept alive stays with the worker that accepted it. So a worker that has more
connections than another leaves a new one to that, for a moment.
"""

import asyncio
import logging
import math
import multiprocessing
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

logger = logging.getLogger(__name__)

# Connections that may wait to be accepted.
LISTEN_BACKLOG: Final = 2048
# A worker that is ahead looks so often whether another has taken a connection, and so long.
_YIELD_S: Final = 0.005
_PATIENCE_S: Final = 0.1
# Workers that have not been seen for so long are not waited for: they may be stopped.
_ABSENT_S: Final = 0.5
# One in so many more is no lead.
_CLEARLY: Final = 8
_WARN_EVERY_S: Final = 10.0
# A worker that has scored within this time may be about to again, for the same client.
_RECENTLY_S: Final = 0.05
# Connections of a worker that does not accept any.
_GONE: Final = 2**31 - 1


class Counts:
    """Connections and scoring threads of each worker, in memory that all of a server share.

    Args:
        num_workers: Number of workers.
    """

    def __init__(self, num_workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._numbers = context.RawArray("i", [_GONE] * num_workers)
        self._seen_s = context.RawArray("d", num_workers)
        self._scoring = context.RawArray("i", num_workers)
        self._scored_s = context.RawArray("d", num_workers)

    @property
    def num_workers(self) -> int:
        """Workers, those that do not run included."""
        return len(self._scoring)

    def score(self, worker: int, number: int) -> None:
        """Note that a worker has so many more threads that score, or fewer."""
        self._scoring[worker] += number
        self._scored_s[worker] = time.monotonic()

    def num_scoring(self, worker: int) -> int:
        """Return the threads that score; one of each worker but this that did just before."""
        since = time.monotonic() - _RECENTLY_S
        threads = enumerate(zip(self._scoring, self._scored_s, strict=True))
        return sum(max(number, other != worker and at > since) for other, (number, at) in threads)

    def join(self, worker: int) -> None:
        """Note that a worker begins to accept connections."""
        self._numbers[worker] = 0
        self.see(worker)

    def see(self, worker: int) -> None:
        """Note that a worker's event loop runs."""
        self._seen_s[worker] = time.monotonic()

    def add(self, worker: int, number: int) -> None:
        """Note that a worker has got connections, or lost some."""
        self._numbers[worker] += number

    def leave(self, worker: int) -> None:
        """Note that a worker has ended."""
        self._numbers[worker] = _GONE
        self._scoring[worker] = 0
        self._scored_s[worker] = 0.0

    def is_ahead(self, worker: int) -> bool:
        """Return whether another worker that runs has fewer, of many clearly fewer.

        Taking turns over each of thousands would only slow them down.
        """
        mine = self._numbers[worker]
        since = time.monotonic() - _ABSENT_S
        return any(
            number + number // _CLEARLY < mine and seen > since
            for number, seen in zip(self._numbers, self._seen_s, strict=True)
        )


class Acceptor:
    """Accepts the connections of one listening socket in the running event loop.

    Args:
        sock: Bound socket.
        connect: Makes a connection of an accepted socket.
        counts: Connections of all workers; those that it accepts are added.
        worker: The worker that accepts.
        free_files: Called when the process may open no more files.
    """

    def __init__(
        self,
        sock: socket.socket,
        connect: Callable[[socket.socket], Coroutine[Any, Any, Any]],
        counts: Counts,
        worker: int,
        free_files: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._connect = connect
        self._counts = counts
        self._worker = worker
        self._free_files = free_files
        self._opening: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._patience_ends_s = 0.0
        self._warned_s = -math.inf
        sock.setblocking(False)
        sock.listen(LISTEN_BACKLOG)
        self._loop.add_reader(sock, self._offered)

    def close(self) -> None:
        """Accept those that have connected already, and close the socket."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock)
        while self._accept():
            pass
        self._sock.close()

    def _offered(self) -> None:
        now = self._loop.time()
        if now > self._patience_ends_s + _PATIENCE_S:
            self._patience_ends_s = now + _PATIENCE_S
        if now < self._patience_ends_s and self._counts.is_ahead(self._worker):
            self._pause(_YIELD_S)
        else:
            self._accept()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._loop.add_reader(self._sock, self._offered)

    def _accept(self) -> bool:
        """Accept a connection and return whether there was one; one a turn, as others do."""
        try:
            accepted, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            # Such as too many open files; it may happen to thousands.
            now = self._loop.time()
            if now > self._warned_s + _WARN_EVERY_S:
                self._warned_s = now
                logger.warning("warning: connections cannot be accepted: %s", error.strerror)
            self._free_files()
            self._pause(_YIELD_S)
            return False
        # At once: the next may be offered before this one is made.
        self._counts.add(self._worker, 1)
        accepted.setblocking(False)
        task = self._loop.create_task(self._connect(accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True
