"""Values of distributions: at a quantile in [0, 1), and in the form of Optuna's samplers."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from autofocus.settings.search_space import (
    Choice,
    Distribution,
    Randint,
    SubSpace,
    Uniform,
    shaped,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# The inverse of a normal distribution's CDF is infinite at 0 and 1.
_EDGE = 2.0**-33


def value_at(distribution: Distribution, quantile: float) -> Any:
    """Return the value at a quantile of a distribution.

    Equally spread quantiles give the distribution; the same quantile gives the same value, whatever
    was drawn before.

    Args:
        distribution: The distribution.
        quantile: Quantile in [0, 1).
    """
    if isinstance(distribution, Choice):
        return distribution.values[_index(quantile, len(distribution.values))]
    if isinstance(distribution, Randint):
        return distribution.lower + _index(quantile, distribution.upper - distribution.lower)
    if isinstance(distribution, Uniform):
        drawn = distribution.min_value + quantile * (
            distribution.max_value - distribution.min_value
        )
        return shaped(drawn, distribution.q, distribution.base)
    bell = NormalDist(distribution.mu, distribution.sigma)
    # The normal distribution is cut off at the parameter's limits.
    low, high = bell.cdf(distribution.low), bell.cdf(distribution.high)
    share = min(max(low + quantile * (high - low), _EDGE), 1 - _EDGE)
    drawn = min(max(bell.inv_cdf(share), distribution.low), distribution.high)
    return shaped(drawn, distribution.q, distribution.base)


def values_at(subspace: SubSpace, quantiles: Sequence[float]) -> dict[str, Any]:
    """Return one value a parameter, in the order of the sub-space.

    Args:
        subspace: Parameters and their distributions.
        quantiles: Quantiles in [0, 1), at least as many as parameters.
    """
    return {
        name: value_at(distribution, quantile)
        for (name, distribution), quantile in zip(subspace.items(), quantiles, strict=False)
    }


def point(space: Sequence[SubSpace], quantiles: Sequence[float]) -> dict[str, Any]:
    """Return the parameters at a point, whose first quantile chooses the sub-space.

    Args:
        space: The sub-spaces, all equally likely.
        quantiles: `num_dims(space)` quantiles in [0, 1).
    """
    return values_at(space[_index(quantiles[0], len(space))], quantiles[1:])


def num_dims(space: Sequence[SubSpace]) -> int:
    """Return the number of quantiles of a point: one for the sub-space, one a parameter."""
    return 1 + max(len(subspace) for subspace in space)


def optuna_distributions(subspace: SubSpace) -> "dict[str, BaseDistribution]":
    """Return Optuna's distributions of a sub-space; `from_optuna` converts values back."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    known: dict[str, BaseDistribution] = {}
    for name, distribution in subspace.items():
        if isinstance(distribution, Choice):
            known[name] = CategoricalDistribution(range(len(distribution.values)))
        elif isinstance(distribution, Uniform) and distribution.q is None:
            known[name] = FloatDistribution(distribution.min_value, distribution.max_value)
        elif isinstance(distribution, Uniform) and distribution.q is not None:
            low, high = (
                round(end / distribution.q)
                for end in (distribution.min_value, distribution.max_value)
            )
            known[name] = IntDistribution(low, high)
    return known


def from_optuna(subspace: SubSpace, drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the values of Optuna's numbers: positions of choices, multiples of q."""
    values: dict[str, Any] = {}
    for name, distribution in subspace.items():
        number = drawn[name]
        if isinstance(distribution, Choice):
            values[name] = distribution.values[number]
        elif isinstance(distribution, Uniform) and distribution.q is not None:
            values[name] = shaped(number * distribution.q, distribution.q, None)
        else:
            values[name] = number
    return values


def to_optuna(subspace: SubSpace, values: dict[str, Any]) -> dict[str, Any]:
    """Return Optuna's numbers of values; the inverse of `from_optuna`."""
    drawn: dict[str, Any] = {}
    for name, distribution in subspace.items():
        value = values[name]
        if isinstance(distribution, Choice):
            drawn[name] = distribution.values.index(value)
        elif isinstance(distribution, Uniform) and distribution.q is not None:
            drawn[name] = round(value / distribution.q)
        else:
            drawn[name] = value
    return drawn


def _index(quantile: float, num: int) -> int:
    return min(int(quantile * num), num - 1)
