"""Positions and weights of samples of a path integral on [0, 1]: captum's definitions.

A file of its own: imports neither torch nor numpy, so that `METHODS` names what a request allows.
"""

from collections.abc import Callable
from typing import Final

Floats = list[float]


def quadrature(method: str, n_steps: int) -> tuple[Floats, Floats]:
    """Return positions in [0, 1] and weights, each of `n_steps`.

    Args:
        method: A key of `METHODS`.
        n_steps: Number of samples, at least 2.
    """
    assert n_steps >= 2, "a path has two ends"
    return METHODS[method](n_steps)


def _left(n: int) -> tuple[Floats, Floats]:
    return [i / n for i in range(n)], [1 / n] * n


def _middle(n: int) -> tuple[Floats, Floats]:
    return [(i + 0.5) / n for i in range(n)], [1 / n] * n


def _right(n: int) -> tuple[Floats, Floats]:
    return [(i + 1) / n for i in range(n)], [1 / n] * n


def _trapezoid(n: int) -> tuple[Floats, Floats]:
    """Return both ends at half weight; as in captum the weights sum to 1 - 1 / n, not to 1."""
    step = 1 / (n - 1)
    inner = [1 / n] * (n - 2)
    return [*(i * step for i in range(n - 1)), 1.0], [0.5 / n, *inner, 0.5 / n]


def _gauss_legendre(n: int) -> tuple[Floats, Floats]:
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(n)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


METHODS: Final[dict[str, Callable[[int], tuple[Floats, Floats]]]] = {
    "riemann_middle": _middle,
    "riemann_left": _left,
    "riemann_right": _right,
    "riemann_trapezoid": _trapezoid,
    "gausslegendre": _gauss_legendre,
}
