"""The published `xai_parameters` of a request, declared once and checked.

Unknown keys and bad values are refused, all at once, each with what is allowed and what was given.
Values keep the published JSON types; nothing is converted in silence. Imports neither torch nor
numpy: the command line's flags are made from the declaration.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

from autofocus.errors import RequestError
from autofocus.explain.quadrature import METHODS
from autofocus.settings.fields import Flag, Kind, Number, OneOf, Schema, Text
from autofocus.settings.options import Option, options_of

VISUALIZATION_STYLES: Final = ("panel", "overlay", "heatmap")

# Beyond this many steps no digit changes that single precision leaves meaningful.
MAX_STEPS: Final = 1000


class _ClassName(Kind):
    """Name of a class, or null for none; the model knows which there are."""

    allowed = "one of the model's class names"

    def parse(self, value: object) -> str | None:
        """See `Kind.parse`."""
        if value is None or (isinstance(value, str) and value != ""):
            return value
        raise ValueError(self.allowed)

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"type": ["string", "null"], "minLength": 1}


@dataclass(frozen=True)
class XaiParameter(Option):
    """Declaration of one parameter.

    Attributes:
        ours: Whether it is not published.
    """

    ours: bool = False


def _whole(low: int, high: int) -> Number:
    return Number(low, high, whole=True, strict=True)


def _one_of(*names: str) -> OneOf:
    return OneOf(names, strict=True)


_FLAG: Final = Flag(strict=True)
_published = XaiParameter
_ours = partial(XaiParameter, ours=True)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of an explanation. Names, values and defaults are the published ones."""

    xai_algorithm: Annotated[
        str,
        # `algorithms.names_of` says which names there are.
        _published(
            Text(), "How to explain", default_words="xrai; d_rise for models that find objects"
        ),
    ] = "xrai"
    n_steps: Annotated[
        int,
        _published(
            _whole(2, MAX_STEPS), "Steps of xrai and integrated_gradients; fewer are faster"
        ),
    ] = 50
    approximation_method: Annotated[
        str, _published(_one_of(*METHODS), "Quadrature of these steps")
    ] = "riemann_middle"
    xrai_fast: Annotated[
        bool, _published(_FLAG, "Rank regions once by their whole mean, not after each one taken")
    ] = True
    visualizations: Annotated[bool, _published(_FLAG, "Return PNGs")] = True
    attributions: Annotated[
        bool, _published(_FLAG, "Return the numbers, `[3, h, w]`, of a box `[1, h, w]`")
    ] = False
    confidence_score_threshold_multilabel: Annotated[
        float,
        _published(
            Number(0, 1, strict=True), "Multi-label: explain classes of this probability or more"
        ),
    ] = 0.5
    target: Annotated[
        str | None,
        _ours(_ClassName(), "The class to explain", default_words="whatever is predicted"),
    ] = None
    visualization_style: Annotated[
        str, _ours(_one_of(*VISUALIZATION_STYLES), "What a picture shows")
    ] = "panel"
    num_masks: Annotated[
        int,
        _ours(
            # Two: the maps of both halves of the masks are compared.
            _whole(2, 20_000),
            "Random masks of d_rise; fewer are faster and noisier",
            "noise falls with their root",
        ),
    ] = 500
    grid: Annotated[
        int,
        _ours(_whole(1, 64), "Cells of such a mask along each side; more are finer and noisier"),
    ] = 10
    seed: Annotated[
        int, _ours(_whole(0, 2**32 - 1), "Decides the masks, and what --evaluate draws")
    ] = 0
    max_boxes: Annotated[
        int, _ours(_whole(1, 1_000), "Boxes explained in an image, best first")
    ] = 16


XAI_PARAMETERS: Final = options_of(Parameters, XaiParameter)


def parse_parameters(
    raw: Mapping[str, Any] | None, algorithms: Sequence[str], *, repeats_texts: bool = True
) -> Parameters:
    """Return the parameters of one row of a request.

    Args:
        raw: The row's `xai_parameters`; None or empty for all defaults.
        algorithms: Names of those that explain the model's predictions, the default first;
            see `algorithms.names_of`. Parameters of others are checked and have no effect.
        repeats_texts: Whether errors show the keys and texts that were found.

    Raises:
        RequestError: If a key is unknown or a value not allowed; names every one of them.
    """
    kinds = {name: parameter.kind for name, parameter in XAI_PARAMETERS.items()}
    kinds["xai_algorithm"] = OneOf(tuple(algorithms), strict=True)
    given = {"xai_algorithm": algorithms[0], **(raw or {})}
    problems = []
    for key, value in given.items():
        if key not in kinds:
            problems.append(_unknown_key(key, repeats_texts))
            continue
        try:
            kinds[key].parse(value)
        except ValueError:
            rule, found = allowed(kinds[key]), abridged(value, repeats_texts)
            problems.append(f"xai_parameters.{key} must be {rule}, got {found}.")
    if problems:
        raise RequestError(problems)
    return Parameters(**given)


def allowed(kind: Kind) -> str:
    """Return the allowed values of a parameter in words."""
    if not isinstance(kind, Number):
        return kind.allowed
    return f"a {'whole ' if kind.whole else ''}number from {kind.low} to {kind.high}"


def _unknown_key(key: str, repeats_texts: bool) -> str:
    near = difflib.get_close_matches(key, XAI_PARAMETERS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    found = f"no key {abridged(key)}" if repeats_texts else "an unknown key"
    return f"xai_parameters has {found}.{hint} Allowed: {', '.join(XAI_PARAMETERS)}."


def abridged(value: Any, repeats_texts: bool = True) -> str:
    """Return a value short enough for one line; containers, and texts if need be, by their kind."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str) and not repeats_texts:
        return f"a text of {len(value):,} characters"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
