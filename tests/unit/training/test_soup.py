"""Greedy soups, on weights whose best mean is known."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from autofocus.training.soup import StateDict, greedy_soup, mean_state


def point(*values: float) -> dict[str, Tensor]:
    return {"weight": torch.tensor(values), "num_batches": torch.tensor(3)}


def nearness(state: StateDict) -> float:
    """Best at the origin."""
    return -float(state["weight"].norm())


def test_what_lies_on_the_other_side_is_added_and_what_leads_away_is_not() -> None:
    soup = greedy_soup([point(1.0, 0.0), point(4.0, 4.0), point(-1.0, 0.1)], nearness)
    assert soup.chosen == [0, 2]
    assert soup.state["weight"].tolist() == pytest.approx([0.0, 0.05])
    assert soup.score == pytest.approx(-0.05)
    assert [position for position, _ in soup.tried] == [0, 1, 2]


def test_it_is_the_papers_recipe_on_random_points() -> None:
    """Against a few lines of numpy that follow recipe 1."""
    for seed in range(20):
        points = np.random.default_rng(seed).normal(size=(6, 3)) + 0.3
        points = points[np.argsort(np.linalg.norm(points, axis=1))]
        basket = [points[0]]
        for each in points[1:]:
            if np.linalg.norm(np.mean([*basket, each], 0)) <= np.linalg.norm(np.mean(basket, 0)):
                basket.append(each)
        soup = greedy_soup([{"weight": torch.tensor(each)} for each in points], nearness)
        np.testing.assert_allclose(soup.state["weight"].numpy(), np.mean(basket, 0), atol=1e-12)
        assert len(soup.chosen) == len(basket)


def test_it_is_never_worse_than_its_first_ingredient() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        points = sorted((point(*torch.randn(4).tolist()) for _ in range(5)), key=nearness)[::-1]
        assert greedy_soup(points, nearness).score >= nearness(points[0])


def test_out_of_time_the_rest_is_left_out() -> None:
    calls = itertools.count()
    points = [point(1.0), point(-1.0), point(0.0)]
    soup = greedy_soup(points, nearness, is_late=lambda: next(calls) >= 1)
    assert soup.chosen == [0, 1]
    assert len(soup.tried) == 2


def test_counters_are_not_averaged_and_precision_stays() -> None:
    states = [{"weight": torch.ones(2).half() * 3, "n": torch.tensor(v)} for v in (5, 8)]
    mean = mean_state(states)
    assert mean["n"].item() == 5
    assert mean["weight"].dtype == torch.float16
    assert mean["weight"].tolist() == [3.0, 3.0]
