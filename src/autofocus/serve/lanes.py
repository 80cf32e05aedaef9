"""A lane: a few threads that score, and a bounded queue before them.

Each kind of work gets a lane of its own, so that slow work never blocks fast work. An event
loop owns a lane; only jobs run in its threads.
"""

import asyncio
import math
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from autofocus.errors import RequestError
from autofocus.serve.errors import HttpError, busy

T = TypeVar("T")

# Shortest time in which a job that has started must end: a batch of large images needs seconds.
MIN_OVERRUN_S = 10.0
# For the callers of a job that does not end to be told so.
_LOST_S = 1.0
_MAX_RETRY_AFTER_S = 60
# Number of last durations that are kept.
_NUM_REMEMBERED = 9


class Lane:
    """Runs jobs on `num_threads` threads, first come first served.

    Args:
        name: Name of its work, for messages and thread names.
        num_threads: Jobs that run at once.
        queue_size: Jobs that may wait; more are refused with 429.
        too_late: Refusal of a job that could not start in time, or did not end; default: a 408
            and a 503.
        overrun_s: Time after its deadline in which a job that runs must end. Later its caller is
            told that it did not; halfway there the lane takes no more jobs.

    Attributes:
        num_threads: Jobs that run at once.
    """

    def __init__(
        self,
        name: str,
        num_threads: int,
        queue_size: int,
        too_late: Callable[[], RequestError] | None = None,
        overrun_s: float = MIN_OVERRUN_S,
    ) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._name = name
        self.num_threads = num_threads
        self._queue_size = queue_size
        self._too_late = too_late or timed_out
        self._did_not_end = too_late or _did_not_end
        self._overrun_s = overrun_s
        self._durations_s: tuple[float, ...] = ()
        # Waiting or in a thread. A caller may be cancelled while its job runs on.
        self._jobs: set[Future[Any]] = set()
        # Thread -> deadline of its job.
        self._running: dict[int, float] = {}

    @property
    def num_pending(self) -> int:
        """Jobs that wait or run."""
        return len(self._jobs)

    @property
    def overdue_s(self) -> float:
        """Time by which the most overdue job that runs has outlasted its deadline; at least 0."""
        return max(0.0, time.monotonic() - min(self._running.copy().values(), default=math.inf))

    @property
    def is_blocked(self) -> bool:
        """True while a job is so overdue that no other should wait for it."""
        return self.overdue_s > self._overrun_s / 2

    @property
    def is_lost(self) -> bool:
        """True once nobody waits any more for a job that still runs."""
        return self.overdue_s > self._overrun_s + _LOST_S

    def check_room(self) -> None:
        """Check that another job may come.

        Raises:
            HttpError: 429 with Retry-After, when the queue is full or a job does not end.
        """
        if self.is_blocked:
            raise busy(f"A request to {self._name} does not end. Try again.", 1)
        if self.num_pending < self.num_threads + self._queue_size:
            return
        # The median: the first job often loads what all others find there.
        typical_s = statistics.median(self._durations_s) if self._durations_s else 0.0
        wait_s = math.ceil(self.num_pending * typical_s / self.num_threads)
        raise busy(
            f"The server is busy: {self._queue_size} requests to {self._name} are waiting already."
            " Try again.",
            min(max(wait_s, 1), _MAX_RETRY_AFTER_S),
        )

    async def run(self, job: Callable[[], T], deadline: float | None = None) -> T:
        """Return what `job` returns, once a thread has run it.

        Args:
            job: Called in a thread of the lane.
            deadline: Time on the `time.monotonic` clock. A job that has not started by then is
                dropped; one that has may take `overrun_s` more. A thread cannot be stopped, so it
                runs on after that, and the lane is blocked.

        Raises:
            HttpError: 429 when the queue is full, 408 when the deadline came first, 503 when the
                job did not end.
        """
        self.check_room()
        future = self._threads.submit(self._timed, job, math.inf if deadline is None else deadline)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        waiting = asyncio.wrap_future(future)
        timers: list[asyncio.TimerHandle] = []
        if deadline is not None:
            loop = asyncio.get_running_loop()

            def give_up() -> None:
                if not future.cancel():
                    timers.append(loop.call_later(self._overrun_s, waiting.cancel))

            timers.append(loop.call_later(max(0.0, deadline - time.monotonic()), give_up))
        try:
            return await waiting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise (self._too_late() if future.cancelled() else self._did_not_end()) from None
        finally:
            for timer in timers:
                timer.cancel()

    def widen(self, num_threads: int) -> None:
        """Run so many jobs at once from now on; those that wait already keep to the old number."""
        before, self.num_threads = self._threads, num_threads
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix=self._name)
        before.shutdown(wait=False)

    def close(self) -> bool:
        """Drop waiting jobs and return whether none runs any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        return self.num_pending == 0

    def _timed(self, job: Callable[[], T], deadline: float) -> T:
        started = time.monotonic()
        self._running[threading.get_ident()] = deadline
        try:
            return job()
        finally:
            del self._running[threading.get_ident()]
            seconds = time.monotonic() - started
            # Replaced, not changed: the event loop may be reading it.
            self._durations_s = (*self._durations_s, seconds)[-_NUM_REMEMBERED:]


def timed_out() -> HttpError:
    """Return the 408 of a request whose scoring could not start in time."""
    return HttpError(
        408, "The request waited too long for its turn. Try again, or raise --timeout-s."
    )


def _did_not_end() -> HttpError:
    return HttpError(503, "The request could not be answered in time. Send fewer images at once.")
