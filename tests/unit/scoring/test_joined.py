"""Calls of several threads on an accelerator that only says that it is one."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.scoring.backends.joined import JoinedBackend
from autofocus.scoring.scorer import MAX_BATCH, Scorer
from support.accelerator import CPU, CUDA, Accelerator

BAD = -1.0


class Recorder:
    """Doubles its images, once it may; notes how many come at once. `BAD` ones fail."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        self.sizes.append(len(images))
        assert self.may_go_on.wait(10)
        if BAD in images:
            raise RuntimeError("one of them is bad")
        return {"twice": images * 2, "number": np.full(len(images), len(images))}


def images_of(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("the condition did not come true")


def queued_behind_one(
    joined: JoinedBackend,
    recorder: Recorder,
    callers: ThreadPoolExecutor,
    *calls: NDArray[np.float32],
) -> list[Future[dict[str, NDArray[Any]]]]:
    """Send calls while another runs, and let that one end."""
    recorder.may_go_on.clear()
    first = callers.submit(joined.run, images_of(7))
    until(lambda: recorder.sizes == [1])
    waiting = []
    for i, call in enumerate(calls, 1):
        waiting.append(callers.submit(joined.run, call))
        until(lambda i=i: joined._calls.qsize() == i)
    recorder.may_go_on.set()
    assert first.result(10)["twice"].item() == 14
    return waiting


def test_a_call_that_comes_alone_waits_for_nobody(recorder: Recorder) -> None:
    joined = JoinedBackend(recorder, 16, max_wait_s=1e6)
    for value in range(5):
        assert joined.run(images_of(value))["twice"].item() == 2 * value
    assert recorder.sizes == [1] * 5


def test_calls_that_come_while_it_works_are_joined(
    recorder: Recorder, callers: ThreadPoolExecutor
) -> None:
    joined = JoinedBackend(recorder, 16)
    calls = [images_of(value) for value in range(20)]
    found = [call.result(10) for call in queued_behind_one(joined, recorder, callers, *calls)]
    assert recorder.sizes == [1, 16, 4]
    assert [outputs["twice"].item() for outputs in found] == [2 * value for value in range(20)]
    assert [outputs["number"].item() for outputs in found] == [16] * 16 + [4] * 4


def test_a_call_that_found_it_at_work_waits_a_moment_for_others(
    recorder: Recorder, callers: ThreadPoolExecutor
) -> None:
    joined = JoinedBackend(recorder, 2, max_wait_s=1e6)
    (waiting,) = queued_behind_one(joined, recorder, callers, images_of(1))
    assert joined.run(images_of(2))["number"].item() == 2
    assert waiting.result(10)["number"].item() == 2
    joined = JoinedBackend(recorder, 2, max_wait_s=0.05)
    recorder.sizes.clear()
    (waiting,) = queued_behind_one(joined, recorder, callers, images_of(1))
    assert waiting.result(10)["number"].item() == 1


def test_calls_of_several_images_are_not_cut(
    recorder: Recorder, callers: ThreadPoolExecutor
) -> None:
    joined = JoinedBackend(recorder, 16)
    calls = [images_of(*range(10)), images_of(*range(10, 20)), images_of(3), images_of(*range(40))]
    found = [call.result(10) for call in queued_behind_one(joined, recorder, callers, *calls)]
    assert recorder.sizes == [1, 10, 11, 40]
    for call, outputs in zip(calls, found, strict=True):
        np.testing.assert_array_equal(outputs["twice"], 2 * call)


def test_the_error_of_one_call_is_no_other_s(
    recorder: Recorder, callers: ThreadPoolExecutor
) -> None:
    joined = JoinedBackend(recorder, 16)
    calls = [images_of(1), images_of(BAD), images_of(3)]
    first, second, third = queued_behind_one(joined, recorder, callers, *calls)
    assert first.result(10)["twice"].item() == 2
    assert third.result(10)["twice"].item() == 6
    with pytest.raises(RuntimeError, match="one of them is bad"):
        second.result(10)
    assert joined.run(images_of(4))["twice"].item() == 8


def test_an_accelerator_is_used_where_it_is_asked_for_and_there(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    accelerator = Accelerator(monkeypatch)
    assert Scorer.load(tiny_model).num_joined == 1
    assert accelerator.asked == [CPU]
    assert Scorer.load(tiny_model, accelerate=True).num_joined == MAX_BATCH
    assert accelerator.asked == [(CUDA, {"use_tf32": "0"}), CPU]
    # As where the driver is missing.
    accelerator.works = False
    assert Scorer.load(tiny_model, accelerate=True).num_joined == 1
