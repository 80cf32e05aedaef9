"""Places in [0, 1) and what lies there: quantiles that can be worked out by hand."""

import math
from statistics import NormalDist

import pytest

from autofocus.settings.search_space import Choice, Distribution, Normal, Randint, Uniform
from autofocus.study.search.space import (
    from_optuna,
    num_dims,
    optuna_distributions,
    point,
    to_optuna,
    value_at,
)

JUST_BELOW_1 = math.nextafter(1, 0)

QUANTILES: list[tuple[Distribution, float, object]] = [
    (Choice(("a", "b")), 0, "a"),
    (Choice(("a", "b")), 0.4999, "a"),
    (Choice(("a", "b")), 0.5, "b"),
    (Choice(("a", "b")), JUST_BELOW_1, "b"),
    (Randint(4), 0, 0),
    (Randint(4), 0.25, 1),
    (Randint(4), JUST_BELOW_1, 3),
    (Randint(4, 2), 0.5, 3),
    (Uniform(0, 10), 0.25, 2.5),
    (Uniform(-4, -2, base=10), 0.5, 1e-3),
    (Uniform(0, 1, 0.25), 0.1, 0),
    (Uniform(0, 1, 0.25), 0.2, 0.25),
    (Uniform(math.log(2), math.log(9), 2, math.e), JUST_BELOW_1, 8),
    (Normal(3, 2), 0.5, 3),
    (Normal(3, 2), NormalDist().cdf(1), 5),
    (Normal(0, 1, base=math.e), 0.5, 1),
    (Normal(5, 2, 1), 0.4, 4),
    # Half of the bell is left: its median is the quartile of the whole.
    (Normal(0, 1, low=0), 0.5, NormalDist().inv_cdf(0.75)),
    (Normal(0, 1, low=-1, high=1), 0.5, 0),
]


@pytest.mark.parametrize(("distribution", "quantile", "value"), QUANTILES)
def test_quantiles(distribution: Distribution, quantile: float, value: object) -> None:
    found = value_at(distribution, quantile)
    assert found == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize("distribution", [Normal(0, 1), Normal(9, 1, low=0, high=1)])
def test_the_ends_of_a_bell_are_finite(distribution: Normal) -> None:
    for quantile in (0, JUST_BELOW_1):
        value = value_at(distribution, quantile)
        assert math.isfinite(value)
        assert distribution.low <= value <= distribution.high


def test_the_first_place_chooses_the_sub_space() -> None:
    space = ({"a": Choice((1,))}, {"b": Uniform(0, 1), "c": Uniform(0, 10)})
    assert num_dims(space) == 3
    assert point(space, [0.49, 0.5, 0.5]) == {"a": 1}
    assert point(space, [0.5, 0.25, 0.5]) == {"b": 0.25, "c": 5}


def test_optuna_and_back() -> None:
    subspace: dict[str, Distribution] = {
        "model_name": Choice(("a", "b")),
        "learning_rate": Uniform(0.1, 0.2),
        "beta1": Uniform(0.04, 0.97, 0.1),
    }
    known = optuna_distributions(subspace)
    assert repr(known["model_name"]) == "CategoricalDistribution(choices=(0, 1))"
    # round(0.04 / 0.1) and round(0.97 / 0.1): the multiples that the published rule reaches.
    assert repr(known["beta1"]) == "IntDistribution(high=10, log=False, low=0, step=1)"
    drawn = {"model_name": 1, "learning_rate": 0.125, "beta1": 3}
    values = from_optuna(subspace, drawn)
    assert values == {"model_name": "b", "learning_rate": 0.125, "beta1": 0.3}
    assert to_optuna(subspace, values) == drawn
