"""Rows of one request side by side, and never more threads at once than there are workers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from autofocus.errors import ImageError
from autofocus.serve.accept import Counts
from autofocus.serve.crew import Crew
from autofocus.serve.limits import PixelBudget
from support.hostile_images import png_header


def test_rows_run_at_once_on_all_free_cores_and_come_in_order() -> None:
    counts = Counts(3)
    meeting = threading.Barrier(3, timeout=10)

    def work(item: int) -> int:
        meeting.wait()
        return item * item

    assert Crew(counts, 1).map(work, range(9)) == [item * item for item in range(9)]
    assert counts.num_scoring(1) == 0


def test_cores_of_others_that_score_are_left_to_them() -> None:
    counts = Counts(3)
    for worker in (1, 2):
        counts.score(worker, 1)
    threads = Crew(counts, 0).map(lambda _: threading.get_ident(), range(20))
    assert set(threads) == {threading.get_ident()}
    assert Crew(Counts(1), 0).map(lambda _: threading.get_ident(), [0, 0]) == threads[:2]


def test_the_core_of_a_worker_that_has_just_scored_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = Counts(2)
    crew = Crew(counts, 0)
    meeting = threading.Barrier(2, timeout=10)
    monkeypatch.setattr("autofocus.serve.accept._RECENTLY_S", 1e6)
    counts.score(1, 1)
    counts.score(1, -1)
    assert set(crew.map(lambda _: threading.get_ident(), range(9))) == {threading.get_ident()}
    monkeypatch.setattr("autofocus.serve.accept._RECENTLY_S", 0.0)
    assert sorted(crew.map(lambda _: meeting.wait(), range(2))) == [0, 1]


def test_a_helper_leaves_when_another_request_comes() -> None:
    counts = Counts(2)
    caller = threading.get_ident()
    has_come = threading.Event()
    by_helpers: list[int] = []

    def work(item: int) -> None:
        if threading.get_ident() == caller:
            assert has_come.wait(10)
        else:
            by_helpers.append(item)
            counts.score(1, 1)
            has_come.set()

    Crew(counts, 0).map(work, range(20))
    assert len(by_helpers) == 1
    assert counts.num_scoring(0) == 1


@pytest.mark.parametrize("is_helper", [True, False])
def test_an_error_ends_the_request_and_is_its_error(is_helper: bool) -> None:
    counts = Counts(2)
    caller = threading.get_ident()
    meeting = threading.Barrier(2, timeout=10)
    done: list[int] = []

    def work(item: int) -> None:
        if item < 2:
            meeting.wait()
            if (threading.get_ident() != caller) == is_helper:
                raise KeyError("from a row")
        done.append(item)

    with pytest.raises(KeyError, match="from a row"):
        Crew(counts, 0).map(work, range(1_000_000))
    assert len(done) < 500_000
    assert counts.num_scoring(0) == 0


def test_a_worker_that_ends_leaves_its_cores_to_others() -> None:
    counts = Counts(2)
    counts.score(0, 2)
    counts.leave(0)
    assert counts.num_scoring(0) == 0


def test_images_decoded_at_once_have_half_the_pixels_of_the_largest() -> None:
    budget = PixelBudget(10_000)
    small, large = png_header(50, 50), png_header(70, 72)
    both = threading.Barrier(2, timeout=10)

    def meet(_: int) -> None:
        with budget.held(small):
            both.wait()

    inside: list[int] = []

    def alone(_: int) -> int:
        with budget.held(large):
            inside.append(1)
            number = len(inside)
            threading.Event().wait(0.01)
            inside.pop()
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(meet, range(2))) == [None, None]
        assert list(pool.map(alone, range(8))) == [1] * 8
    for nothing in (b"text", ImageError("image.base64", "no")):
        with budget.held(large), budget.held(nothing):
            pass
