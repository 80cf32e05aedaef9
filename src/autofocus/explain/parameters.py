"""The published `xai_parameters` of a request, checked. Imports no torch.

Unknown keys and bad values are refused, all at once, each with what is allowed and what was given.
Values keep the published JSON types; nothing is converted in silence.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from autofocus.errors import RequestError
from autofocus.explain.algorithms import names_of
from autofocus.explain.base import Parameters
from autofocus.explain.quadrature import METHODS
from autofocus.tasks.explaining import Activation

# Kind of explained prediction: a class of an image, by its activation, or a found box.
ExplainedKind = Activation | Literal["boxes"]

APPROXIMATION_METHODS: Final = tuple(METHODS)
VISUALIZATION_STYLES: Final = ("panel", "overlay", "heatmap")

# Beyond this many steps no digit changes that single precision leaves meaningful.
MAX_STEPS: Final = 1000
# Two: the maps of both halves of the masks are compared.
MIN_MASKS: Final = 2
MAX_MASKS: Final = 20_000
MAX_GRID: Final = 64
MAX_BOXES: Final = 1000
MAX_SEED: Final = 2**32 - 1


def parse_parameters(raw: Mapping[str, Any] | None, kind: ExplainedKind) -> Parameters:
    """Return the parameters of one row of a request.

    Args:
        raw: The row's `xai_parameters`; None or empty for all defaults.
        kind: Kind of the model's predictions. Parameters of other kinds are checked and have no
            effect.

    Raises:
        RequestError: If a key is unknown or a value not allowed; names every one of them.
    """
    algorithms = names_of("boxes" if kind == "boxes" else "classes")
    given = {"xai_algorithm": algorithms[0], **(raw or {})}
    checks = {**_CHECKS, "xai_algorithm": _one_of(*algorithms)}
    problems = []
    for key, value in given.items():
        check = checks.get(key)
        if check is None:
            problems.append(_unknown_key(key))
        elif (rule := check(value)) is not None:
            problems.append(f"xai_parameters.{key} must be {rule}, got {_abridged(value)}.")
    if problems:
        raise RequestError(" ".join(problems))
    return Parameters(**given)


# Returns the allowed values where a value is not allowed, else None.
Check = Callable[[Any], str | None]


def _one_of(*names: str) -> Check:
    rule = f"one of {', '.join(names)}"
    return lambda value: None if value in names else rule


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and low <= value <= high else f"a whole number from {low} to {high}"

    return check


def _probability(value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    allowed = number and math.isfinite(value) and 0 <= value <= 1
    return None if allowed else "a number from 0 to 1"


def _class_name(value: Any) -> str | None:
    allowed = value is None or (isinstance(value, str) and value != "")
    return None if allowed else "one of the model's class names"


_CHECKS: Final[dict[str, Check]] = {
    "xai_algorithm": _one_of(),
    "n_steps": _whole(2, MAX_STEPS),
    "approximation_method": _one_of(*APPROXIMATION_METHODS),
    "xrai_fast": _flag,
    "visualizations": _flag,
    "attributions": _flag,
    "confidence_score_threshold_multilabel": _probability,
    "target": _class_name,
    "visualization_style": _one_of(*VISUALIZATION_STYLES),
    "num_masks": _whole(MIN_MASKS, MAX_MASKS),
    "grid": _whole(1, MAX_GRID),
    "seed": _whole(0, MAX_SEED),
    "max_boxes": _whole(1, MAX_BOXES),
}


def _unknown_key(key: str) -> str:
    near = difflib.get_close_matches(key, _CHECKS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"xai_parameters has no key {_abridged(key)}.{hint} Allowed: {', '.join(_CHECKS)}."


def _abridged(value: Any) -> str:
    """Return a value short enough for one line; containers by their kind only."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
