"""`search_space`: a list of conditional sub-spaces, each a distribution for every parameter.

Ten distributions, as published (azure.md §1.4), in the YAML's object form
`{type: uniform, min_value: 0.001, max_value: 0.01}` and the REST interface's string form
`uniform(0.001,0.01)`. A bare value stands for itself.

choice                        one of `values`
randint                       whole numbers from 0 to `upper` - 1
uniform, normal               x
loguniform, lognormal         exp(x): `min_value`, `max_value` and `mu` are exponents
quniform, qnormal             round(x / q) * q
qloguniform, qlognormal       round(exp(x) / q) * q

Only allowed values are drawn: normal distributions and `randint` are cut to the parameter's
range; explicit ends beyond it are an error.
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from autofocus.settings.fields import Kind, Number
from autofocus.settings.parameters import PARAMETER_ALIASES, PARAMETERS, canonical_names
from autofocus.settings.spelling import did_you_mean, spelled

_REST_FORM = re.compile(r"\s*([A-Za-z_]+)\s*\((.*)\)\s*", re.DOTALL)

_ENDS, _BELL, _STEP = ("min_value", "max_value"), ("mu", "sigma"), ("q",)
# Arguments of each distribution, in the order of its string form.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "choice": ("values",),
    "uniform": _ENDS,
    "loguniform": _ENDS,
    "quniform": _ENDS + _STEP,
    "qloguniform": _ENDS + _STEP,
    "normal": _BELL,
    "lognormal": _BELL,
    "qnormal": _BELL + _STEP,
    "qlognormal": _BELL + _STEP,
    "randint": ("upper",),
}


@dataclass(frozen=True)
class Choice:
    """Values that are equally likely."""

    values: tuple[Any, ...]
    type: ClassVar[str] = "choice"


@dataclass(frozen=True)
class Randint:
    """Whole numbers from `lower` to `upper` - 1, all equally likely."""

    upper: int
    lower: int = 0
    type: ClassVar[str] = "randint"


@dataclass(frozen=True)
class Uniform:
    """Uniform distribution between two ends.

    Attributes:
        min_value: Least value, or its exponent.
        max_value: Greatest value, or its exponent.
        q: Step of the values; None: no steps.
        base: Base of a power whose exponent is drawn; None: the value itself is drawn.
    """

    min_value: float
    max_value: float
    q: float | None = None
    base: float | None = None

    @property
    def type(self) -> str:
        """Published name."""
        return _name("uniform", self.q, self.base)


@dataclass(frozen=True)
class Normal:
    """Normal distribution, cut to the range of the parameter.

    Attributes:
        mu: Mean of the drawn number, which is an exponent where there is a `base`.
        sigma: Its standard deviation.
        q: Step of the values; None: no steps.
        base: Base of a power whose exponent is drawn; None: the value itself is drawn.
        low: Lower bound of the drawn number.
        high: Upper bound of the drawn number.
    """

    mu: float
    sigma: float
    q: float | None = None
    base: float | None = None
    low: float = -math.inf
    high: float = math.inf

    @property
    def type(self) -> str:
        """Published name."""
        return _name("normal", self.q, self.base)


def _name(shape: str, q: float | None, base: float | None) -> str:
    return f"{'q' * (q is not None)}{'log' * (base is not None)}{shape}"


Distribution = Choice | Randint | Uniform | Normal
SubSpace = Mapping[str, Distribution]
SearchSpace = tuple[SubSpace, ...]


def parse_space(raw: object, log_base: float = math.e) -> tuple[SearchSpace, list[str]]:
    """Return the sub-spaces of a job's `search_space`, and a sentence for every problem.

    Args:
        raw: List in the job; a mapping counts as a list of one.
        log_base: Base of the exponents of log distributions (`sweep.sampling_algorithm.logbase`).
    """
    entries = [raw] if isinstance(raw, Mapping) else raw
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        return (), [_WHAT_IT_IS]
    space: list[SubSpace] = []
    problems: list[str] = []
    for index, entry in enumerate(entries):
        key = f"search_space.{index}"
        if not isinstance(entry, Mapping) or not entry:
            problems.append(f"{key}: must be a mapping of parameters to distributions.")
            continue
        space.append(_parse_subspace(entry, key, log_base, problems))
    return tuple(space), problems


_WHAT_IT_IS = (
    "search_space: must be a list of mappings of parameters to distributions, such as "
    "[{learning_rate: {type: uniform, min_value: 0.001, max_value: 0.01}}]."
)


def _parse_subspace(
    entry: Mapping[Any, Any], key: str, log_base: float, problems: list[str]
) -> SubSpace:
    subspace: dict[str, Distribution] = {}
    for name, value in canonical_names(entry).items():
        if name in PARAMETER_ALIASES:
            other = PARAMETER_ALIASES[name]
            problems.append(f"{key}.{name}: is given as {other} too; leave one of them out.")
            continue
        if name not in PARAMETERS:
            hint = did_you_mean(name, [*PARAMETERS, *PARAMETER_ALIASES])
            problems.append(f"{key}.{name}: is not a parameter{hint}")
            continue
        if value is None:
            continue
        try:
            subspace[name] = _fitted(name, parse_distribution(value, log_base))
        except ValueError as error:
            problems.append(f"{key}.{name}: {error}")
    return subspace


def canonical_space(raw: object) -> object:
    """Return a `search_space` under the YAML's spelling, in object form, as far as it can be read.

    `parse_space` names the problems of the rest.
    """
    entries = [raw] if isinstance(raw, Mapping) else raw
    if not isinstance(entries, list):
        return raw
    return [
        {name: _object_form(value) for name, value in canonical_names(entry).items()}
        if isinstance(entry, Mapping)
        else entry
        for entry in entries
    ]


def _object_form(value: object) -> object:
    try:
        return read_rest_form(value) if isinstance(value, str) else value
    except ValueError:
        return value


def parse_distribution(value: object, log_base: float = math.e) -> Distribution:
    """Return the distribution that a mapping, a string in REST form or a bare value means.

    Raises:
        ValueError: If it means none; the message is a sentence.
    """
    if isinstance(value, str):
        value = read_rest_form(value)
    if isinstance(value, list | tuple):
        raise ValueError(f"must be a distribution; write {{type: choice, values: {list(value)}}}.")
    if not isinstance(value, Mapping):
        return Choice((value,))
    kind = spelled(value.get("type"), ARGUMENTS)
    if kind is None:
        given = str(value.get("type"))
        hint = did_you_mean(given, ARGUMENTS)
        raise ValueError(f"type must be one of {', '.join(ARGUMENTS)}, got {given!r}{hint}")
    names = ARGUMENTS[kind]
    wrong = [f"{name!r} is unknown" for name in value if name not in (*names, "type")]
    wrong += [f"{name!r} is missing" for name in names if value.get(name) is None]
    if wrong:
        raise ValueError(f"{kind} takes {', '.join(names)}; {', '.join(wrong)}.")
    return _build(kind, value, log_base)


def _build(kind: str, value: Mapping[str, Any], log_base: float) -> Distribution:
    if kind == "choice":
        return _choice(value["values"])
    numbers = {name: _finite(kind, name, value[name]) for name in ARGUMENTS[kind]}
    if kind == "randint":
        if numbers["upper"] != int(numbers["upper"]) or numbers["upper"] < 1:
            raise ValueError(f"upper must be a whole number ≥ 1, got {value['upper']!r}.")
        return Randint(int(numbers["upper"]))
    if numbers.get("q", 1) <= 0:
        raise ValueError(f"q must be > 0, got {value['q']!r}.")
    base = log_base if "log" in kind else None
    if "mu" in numbers:
        if numbers["sigma"] <= 0:
            raise ValueError(f"sigma must be > 0, got {value['sigma']!r}.")
        return Normal(numbers["mu"], numbers["sigma"], numbers.get("q"), base)
    low, high = numbers["min_value"], numbers["max_value"]
    if low > high:
        raise ValueError(f"min_value must be ≤ max_value, got {low:g} and {high:g}.")
    if base is not None and low > 0 and high < 1:
        raise ValueError(
            f"min_value and max_value of {kind} are exponents, as published: for values between "
            f"{low:g} and {high:g} write {math.log(low, base):.4g} and {math.log(high, base):.4g}."
        )
    return Uniform(low, high, numbers.get("q"), base)


def _choice(values: object) -> Choice:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError("values must be a list with at least one value.")
    if nested := [item for item in values if isinstance(item, Mapping | list | tuple)]:
        raise ValueError(
            f"values must be plain values, got {nested[0]!r}; what depends on a choice is written "
            "as another entry of search_space."
        )
    return Choice(tuple(values))


def _finite(kind: str, name: str, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} of {kind} must be a number, got {value!r}.")
    # 8 stays an int: a whole q makes whole values.
    return int(number) if isinstance(value, int | str) and number == int(number) else number


def read_rest_form(text: str) -> object:
    """Return the object form of `uniform(0.001,0.01)`; other text is a value.

    Raises:
        ValueError: If it looks like a distribution but is none.
    """
    match = _REST_FORM.fullmatch(text)
    if match is None:
        return _value(text)
    kind = spelled(match[1], ARGUMENTS)
    if kind is None:
        hint = did_you_mean(match[1].lower(), ARGUMENTS)
        raise ValueError(f"must be one of {', '.join(ARGUMENTS)}, got {text!r}{hint}")
    arguments = _arguments(match[2])
    if kind == "choice":
        return {"type": kind, "values": arguments}
    names = ARGUMENTS[kind]
    if len(arguments) != len(names):
        raise ValueError(f"{kind} takes {len(names)} arguments ({', '.join(names)}), got {text!r}.")
    return {"type": kind, **dict(zip(names, arguments, strict=True))}


def _arguments(text: str) -> list[Any]:
    try:
        return list(ast.literal_eval(f"[{text}]"))
    except (ValueError, SyntaxError):
        # Names without quotes.
        return [_value(part) for part in text.strip().strip("[]").split(",") if part.strip()]


def _value(text: str) -> object:
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False}.get(text.strip().lower(), text.strip().strip("'\""))
    return value if isinstance(value, bool | int | float | str) else text.strip()


def _fitted(name: str, distribution: Distribution) -> Distribution:
    """Return a distribution that gives only values allowed for the parameter.

    Raises:
        ValueError: If explicit values or ends are not allowed.
    """
    kind = PARAMETERS[name].kind
    if isinstance(distribution, Choice):
        return Choice(tuple(_parsed(kind, value) for value in distribution.values))
    if not isinstance(kind, Number):
        raise ValueError(f"{name} can only be a choice, got {distribution.type}.")
    if isinstance(distribution, Randint):
        return _cut_whole(distribution, kind)
    if kind.whole and (distribution.q is None or distribution.q != int(distribution.q)):
        raise ValueError(
            f"must be {kind.allowed}: take quniform with a whole q, randint or choice instead of "
            f"{distribution.type}."
        )
    if isinstance(distribution, Normal):
        return _cut_bell(distribution, kind)
    for end in (distribution.min_value, distribution.max_value):
        value = shaped(end, distribution.q, distribution.base)
        if not kind.holds(value):
            raise ValueError(f"must be {kind.allowed}, {distribution.type} reaches {value:g}.")
    return distribution


def _parsed(kind: Kind, value: object) -> Any:
    try:
        return kind.parse(value)
    except ValueError as error:
        raise ValueError(f"must be {error}, got {value!r}.") from None


def _cut_whole(distribution: Randint, number: Number) -> Randint:
    lower = max(distribution.lower, math.ceil(number.low))
    upper = distribution.upper if number.high is None else min(distribution.upper, number.high + 1)
    if lower >= upper:
        raise ValueError(f"must be {number.allowed}, randint is below {distribution.upper}.")
    return Randint(int(upper), lower)


def _cut_bell(distribution: Normal, number: Number) -> Normal:
    low, high = number.low, math.inf if number.high is None else number.high
    if (q := distribution.q) is not None:
        # Half a step around the first and the last multiple that is allowed.
        first = math.ceil(low / q - 1e-9)
        low = (first + number.above - 0.5) * q
        high = high if math.isinf(high) else (math.floor(high / q + 1e-9) + 0.5) * q
    if (base := distribution.base) is not None:
        low = math.log(low, base) if low > 0 else -math.inf
        high = math.log(high, base)
    far = 6 * distribution.sigma
    if low > distribution.mu + far or high < distribution.mu - far:
        raise ValueError(f"must be {number.allowed}, {distribution.type} hardly ever gives that.")
    return replace(distribution, low=low, high=high)


def shaped(drawn: float, q: float | None, base: float | None) -> float:
    """Return the value of a drawn number.

    Args:
        drawn: Number from a uniform or normal distribution.
        q: Step of the values; None: no steps.
        base: Base of the drawn exponent; None: the value itself was drawn.
    """
    try:
        value = drawn if base is None else base**drawn
    except OverflowError:
        return math.inf
    if q is None or math.isinf(value):
        return value
    steps = round(value / q)
    # 3 * 0.1 is 0.30000000000000004.
    return steps * q if isinstance(q, int) else float(f"{steps * q:.12g}")
