"""One worker process: the endpoint under uvicorn, its readiness, and how it stops.

A stop signal first turns `/ready` to 503 and refuses new scoring requests; requests that run are
answered; then the listening socket closes.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn

from autofocus.serve.accept import LISTEN_BACKLOG, Acceptor, Counts
from autofocus.serve.app import Endpoint
from autofocus.serve.connection import Connection, Connections
from autofocus.serve.crew import Crew
from autofocus.serve.explainer import ask
from autofocus.serve.keys import KeyFile
from autofocus.serve.settings import ServerPlan

logger = logging.getLogger(__name__)

# Exit status of a worker whose scoring thread does not come back.
BLOCKED: Final = 76
_POLL_S: Final = 0.02
_LAST_WORDS_S: Final = 0.2
_BEAT_S: Final = 1.0
# Files that are no connections.
_OTHER_FILES: Final = 64


@dataclass(frozen=True)
class Ties:
    """What ties a worker to its server.

    Attributes:
        index: The worker's number, from 0.
        counts: Connections and scoring threads of all workers.
        on_ready: Called once the model answers.
        on_beat: Called every second while the event loop runs.
        watch: Receives a function that stops this worker, from any thread.
    """

    index: int
    counts: Counts
    on_ready: Callable[[], None]
    on_beat: Callable[[], None]
    watch: Callable[[Callable[[], None]], None]


def run_worker(plan: ServerPlan, sock: socket.socket, ties: Ties) -> bool:
    """Serve on a bound socket until told to stop; return whether every request was answered.

    Raises:
        ModelFolderError: If the model cannot be loaded.
    """
    settings = plan.settings
    keys = KeyFile(settings.api_key_file, plan.keys).keys if settings.api_key_file else None
    endpoint = Endpoint(
        settings,
        keys or (lambda: plan.keys),
        lambda: plan.load(plan.folder, settings.max_pixels),
        plan.no_explanations if plan.explainer is None else partial(ask, plan.explainer),
        Crew(ties.counts, ties.index),
    )
    server = _Server(endpoint, ties)
    ties.watch(server.stop)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.run_until_stopped(sock))
    return endpoint.close() and server.has_sent_all


def _max_connections(wanted: int) -> int:
    """Return how many connections this process may hold, fewer than it may open files."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + _OTHER_FILES:
        soft = wanted + _OTHER_FILES
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        # A lower limit is kept where the system allows no other.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, soft - _OTHER_FILES))


class _Server(uvicorn.Server):
    """uvicorn with a drain before its shutdown, and stop signals that end in a normal return."""

    def __init__(self, endpoint: Endpoint, ties: Ties) -> None:
        lose_one = partial(ties.counts.add, ties.index, -1)
        settings = endpoint.settings
        max_connections = _max_connections(settings.max_connections)
        self._connections = Connections(settings, max_connections, lose_one)
        super().__init__(
            uvicorn.Config(
                endpoint,
                lifespan="off",
                ws="none",
                # uvicorn calls whatever it is given, with its own arguments.
                http=partial(Connection, connections_of_worker=self._connections),  # type: ignore[arg-type]
                interface="asgi3",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                workers=endpoint.settings.workers,
                timeout_graceful_shutdown=1,
                backlog=LISTEN_BACKLOG,
            )
        )
        self._endpoint = endpoint
        self._ties = ties
        self._acceptors: list[Acceptor] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_event = asyncio.Event()
        self._stop_asked = False
        self.has_sent_all = True

    async def run_until_stopped(self, sock: socket.socket) -> None:
        """Serve, load the model, serve on; return after a stop.

        Raises:
            ModelFolderError: If the model cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        if self._stop_asked:
            self._stop_event.set()
        serving = asyncio.create_task(self.serve([sock]))
        others = [asyncio.create_task(self._drain_when_asked()), asyncio.create_task(self._beat())]
        try:
            await self._endpoint.start()
            self._ties.on_ready()
        except BaseException:
            self.should_exit = True
            raise
        finally:
            await serving
            for task in others:
                task.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        if sys.platform == "win32":
            # Its event loop tells nobody that a socket has a connection to accept.
            await super().startup(sockets)
            return
        await super().startup([])
        counts, index = self._ties.counts, self._ties.index
        counts.join(index)
        free_files = self._connections.shrink
        self._acceptors = [
            Acceptor(sock, self._connect, counts, index, free_files) for sock in sockets or []
        ]

    async def on_tick(self, counter: int) -> bool:
        """Let the others see, ten times a second, that this worker takes connections."""
        self._ties.counts.see(self._ties.index)
        return await super().on_tick(counter)

    async def _connect(self, accepted: socket.socket) -> None:
        make: Any = self.config.http_protocol_class
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: make(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            ),
            accepted,
        )

    def stop(self) -> None:
        """Begin to stop; safe from any thread and from signal handlers."""
        self._stop_asked = True
        if self._loop is not None:
            # A closed loop has stopped already.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop_event.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, cut off at the second Ctrl-C."""
        if self._stop_asked and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
        self.stop()

    async def _beat(self) -> None:
        while True:
            self._ties.on_beat()
            if self._endpoint.lane.is_lost:
                logger.error("a request does not end; this worker gives up")
                for handler in logging.getLogger().handlers:
                    handler.flush()
                os._exit(BLOCKED)
            await asyncio.sleep(_BEAT_S)

    async def _drain_when_asked(self) -> None:
        await self._stop_event.wait()
        self._endpoint.drain()
        deadline = time.monotonic() + self._endpoint.settings.grace_s
        while (self._endpoint.num_active or self._is_sending()) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        for acceptor in self._acceptors:
            acceptor.close()
        # Those that connected just before are told to go elsewhere, not reset.
        await asyncio.sleep(_LAST_WORDS_S)
        self.has_sent_all = not self._is_sending()
        if self._endpoint.num_active or not self.has_sent_all:
            logger.error("stopping with %d requests unanswered", max(1, self._endpoint.num_active))
        self.should_exit = True

    def _is_sending(self) -> bool:
        connections = self.server_state.connections
        return any(c.transport.get_write_buffer_size() for c in connections if c.transport)
