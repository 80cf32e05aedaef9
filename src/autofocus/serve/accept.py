"""Accepting connections so that workers share them evenly.

A connection that is kept alive stays with the worker that accepted it. So a worker that has more
connections than another leaves a new one to that, for a moment.
"""

import asyncio
import logging
import multiprocessing
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

logger = logging.getLogger(__name__)

# Connections that may wait to be accepted.
LISTEN_BACKLOG: Final = 2048
# A worker that is ahead leaves a connection to the others for so long: one of them may be stopped.
_YIELD_S: Final = 0.005
# Until files may have been closed.
_NO_FILES_PAUSE_S: Final = 0.1
# Connections of a worker that does not accept any.
_GONE: Final = 2**31 - 1


class Counts:
    """Number of connections of each worker, in memory that all processes of a server share.

    Args:
        num_workers: Number of workers.
    """

    def __init__(self, num_workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._numbers = context.RawArray("i", [_GONE] * num_workers)

    def join(self, worker: int) -> None:
        """Note that a worker begins to accept connections."""
        self._numbers[worker] = 0

    def add(self, worker: int, number: int) -> None:
        """Note that a worker has got connections, or lost some."""
        self._numbers[worker] += number

    def leave(self, worker: int) -> None:
        """Note that a worker accepts no connections."""
        self._numbers[worker] = _GONE

    def is_ahead(self, worker: int) -> bool:
        """Return whether another worker has fewer."""
        return bool(self._numbers[worker] > min(self._numbers))


class Acceptor:
    """Accepts the connections of one listening socket in the running event loop.

    Args:
        sock: Bound socket.
        connect: Makes a connection of an accepted socket.
        counts: Connections of all workers; those that it accepts are added.
        worker: The worker that accepts.
        free_file: Called when the process may open no more files.
    """

    def __init__(
        self,
        sock: socket.socket,
        connect: Callable[[socket.socket], Coroutine[Any, Any, Any]],
        counts: Counts,
        worker: int,
        free_file: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._connect = connect
        self._counts = counts
        self._worker = worker
        self._free_file = free_file
        self._opening: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
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
        if self._counts.is_ahead(self._worker):
            self._pause(_YIELD_S)
        else:
            self._accept()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._loop.add_reader(self._sock, self._offered)
        # Whoever else could have taken it has not.
        self._accept()

    def _accept(self) -> bool:
        """Accept a connection and return whether there was one; one a turn, as others do."""
        try:
            accepted, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            logger.warning("warning: a connection cannot be accepted: %s", error.strerror)
            self._free_file()
            self._pause(_NO_FILES_PAUSE_S)
            return False
        # At once: the next may be offered before this one is made.
        self._counts.add(self._worker, 1)
        accepted.setblocking(False)
        task = self._loop.create_task(self._connect(accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True
