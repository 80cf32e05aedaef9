"""Explanations on a server: one process for all workers, started beside them, replaced if it dies.

It takes one request at a time, on one thread, at the lowest priority, so that scoring hardly
notices. Where the model needs torch it is warmed up in the background: torch, the network and
XRAI's compiled loops are there when the first request comes. Without the warm-up a server that
explains nothing keeps only a small waiting process. Workers reach it through a private local
connection; one that hangs up, because its client did, makes room for another.

Its parent holds a pipe to it: when that ends, also because the parent was killed, it leaves.
"""

import contextlib
import logging
import multiprocessing
import os
import queue
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final, Protocol

from autofocus.errors import AutofocusError, RequestError
from autofocus.serve.errors import ClientGoneError
from autofocus.serve.logs import log_without_blocking

logger = logging.getLogger(__name__)

_STARTED: Final = "started"
# A successor of a process that died listens again within about a second.
_RETRY_S: Final = 0.05
_RESTART_PAUSE_S: Final = 0.2
# Between two looks at whether the client is still there.
_LOOK_S: Final = 0.2
_LEAVE_S: Final = 5.0
# One step of an explanation may outlast the deadline by this much; then the process ends itself.
_OVERRUN_S: Final = 10.0
_OVERRAN: Final = 75
_LOWEST_PRIORITY: Final = 19
# Longest folder of a socket: macOS allows 103 bytes for the whole path.
_MAX_FOLDER_BYTES: Final = 90
# The process says every second that it lives; one that is silent for this long, at the lowest
# priority of a busy machine, has been stopped.
_BEAT_S: Final = 1.0
_MAX_SILENCE_S: Final = 45.0

Answers = list[dict[str, bytes]]
_Jobs = queue.Queue[tuple[Connection, Sequence[Any], float]]


class RowExplainer(Protocol):
    """Explains rows; `scoring.explain.explainer.ModelExplainer` is one."""

    def warm_up(self) -> None:
        """Run once, so that the first request is not the slow one."""

    def answer(self, row: Any, check: Callable[[], None]) -> dict[str, bytes]:
        """Return JSON by key for one row; `check` is called now and then and may raise."""


LoadExplainer = Callable[[Path, int | None], RowExplainer]


class ExplainerDiedError(AutofocusError):
    """The explaining process ended while it worked on a request."""


@dataclass(frozen=True)
class Address:
    """Address of a server's explaining process. Travels to workers.

    Attributes:
        path: Path of a socket, or a named pipe on Windows.
        secret: Key that both sides prove to know before anything else is read.
    """

    path: str
    secret: bytes


def new_address() -> Address:
    """Return an address that nobody else uses; `forget` removes its files."""
    secret = secrets.token_bytes(32)
    if sys.platform == "win32":
        return Address(rf"\\.\pipe\autofocus-{secrets.token_hex(8)}", secret)
    # A folder that only this user may enter. A socket's path may not be long.
    return Address(str(Path(_short_folder()) / "explain"), secret)


def _short_folder() -> str:
    folder = tempfile.mkdtemp(prefix="autofocus-")
    if len(os.fsencode(folder)) <= _MAX_FOLDER_BYTES:
        return folder
    Path(folder).rmdir()
    return tempfile.mkdtemp(prefix="autofocus-", dir="/tmp")


def forget(address: Address) -> None:
    """Remove the folder of the address's socket."""
    if sys.platform != "win32":
        shutil.rmtree(Path(address.path).parent, ignore_errors=True)


def load_row_explainer(folder: Path, max_pixels: int | None) -> RowExplainer:
    """Load the explainer of a model folder, for one thread."""
    from autofocus.scoring.explain import explanations

    limits = {} if max_pixels is None else {"max_pixels": max_pixels}
    return explanations.load_explainer(folder, num_threads=1, **limits)


