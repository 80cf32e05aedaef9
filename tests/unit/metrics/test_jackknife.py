"""Pseudo-values against what is known of means, and against the bootstrap."""

from collections.abc import Sequence

import numpy as np
import pytest

from autofocus.metrics.jackknife import MAX_GROUPS, group_values, pseudo_values


def test_of_a_mean_they_are_the_values_themselves() -> None:
    values = np.random.default_rng(0).normal(size=15)
    found = pseudo_values(lambda rows: float(values[list(rows)].mean()), 15)
    np.testing.assert_allclose(found, values, atol=1e-12)


def test_groups_of_images_give_the_error_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = pseudo_values(lambda rows: float(values[list(rows)].mean()), 400)
    assert found is not None
    assert found.shape == (MAX_GROUPS,)
    assert found.mean() == pytest.approx(values.mean())
    error = found.std(ddof=1) / np.sqrt(MAX_GROUPS)
    assert error == pytest.approx(values.std(ddof=1) / 20, rel=0.4)


def test_the_error_of_a_difference_is_the_bootstraps() -> None:
    """A ratio of sums, which no mean over images is; two models that share most of their noise."""
    rng = np.random.default_rng(2)
    weights, shared = rng.uniform(1, 5, 100), rng.normal(size=100)
    models = [shared + 0.1 * rng.normal(size=100) + gain for gain in (0.0, 0.2)]

    def metric(model: np.ndarray, rows: Sequence[int]) -> float:
        chosen = list(rows)
        return float((model[chosen] * weights[chosen]).sum() / weights[chosen].sum())

    pair = [pseudo_values(lambda rows, m=model: metric(m, rows), 100) for model in models]  # type: ignore[misc]
    assert pair[0] is not None
    assert pair[1] is not None
    gains = pair[1] - pair[0]
    draws = [rng.integers(0, 100, 100) for _ in range(2_000)]
    drawn = [metric(models[1], rows) - metric(models[0], rows) for rows in draws]
    assert gains.mean() == pytest.approx(np.mean(drawn), abs=0.01)
    assert gains.std(ddof=1) / np.sqrt(len(gains)) == pytest.approx(np.std(drawn), rel=0.5)


def test_what_is_undefined_has_none() -> None:
    assert pseudo_values(lambda rows: None, 5) is None
    assert pseudo_values(lambda rows: 1.0, 1) is None
    assert pseudo_values(lambda rows: 1.0 if 0 in rows else None, 5) is None


def test_many_images_are_measured_group_by_group() -> None:
    values = np.random.default_rng(3).normal(size=410)
    asked: list[int] = []

    def mean(rows: Sequence[int]) -> float | None:
        asked.extend(rows)
        return float(values[list(rows)].mean())

    found = group_values(mean, 410)
    assert found is not None
    assert sorted(asked) == list(range(410)), "each image once"
    assert found[3] == pytest.approx(values[3::MAX_GROUPS].mean())
    assert group_values(lambda rows: None if 7 in rows else 1.0, 410) is None
