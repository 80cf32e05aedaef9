"""The best: who takes it, and that the order in which trials end decides nothing."""

import random

import numpy as np
import pytest

from autofocus.study.best_model import BestModel, Score, beats
from autofocus.training.selection import margin_after


def nothing(what: str, **inputs: object) -> None: ...


def test_higher_value_wins_and_a_tie_does_not() -> None:
    assert beats(Score("1", 0.6), Score("0", 0.5))[0]
    assert not beats(Score("1", 0.5), Score("0", 0.5))[0]
    assert not beats(Score("1", None), Score("0", 0.5))[0]
    assert beats(Score("1", 0.0), Score("0", None))[0]


def test_few_images_are_compared_one_by_one() -> None:
    losses = np.linspace(0.1, 1.0, 20)
    best = Score("0", 0.5, losses)
    better = Score("1", 0.4, losses - 0.05)
    wins, inputs = beats(better, best)
    assert wins, "every image is better, whatever the value says"
    assert inputs["num_pairs"] == 20
    noise = np.where(np.arange(20) % 2, 0.5, -0.5) - 0.01
    assert not beats(Score("2", 0.9, losses + noise), best)[0]


def test_after_many_others_a_lead_must_be_larger() -> None:
    rng = np.random.default_rng(0)
    losses = rng.random(25)
    gains = rng.normal(size=25)
    gains = (gains - gains.mean()) / gains.std(ddof=1) / 5 + 0.06
    best, candidate = Score("0", 0.5, losses), Score("9", 0.6, losses - gains)
    assert beats(candidate, best)[0]
    assert not beats(candidate, best, margin_after(9))[0]
    decided: list[dict] = []
    model = BestModel(lambda what, **inputs: decided.append(inputs), best)
    for number in range(9):
        model.add(number, None)
    model.add(9, candidate)
    assert model.current is best
    assert decided[0]["margin"] > 1.9


def test_a_given_margin_holds_for_every_challenger() -> None:
    gains = np.resize([0.3, -0.1], 20)
    best, candidate = Score("0", 0.5, np.ones(20)), Score("1", 0.6, 1 - gains)
    errors = gains.mean() / (gains.std(ddof=1) / np.sqrt(20))
    for margin, wins in ((errors * 0.99, True), (errors * 1.01, False)):
        model = BestModel(nothing, best, is_paired=True, margin=margin)
        model.add(0, candidate)
        assert (model.current is candidate) == wins


def test_many_images_are_compared_by_value() -> None:
    losses = np.ones(200)
    assert beats(Score("1", 0.6, losses), Score("0", 0.5, losses / 2))[0]


@pytest.mark.parametrize("seed", range(20))
def test_order_of_ending_decides_nothing(seed: int) -> None:
    chance = random.Random(seed)
    rng = np.random.default_rng(seed)
    entries: list[Score | None] = [
        Score(str(n), chance.random(), rng.random(12)) if chance.random() < 0.8 else None
        for n in range(12)
    ]
    start = Score("probe", 0.5, rng.random(12))
    in_order = BestModel(nothing, start)
    for number, score in enumerate(entries):
        in_order.add(number, score)
    shuffled, numbers = BestModel(nothing, start), list(range(12))
    chance.shuffle(numbers)
    for number in numbers:
        shuffled.add(number, entries[number])
        assert shuffled.current is not None
    assert shuffled.current is in_order.current


def test_each_pair_is_decided_once_and_written_down() -> None:
    decided: list[dict] = []
    best = BestModel(lambda what, **inputs: decided.append({"what": what, **inputs}), None)
    assert best.current is None
    best.add(1, Score("1", 0.6))
    best.add(2, Score("2", 0.5))
    assert best.current == best.current == Score("1", 0.6)
    best.add(0, Score("0", 0.7))
    assert best.current == Score("0", 0.7)
    pairs = [(score["champion"], score["challenger"], score["wins"]) for score in decided]
    assert pairs == [("1", "2", False), ("0", "1", False), ("0", "2", False)]
