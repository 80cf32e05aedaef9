"""`autofocus serve`: one socket, shared by worker processes that are watched and replaced.

The parent imports neither the model's libraries nor the server's. It holds a pipe to each worker:
a worker reports on it that it is ready and, every second, that its event loop runs; it stops when
the parent's end closes, which also happens when the parent is killed. One that dies or falls silent
is replaced, after a pause where that happens often.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from autofocus.errors import AutofocusError, InputError, ModelFolderError
from autofocus.manifest import read_manifest
from autofocus.scoring.explain.needs import needs_torch, why_unavailable
from autofocus.scoring.request import ImageScorer
from autofocus.serve.accept import Counts
from autofocus.serve.explainer import ExplainProcess, new_address
from autofocus.serve.logs import log_without_blocking
from autofocus.serve.settings import ServerPlan, Settings

logger = logging.getLogger(__name__)

# After the grace period: time to close sockets and leave.
_LEAVE_S = 5.0
# Between two looks at pauses and silence.
_LOOK_S = 0.25
# Half of the shortest silence after which a worker is replaced.
_MIN_SILENCE_S = 10.0
# The first death within this time is replaced at once, each further one after twice the pause.
_RESTART_WINDOW_S = 60.0
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 30.0
# Where no worker is left, clients wait for the next one.
_MAX_PAUSE_ALONE_S = 0.5


def serve(plan: ServerPlan, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        on_ready: Called with the server's URL once every worker answers.

    Raises:
        InputError: If the address cannot be used or the model cannot be loaded.
        AutofocusError: If a worker dies before all have been ready, or requests were left
            unanswered at the end.
    """
    log_without_blocking()
    with contextlib.closing(bind(plan.settings)) as sock, _explaining(plan) as (plan, start):
        url = url_of(sock, plan.settings)

        def announce() -> None:
            # Where the log goes to a full disk, nobody is told.
            with contextlib.suppress(OSError):
                on_ready(url)
            # Not before: until now the cores were loading the model.
            start()

        _Supervisor(plan, sock).run(announce)


@contextlib.contextmanager
def _explaining(plan: ServerPlan) -> Iterator[tuple[ServerPlan, Callable[[], None]]]:
    """Yield the plan with its explaining process, and a function to start that; end it after."""
    reason = plan.no_explanations
    if plan.load_explainer is not None:
        reason = why_unavailable(plan.folder) or ""
    if plan.load_explainer is None or reason:
        yield replace(plan, no_explanations=reason), lambda: None
        return
    address = new_address()
    settings = plan.settings
    # Explainers of boxes load in no time.
    warm_up = settings.explain_warm_up and needs_torch(read_manifest(plan.folder))
    process = ExplainProcess(
        address, plan.folder, settings.max_pixels, plan.load_explainer, warm_up=warm_up
    )
    try:
        yield replace(plan, explainer=address), process.start
    finally:
        process.stop()


def load_scorer(folder: Path, max_pixels: int | None) -> ImageScorer:
    """Load the ONNX model of a folder for one scoring thread."""
    import cv2

    from autofocus.scoring.scorer import Scorer

    # Between two images its threads would spin, on the cores of the other workers.
    cv2.setNumThreads(1)
    limits = {} if max_pixels is None else {"max_pixels": max_pixels}
    return Scorer.load(folder, num_threads=1, accelerate=True, **limits)


def bind(settings: Settings) -> socket.socket:
    """Return a bound TCP socket; port 0 takes any free one.

    Raises:
        InputError: If the port is taken or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named, or asyncio would leave each reply's second packet to wait for the first one's receipt.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Windows lets two servers share a port under SO_REUSEADDR.
    option = "SO_EXCLUSIVEADDRUSE" if sys.platform == "win32" else "SO_REUSEADDR"
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
    address = f"{settings.host}:{settings.port}"
    try:
        sock.bind((settings.host, settings.port))
        # A listening socket takes the port for good: a second server fails at its bind.
        sock.listen()
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise InputError(
            f"{address}: cannot listen there: {reason}. "
            f"Choose another port with --port {settings.port + 1} (0 takes any free one), "
            "or another address with --host."
        ) from error
    return sock


def url_of(sock: socket.socket, settings: Settings) -> str:
    """Return the server's URL, without a path."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{sock.getsockname()[1]}"


def _leave_now() -> None:
    # A thread still runs the model and Python would wait for it; the grace period is over.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(AutofocusError.exit_status)


def _work(
    plan: ServerPlan, sock: socket.socket, pipe: Connection, index: int, counts: Counts
) -> None:
    """Run a worker process."""
    # Ctrl-C reaches the whole terminal group; until the server listens the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_without_blocking(logging.INFO)
    from autofocus.serve.worker import Ties, run_worker

    def watch(stop: Callable[[], None]) -> None:
        threading.Thread(target=_call_at_end_of, args=(pipe, stop), daemon=True).start()

    tell_ready, tell_alive = partial(_tell, pipe, _READY), partial(_tell, pipe, _ALIVE)
    try:
        answered_all = run_worker(plan, sock, Ties(index, counts, tell_ready, tell_alive, watch))
    except InputError as error:
        _tell(pipe, error.problems)
        return
    if not answered_all:
        _leave_now()