def ask(
    address: Address, rows: Sequence[Any], deadline: float, gone: threading.Event | None = None
) -> Answers:
    """Return the answers of the explaining process, one a row.

    Args:
        rows: Rows for its explainer.
        deadline: Time on the `time.monotonic` clock, shared by all processes of a machine.
        gone: Event, set when nobody waits for the answer any more.

    Raises:
        RequestError: 408 when the deadline came first, or the explainer's refusal.
        ExplainerDiedError: If the process ended while it worked on these rows.
        ClientGoneError: When `gone` is set.
    """
    gone = gone or threading.Event()
    while time.monotonic() < deadline:
        started = False
        try:
            with Client(address.path, authkey=address.secret) as connection:
                connection.send((list(rows), deadline))
                while _has_news(connection, deadline, gone):
                    reply = connection.recv()
                    if reply == _STARTED:
                        started = True
                    elif isinstance(reply, Exception):
                        raise reply
                    else:
                        answers: Answers = reply
                        return answers
        except (OSError, EOFError) as error:
            if started:
                raise ExplainerDiedError(
                    "the explaining process ended while it worked on this request"
                ) from error
            # It is not there yet, or ended over another's request: its successor will listen.
            time.sleep(_RETRY_S)
    raise too_slow()


def _has_news(connection: Any, deadline: float, gone: threading.Event) -> bool:
    """Return whether there is something to receive, at the latest at the deadline.

    Raises:
        ClientGoneError: When `gone` is set.
    """
    while not connection.poll(min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
        # Closing the connection tells the process that nobody waits.
        if gone.is_set():
            raise ClientGoneError
        if time.monotonic() > deadline:
            return False
    return True


def too_slow() -> RequestError:
    """Return the 408 of an explanation that is not done in time."""
    return RequestError(
        "The explanation was not done in time. Send fewer images at once, lower n_steps or"
        " num_masks, choose a faster algorithm (guided_backprop), or raise --explain-timeout-s.",
        408,
    )


class ExplainProcess:
    """Keeps one explaining process alive until `stop`.

    Args:
        address: Address at which it listens.
        folder: The model folder.
        max_pixels: Larger images are refused; None is the image reader's own limit.
        load: Loads the explainer; a function of a module, so that it travels.
        warm_up: Load it at once instead of at the first request.
    """

    def __init__(
        self,
        address: Address,
        folder: Path,
        max_pixels: int | None,
        load: LoadExplainer,
        *,
        warm_up: bool = False,
    ) -> None:
        self._address = address
        self._arguments = (address, folder, max_pixels, load)
        self._warm_up = warm_up
        self._stop_reader, self._stop_writer = multiprocessing.Pipe(duplex=False)
        self._thread = threading.Thread(target=self._keep_alive, name="explainer", daemon=True)

    def start(self) -> None:
        """Start it, without waiting."""
        self._thread.start()

    def stop(self) -> None:
        """End it, whatever it does; wait until it is gone."""
        self._stop_writer.send_bytes(b"stop")
        if self._thread.ident is not None:
            self._thread.join()
        forget(self._address)

    def _watch(self, process: SpawnProcess, pipe: Connection) -> None:
        """Return when the process has ended, is to end, or was silent too long and is killed."""
        while True:
            changed = wait([process.sentinel, self._stop_reader, pipe], _MAX_SILENCE_S)
            if not changed:
                logger.error("the explaining process has been silent for %g s", _MAX_SILENCE_S)
                process.kill()
            if pipe not in changed or len(changed) > 1:
                return
            try:
                pipe.recv()
            except (EOFError, OSError):
                return

    def _keep_alive(self) -> None:
        context = multiprocessing.get_context("spawn")
        warm_up = self._warm_up
        while True:
            ours, theirs = multiprocessing.Pipe()
            arguments = (theirs, *self._arguments, warm_up)
            process = context.Process(target=_explain_until_end_of, args=arguments)
            process.start()
            # One that the warm-up itself kills is not to die again and again, unasked.
            warm_up = False
            theirs.close()
            self._watch(process, ours)
            ours.close()
            process.join(_LEAVE_S)
            if process.is_alive():
                process.kill()
                process.join()
            if self._stop_reader.poll(_RESTART_PAUSE_S):
                return
            logger.warning(
                "warning: the explaining process ended with status %s; starting another",
                process.exitcode,
            )


def _explain_until_end_of(
    pipe: Connection,
    address: Address,
    folder: Path,
    max_pixels: int | None,
    load: LoadExplainer,
    warm_up: bool,
) -> None:
    """Run the explaining process."""
    # Stop signals reach whole process groups; requests that run are answered first, and the end
    # of the pipe says when.
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_LOWEST_PRIORITY)
    log_without_blocking(logging.INFO)
    threading.Thread(target=_leave_at_end_of, args=(pipe, address), daemon=True).start()
    threading.Thread(target=_beat, args=(pipe,), daemon=True).start()
    if sys.platform != "win32":
        # Left behind by a process that died.
        Path(address.path).unlink(missing_ok=True)
    jobs: _Jobs = queue.Queue()
    with Listener(address.path, authkey=address.secret) as listener:
        threading.Thread(target=_accept, args=(listener, jobs), daemon=True).start()
        explainer = _warmed(load, folder, max_pixels) if warm_up else None
        while True:
            connection, rows, deadline = jobs.get()
            # A worker that has left, or does not wait any more, needs no answer.
            with connection, contextlib.suppress(OSError):
                connection.send(_STARTED)
                with _killed_after(deadline + _OVERRUN_S):
                    try:
                        explainer = explainer or load(folder, max_pixels)
                        reply: Answers | Exception = _answer(explainer, rows, deadline, connection)
                    except RequestError as error:
                        reply = error
                    except _NobodyWaits:
                        continue
                    # Whatever a model or a library throws is the worker's 500.
                    except Exception:
                        logger.exception("an explanation failed")
                        reply = AutofocusError("the explanation failed; the log has the reason")
                connection.send(reply)


