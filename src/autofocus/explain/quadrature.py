"""Positions and weights of samples of a path integral on [0, 1]: captum's definitions.

A file of its own: imports no torch, so that requests are checked against `METHODS`.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def quadrature(method: str, n_steps: int) -> tuple[Floats, Floats]:
    """Return positions [n_steps] in [0, 1] and weights [n_steps].

    Args:
        method: A key of `METHODS`.
        n_steps: Number of samples, at least 2.
    """
    assert n_steps >= 2, "a path has two ends"
    return METHODS[method](n_steps)


def _left(n: int) -> tuple[Floats, Floats]:
    return np.arange(n) / n, np.full(n, 1 / n)


def _middle(n: int) -> tuple[Floats, Floats]:
    return (np.arange(n) + 0.5) / n, np.full(n, 1 / n)


def _right(n: int) -> tuple[Floats, Floats]:
    return (np.arange(n) + 1) / n, np.full(n, 1 / n)


def _trapezoid(n: int) -> tuple[Floats, Floats]:
    """Return both ends at half weight; as in captum the weights sum to 1 - 1 / n, not to 1."""
    weights = np.full(n, 1 / n)
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, n), weights


def _gauss_legendre(n: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2


METHODS: Final[dict[str, Callable[[int], tuple[Floats, Floats]]]] = {
    "riemann_middle": _middle,
    "riemann_left": _left,
    "riemann_right": _right,
    "riemann_trapezoid": _trapezoid,
    "gausslegendre": _gauss_legendre,
}