# What a worker tells: these, or the problems that keep it from working.
_READY = "ready"
_ALIVE = "alive"


def _tell(pipe: Connection, news: str | tuple[str, ...]) -> None:
    # A parent that is stopping has closed its end; then nobody needs the news.
    with contextlib.suppress(OSError):
        pipe.send(news)


def _call_at_end_of(pipe: Connection, stop: Callable[[], None]) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    stop()


@dataclass
class _Worker:
    index: int
    process: SpawnProcess
    pipe: Connection
    is_ready: bool = False
    heard_s: float = field(default_factory=time.monotonic)


class _Supervisor:
    """Starts workers, replaces the ones that die or fall silent, stops them all."""

    def __init__(self, plan: ServerPlan, sock: socket.socket) -> None:
        self._plan = plan
        self._sock = sock
        self._counts = Counts(plan.settings.workers)
        self._workers: list[_Worker] = []
        # Worker -> when to start it.
        self._due_s: dict[int, float] = dict.fromkeys(range(plan.settings.workers), 0.0)
        self._deaths_s: list[float] = []
        self._is_announced = False
        self._max_silence_s = 2 * max(plan.settings.timeout_s, _MIN_SILENCE_S)

    def run(self, on_ready: Callable[[], None]) -> None:
        with _stop_signals() as stopped:
            try:
                while not self._wait_for_news(stopped):
                    is_complete = len(self._workers) == self._plan.settings.workers
                    if is_complete and all(worker.is_ready for worker in self._workers):
                        if not self._is_announced:
                            on_ready()
                        self._is_announced = True
            finally:
                all_answered = self._stop()
        if not all_answered:
            raise AutofocusError("stopped, but not every running request could be answered.")

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, at in self._due_s.items() if at <= now]:
            del self._due_s[index]
            self._workers.append(self._start(index))

    def _start(self, index: int) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (self._plan, self._sock, theirs, index, self._counts)
        process = context.Process(target=_work, args=arguments)
        process.start()
        # With our copy closed, the pipe ends when the worker does.
        theirs.close()
        return _Worker(index, process, ours)

    def _wait_for_news(self, stopped: Connection) -> bool:
        """Return whether to stop, after something has happened or a while has passed."""
        self._start_due()
        pipes = [worker.pipe for worker in self._workers]
        # The timeout is for pauses and silence, and for Windows, where no signal ends the wait.
        changed = wait([stopped, *pipes], timeout=_LOOK_S)
        for worker in [worker for worker in self._workers if worker.pipe in changed]:
            self._hear(worker)
        for worker in [worker for worker in self._workers if worker.is_ready]:
            if time.monotonic() - worker.heard_s > self._max_silence_s:
                logger.error("a worker process has been silent for %g s", self._max_silence_s)
                worker.process.kill()
                self._replace(worker)
        return stopped in changed

    def _hear(self, worker: _Worker) -> None:
        try:
            news = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        worker.heard_s = time.monotonic()
        if news == _READY:
            worker.is_ready = True
        elif news != _ALIVE:
            if not self._is_announced:
                raise ModelFolderError(news)
            logger.error("a worker process cannot start: %s", " ".join(news))

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        self._counts.leave(worker.index)
        code = worker.process.exitcode
        if not self._is_announced:
            raise AutofocusError(
                f"a worker process ended with status {code} while it started. "
                "Out of memory is the usual cause; try fewer with --workers."
            )
        pause_s = self._pause_s(worker)
        self._due_s[worker.index] = time.monotonic() + pause_s
        when = f" in {pause_s:g} s" if pause_s else ""
        logger.warning(
            "warning: a worker process ended with status %s; starting another%s", code, when
        )

    def _pause_s(self, worker: _Worker) -> float:
        """Return how long to wait before a dead worker is replaced."""
        now = time.monotonic()
        self._deaths_s = [at for at in self._deaths_s if now - at < _RESTART_WINDOW_S]
        num_before = len(self._deaths_s)
        self._deaths_s.append(now)
        if num_before == 0 and worker.is_ready:
            return 0.0
        is_served = any(worker.is_ready for worker in self._workers)
        longest_s = _MAX_PAUSE_S if is_served else _MAX_PAUSE_ALONE_S
        return min(_FIRST_PAUSE_S * 2.0 ** min(num_before, 10), longest_s)

    def _stop(self) -> bool:
        """Stop every worker and return whether all of them answered what they had."""
        # Once the last worker has closed its copy too, connections are refused, not left waiting.
        self._sock.close()
        for worker in self._workers:
            worker.pipe.close()
        deadline = time.monotonic() + self._plan.settings.grace_s + _LEAVE_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        return all(worker.process.exitcode == 0 for worker in self._workers)


@contextlib.contextmanager
def _stop_signals() -> Iterator[Connection]:
    """Yield a connection that becomes readable at SIGTERM or Ctrl-C."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def write(sig: int, frame: FrameType | None) -> None:
        writer.send_bytes(b"stop")

    before = {sig: signal.signal(sig, write) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield reader
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
        reader.close()
        writer.close()
