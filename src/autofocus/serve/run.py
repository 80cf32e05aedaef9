"""`autofocus serve`: one socket, shared by worker processes that are watched and replaced.

The parent imports neither the model's libraries nor the server's. It holds a pipe to each worker:
a worker reports on it that it is ready, and stops when the parent's end closes, which also
happens when the parent is killed.
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
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from autofocus.errors import AutofocusError, InputError, ModelFolderError
from autofocus.manifest import read_manifest
from autofocus.scoring.explain.needs import needs_torch, why_unavailable
from autofocus.scoring.request import ImageScorer
from autofocus.serve.explainer import ExplainProcess, new_address
from autofocus.serve.settings import ServerPlan, Settings

logger = logging.getLogger(__name__)

# After the grace period: time to close sockets and leave.
_LEAVE_S = 5.0
# A worker that dies this often in a row is not worth replacing.
_MAX_RESTARTS = 5
_RESTART_WINDOW_S = 60.0


def serve(plan: ServerPlan, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        on_ready: Called with the server's URL once every worker answers.

    Raises:
        InputError: If the address cannot be used or the model cannot be loaded.
        AutofocusError: If workers keep dying, or requests were left unanswered at the end.
    """
    with contextlib.closing(bind(plan.settings)) as sock, _explaining(plan) as (plan, start):
        url = url_of(sock, plan.settings)

        def announce() -> None:
            on_ready(url)
            # Not before: until now the cores were loading the model.
            start()

        if plan.settings.workers == 1:
            _serve_here(plan, sock, announce)
        else:
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
    from autofocus.scoring.scorer import Scorer

    limits = {} if max_pixels is None else {"max_pixels": max_pixels}
    return Scorer.load(folder, num_threads=1, **limits)


def bind(settings: Settings) -> socket.socket:
    """Return a bound TCP socket; port 0 takes any free one.

    Raises:
        InputError: If the port is taken or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
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


def _serve_here(plan: ServerPlan, sock: socket.socket, on_ready: Callable[[], None]) -> None:
    from autofocus.serve.worker import run_worker

    if not run_worker(plan, sock, on_ready):
        _leave_now()


def _leave_now() -> None:
    # A thread still runs the model and Python would wait for it; the grace period is over.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(AutofocusError.exit_status)


def _work(plan: ServerPlan, sock: socket.socket, pipe: Connection) -> None:
    """Run a worker process."""
    # Ctrl-C reaches the whole terminal group; until the server listens the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from autofocus.serve.worker import run_worker

    def watch(stop: Callable[[], None]) -> None:
        threading.Thread(target=_call_at_end_of, args=(pipe, stop), daemon=True).start()

    try:
        answered_all = run_worker(plan, sock, lambda: _tell(pipe, None), watch)
    except InputError as error:
        _tell(pipe, error.problems)
        return
    if not answered_all:
        _leave_now()


def _tell(pipe: Connection, news: tuple[str, ...] | None) -> None:
    # A parent that is stopping has closed its end; then nobody needs the news.
    with contextlib.suppress(OSError):
        pipe.send(news)


def _call_at_end_of(pipe: Connection, stop: Callable[[], None]) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    stop()


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    is_ready: bool = False


class _Supervisor:
    """Starts workers, replaces the ones that die, stops them all."""

    def __init__(self, plan: ServerPlan, sock: socket.socket) -> None:
        self._plan = plan
        self._sock = sock
        self._workers: list[_Worker] = []
        self._restarts_s: list[float] = []

    def run(self, on_ready: Callable[[], None]) -> None:
        announced = False
        with _stop_signals() as stopped:
            try:
                self._workers = [self._start() for _ in range(self._plan.settings.workers)]
                while not self._wait_for_news(stopped):
                    if not announced and all(worker.is_ready for worker in self._workers):
                        announced = True
                        on_ready()
            finally:
                all_answered = self._stop()
        if not all_answered:
            raise AutofocusError("stopped, but not every running request could be answered.")

    def _start(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_work, args=(self._plan, self._sock, theirs))
        process.start()
        # With our copy closed, the pipe ends when the worker does.
        theirs.close()
        return _Worker(process, ours)

    def _wait_for_news(self, stopped: Connection) -> bool:
        """Return whether to stop, after something has happened or a second has passed."""
        pipes = [worker.pipe for worker in self._workers]
        # The timeout is for Windows, where a signal does not interrupt the wait.
        changed = wait([stopped, *pipes], timeout=1.0)
        for worker in [worker for worker in self._workers if worker.pipe in changed]:
            try:
                problems = worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(worker)
                continue
            if problems is not None:
                raise ModelFolderError(problems)
            worker.is_ready = True
        return stopped in changed

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        code = worker.process.exitcode
        now = time.monotonic()
        recent = [at for at in self._restarts_s if now - at < _RESTART_WINDOW_S]
        if not worker.is_ready or len(recent) >= _MAX_RESTARTS:
            raise AutofocusError(
                f"a worker process ended with status {code} "
                f"{'again and again' if worker.is_ready else 'while it started'}. "
                "Out of memory is the usual cause; try fewer with --workers."
            )
        self._restarts_s = [*recent, now]
        logger.warning("warning: a worker process ended with status %s; starting another", code)
        self._workers.append(self._start())

    def _stop(self) -> bool:
        """Stop every worker and return whether all of them answered what they had."""
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
