"""Results in order, whatever takes longest, and only so many items at once."""

import threading
import time
from collections.abc import Iterator

import pytest

from autofocus.batch.stream import in_order, pieces


def test_results_keep_the_order_of_the_items() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0.0)
        return number * 2

    assert list(in_order(work, range(30), 3)) == [number * 2 for number in range(30)]


def test_items_are_taken_as_results_are() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), 2)
    assert next(results) == 0
    assert len(taken) <= 8
    results.close()
    assert len(taken) <= 8


def test_what_waits_does_not_begin_once_an_item_failed() -> None:
    begun: list[int] = []
    gate = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise ValueError("broken")
        gate.wait(0.2)
        return number

    with pytest.raises(ValueError, match="broken"):
        list(in_order(work, range(100), 1))
    assert len(begun) <= 2


def test_the_last_piece_may_be_shorter() -> None:
    assert list(pieces(range(5), 2)) == [[0, 1], [2, 3], [4]]