def _warmed(load: LoadExplainer, folder: Path, max_pixels: int | None) -> RowExplainer | None:
    """Load the explainer while nobody waits; None when that fails, as it will for a request."""
    started = time.monotonic()
    try:
        explainer = load(folder, max_pixels)
        explainer.warm_up()
    # Whatever a model or a library throws: the request that finds it too is told.
    except Exception:
        logger.exception("explanations could not be warmed up")
        return None
    logger.info("Explanations are warmed up, after %.1f s", time.monotonic() - started)
    return explainer


def _accept(listener: Listener, jobs: _Jobs) -> None:
    """Take in requests at once, so that no worker waits for the one before it to connect.

    Each worker sends one at a time, which bounds the queue.
    """
    while True:
        # A worker that dies halfway is nothing to us, neither is one without the secret.
        with contextlib.suppress(OSError, EOFError, multiprocessing.AuthenticationError):
            connection: Any = listener.accept()
            rows, deadline = connection.recv()
            jobs.put((connection, rows, deadline))


class _NobodyWaits(Exception):  # noqa: N818 - no error: the worker hung up
    """Nobody waits for the answer any more."""


def _answer(
    explainer: RowExplainer, rows: Sequence[Any], deadline: float, connection: Connection
) -> Answers:
    def check() -> None:
        if time.monotonic() > deadline:
            raise too_slow()
        # A worker sends nothing more: what can be read is the end.
        if connection.poll():
            raise _NobodyWaits

    answers = []
    for row in rows:
        check()
        answers.append(explainer.answer(row, check))
    return answers


@contextlib.contextmanager
def _killed_after(deadline: float) -> Any:
    """End this process when the block has not ended by then: a thread cannot be stopped."""
    timer = threading.Timer(deadline - time.monotonic(), os._exit, (_OVERRAN,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _leave_at_end_of(pipe: Connection, address: Address) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    forget(address)
    os._exit(0)


def _beat(pipe: Connection) -> None:
    with contextlib.suppress(OSError):
        while True:
            pipe.send(None)
            time.sleep(_BEAT_S)
