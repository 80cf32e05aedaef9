import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from autofocus.serve.errors import HttpError
from autofocus.serve.lanes import Lane

T = TypeVar("T")


class Gate:
    """A job that waits until it is let through."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.started.set()
        assert self.opened.wait(10)
        return "through"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition did not come true")


def test_jobs_run_first_come_first_served_and_results_go_to_their_callers() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=10)
        order: list[int] = []

        def job(i: int) -> int:
            order.append(i)
            return i * i

        results = await asyncio.gather(*(lane.run(lambda i=i: job(i)) for i in range(8)))
        assert results == [i * i for i in range(8)]
        assert order == list(range(8))
        assert lane.close()

    asyncio.run(scenario())


def test_full_queue_is_429_with_retry_after_and_what_runs_finishes() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=1)
        gate = Gate()
        running = asyncio.create_task(lane.run(gate))
        await until(gate.started.is_set)
        waiting = asyncio.create_task(lane.run(lambda: "waited"))
        await until(lambda: lane.num_pending == 2)

        with pytest.raises(HttpError) as caught:
            await lane.run(lambda: "too many")
        assert caught.value.status == 429
        assert dict(caught.value.headers)[b"retry-after"] == b"1"

        gate.opened.set()
        assert await running == "through"
        assert await waiting == "waited"
        assert lane.num_pending == 0
        assert await lane.run(lambda: "room again") == "room again"

    asyncio.run(scenario())


def test_retry_after_grows_with_the_time_jobs_take() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=19)
        await lane.run(lambda: time.sleep(0.12))
        gate = Gate()
        jobs = [asyncio.create_task(lane.run(gate)) for _ in range(20)]
        await until(lambda: lane.num_pending == 20)
        with pytest.raises(HttpError) as caught:
            lane.check_room()
        assert int(dict(caught.value.headers)[b"retry-after"]) >= 2
        gate.opened.set()
        await asyncio.gather(*jobs)

    asyncio.run(scenario())


def test_retry_after_forgets_a_first_job_that_loaded_everything() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=19)
        await lane.run(lambda: time.sleep(0.5))
        for _ in range(4):
            await lane.run(lambda: None)
        gate = Gate()
        jobs = [asyncio.create_task(lane.run(gate)) for _ in range(20)]
        await until(lambda: lane.num_pending == 20)
        with pytest.raises(HttpError) as caught:
            lane.check_room()
        assert dict(caught.value.headers)[b"retry-after"] == b"1"
        gate.opened.set()
        await asyncio.gather(*jobs)

    asyncio.run(scenario())


def test_job_that_cannot_start_in_time_is_408_at_once_and_never_runs() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=5)
        gate = Gate()
        running = asyncio.create_task(lane.run(gate, time.monotonic() + 0.05))
        await until(gate.started.is_set)
        ran: list[str] = []

        started = time.monotonic()
        with pytest.raises(HttpError) as caught:
            await lane.run(lambda: ran.append("late"), time.monotonic() + 0.1)
        assert caught.value.status == 408
        assert time.monotonic() - started < 5
        assert not running.done()

        gate.opened.set()
        # It had started before its deadline: a thread cannot be stopped, so its result counts.
        assert await running == "through"
        assert ran == []

    asyncio.run(scenario())


def test_exception_of_a_job_reaches_its_caller_and_frees_its_place() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=0)

        def fail() -> None:
            raise KeyError("from the job")

        for _ in range(3):
            with pytest.raises(KeyError, match="from the job"):
                await lane.run(fail)
        assert lane.num_pending == 0

    asyncio.run(scenario())


def test_cancelled_caller_stays_cancelled() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=5)
        gate = Gate()
        running = asyncio.create_task(lane.run(gate))
        await until(gate.started.is_set)
        waiting = asyncio.create_task(lane.run(lambda: None, time.monotonic() + 60))
        await until(lambda: lane.num_pending == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.opened.set()
        await running

    asyncio.run(scenario())


def test_a_job_that_does_not_end_is_503_and_blocks_its_lane() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=5, overrun_s=0.05)
        gate = Gate()
        running = asyncio.create_task(lane.run(gate, time.monotonic() + 0.02))
        await until(gate.started.is_set)
        assert not lane.is_blocked
        with pytest.raises(HttpError, match="could not be answered in time") as stuck:
            await running
        assert stuck.value.status == 503
        await until(lambda: lane.is_blocked)
        with pytest.raises(HttpError, match="does not end") as refused:
            lane.check_room()
        assert refused.value.status == 429
        gate.opened.set()
        await until(lambda: lane.num_pending == 0)
        assert await lane.run(lambda: "goes on") == "goes on"

    asyncio.run(scenario())


def test_a_widened_lane_runs_several_jobs_at_once_and_ends_what_ran_before() -> None:
    async def scenario() -> None:
        lane = Lane("test", num_threads=1, queue_size=5)
        gate = Gate()
        before = asyncio.create_task(lane.run(gate))
        await until(gate.started.is_set)
        lane.widen(3)
        meeting = threading.Barrier(3, timeout=10)
        places = await asyncio.gather(*(lane.run(meeting.wait) for _ in range(3)))
        assert sorted(places) == [0, 1, 2]
        gate.opened.set()
        assert await before == "through"
        assert lane.close()

    asyncio.run(scenario())
