"""One worker process: the endpoint under uvicorn, its readiness, and how it stops.

A stop signal first turns `/ready` to 503 and refuses new scoring requests; requests that run are
answered; then the listening socket closes.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn

from autofocus.serve.app import Endpoint
from autofocus.serve.explainer import ask
from autofocus.serve.settings import ServerPlan

logger = logging.getLogger(__name__)

# Connections that may wait to be accepted.
_LISTEN_BACKLOG = 2048
_POLL_S = 0.02


def run_worker(
    plan: ServerPlan,
    sock: socket.socket,
    on_ready: Callable[[], None],
    watch: Callable[[Callable[[], None]], None] | None = None,
) -> bool:
    """Serve on a bound socket until told to stop; return whether every request was answered.

    Args:
        on_ready: Called once the model answers.
        watch: Receives a function that stops this worker, from any thread.

    Raises:
        ModelFolderError: If the model cannot be loaded.
    """
    settings = plan.settings
    endpoint = Endpoint(
        settings,
        plan.keys,
        lambda: plan.load(plan.folder, settings.max_pixels),
        plan.no_explanations if plan.explainer is None else partial(ask, plan.explainer),
    )
    server = _Server(endpoint)
    if watch is not None:
        watch(server.stop)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.run_until_stopped(sock, on_ready))
    return endpoint.close()


class _Server(uvicorn.Server):
    """uvicorn with a drain before its shutdown, and stop signals that end in a normal return."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(
            uvicorn.Config(
                endpoint,
                lifespan="off",
                ws="none",
                interface="asgi3",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                workers=endpoint.settings.workers,
                timeout_graceful_shutdown=1,
                # One connection a turn, so that workers share them evenly; see `startup`.
                backlog=1,
            )
        )
        self._endpoint = endpoint
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_event = asyncio.Event()
        self._stop_asked = False

    async def run_until_stopped(self, sock: socket.socket, on_ready: Callable[[], None]) -> None:
        """Serve, load the model, serve on; return after a stop.

        Raises:
            ModelFolderError: If the model cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        if self._stop_asked:
            self._stop_event.set()
        serving = asyncio.create_task(self.serve([sock]))
        draining = asyncio.create_task(self._drain_when_asked())
        try:
            await self._endpoint.start()
            on_ready()
        except BaseException:
            self.should_exit = True
            raise
        finally:
            await serving
            draining.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        await super().startup(sockets)
        # asyncio uses one number for two things: accepts a turn, which must be few, and the
        # kernel's queue, which must be long.
        for sock in sockets or []:
            sock.listen(_LISTEN_BACKLOG)

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

    async def _drain_when_asked(self) -> None:
        await self._stop_event.wait()
        self._endpoint.drain()
        deadline = time.monotonic() + self._endpoint.settings.grace_s
        while self._endpoint.num_active and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        if self._endpoint.num_active:
            logger.error("stopping with %d requests unanswered", self._endpoint.num_active)
        self.should_exit = True
