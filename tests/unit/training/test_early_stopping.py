"""Patience counts evaluations, delay counts epochs, as published."""

import pytest

from autofocus.training.early_stopping import EarlyStopping


def stops_after(values: list[float], patience: int, delay: int, frequency: int = 1) -> int | None:
    """Return the epoch after which training stops, or None."""
    stopping = EarlyStopping(patience, delay)
    for k, value in enumerate(values):
        epoch = (k + 1) * frequency
        stopping.update(value, epoch)
        if stopping.should_stop:
            return epoch
    return None


@pytest.mark.parametrize(
    ("values", "patience", "delay", "epoch"),
    [
        ([1, 1, 1, 1], 2, 0, 3),
        ([1, 1, 1, 1], 3, 0, 4),
        ([1, 1, 1, 1, 1, 1], 2, 3, 5),
        ([1, 1, 1, 1, 1, 1, 1, 1], 5, 5, None),
        ([1] * 10, 5, 5, 10),
        ([1, 2, 1, 1, 3, 1, 1], 2, 0, 4),
        ([1, 2, 1, 3, 1, 4, 1], 2, 0, None),
        ([3, 2, 1], 1, 0, 2),
        ([float("nan"), float("nan")], 2, 0, 2),
        ([float("-inf"), 1, 1, 1], 2, 0, 4),
    ],
)
def test_table(values: list[float], patience: int, delay: int, epoch: int | None) -> None:
    assert stops_after(values, patience, delay) == epoch


def test_patience_counts_evaluations_and_delay_epochs() -> None:
    # Evaluated after epochs 2, 4, 6, 8: the delay of 4 epochs covers the first two.
    assert stops_after([1, 1, 1, 1], patience=2, delay=4, frequency=2) == 8


def test_equal_is_not_better() -> None:
    stopping = EarlyStopping(patience=9, delay=0)
    assert [stopping.update(value, 1) for value in (0.5, 0.5, 0.6, 0.4)] == [
        True,
        False,
        True,
        False,
    ]
    assert stopping.best == 0.6


def test_disabled_it_still_knows_the_best() -> None:
    stopping = EarlyStopping(patience=1, delay=0, enabled=False)
    assert stopping.update(1.0, 1)
    assert not stopping.update(0.0, 2)
    assert not stopping.should_stop
