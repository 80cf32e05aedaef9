"""Kinds of values that settings have: what is taken, how it is read, and what is said of it.

A kind is the metadata of a pydantic field, so that one line declares a setting:

    n_steps: Annotated[int, Number(2, 1000, whole=True)] = 50

reads the value, says what is allowed, and writes the field's JSON schema. Kinds can also be used
alone: `Number(0, 1).parse("0.5")`.

Published parsing of the runtime (`reference/azure.md` §1.5): "4.0" is an int, 4.2 is not;
y/yes/t/true/on/1 and their opposites are booleans. A kind that is `strict` takes JSON's types as
they are instead, as a request has them.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autofocus.settings.spelling import spelled

if TYPE_CHECKING:
    # Packages carry this module, and `--help` of every command reads it; neither needs pydantic.
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

Schema = dict[str, Any]

# Most tiles of an image across, or down.
MAX_TILES = 16
_GRID_RULE = (
    f"tiles across x tiles down, such as 3x2, each at most {MAX_TILES} and more than one tile; "
    "or auto"
)

_TRUE = ("1", "true", "t", "yes", "y", "on", "enable", "enabled")
_FALSE = ("0", "false", "f", "no", "n", "off", "disable", "disabled")
# The SDK writes `log_training_metrics: LogTrainingMetrics.ENABLE` into its YAML.
_ENUM_CLASS = re.compile(r"^log[a-z]+\.")
_UNSET = ("none", "not_set")

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)?\s*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}


# Part of training that reads a hyperparameter: of every model, of tasks with class weights, of
# networks that see one crop, of tasks with objects or their outlines, of networks that take any
# input size, of what stands in for YOLOv5; or nobody here, but a cloud's runtime.
Reader = Literal["all", "classes", "crops", "objects", "outlines", "any size", "yolov5", "nobody"]


class Kind(ABC):
    """One kind of values."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """Allowed values in words that follow "must be"."""

    @abstractmethod
    def parse(self, value: object) -> Any:
        """Return the value that `value` means; None: not set.

        Raises:
            ValueError: If it is not allowed; the message is `allowed`.
        """

    @abstractmethod
    def schema(self) -> Schema:
        """Return the JSON schema of a value as it should be written."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(
        self, core: "CoreSchema", handler: "GetJsonSchemaHandler"
    ) -> Schema:
        return self.schema()

    def _validated(self, value: object) -> Any:
        try:
            return self.parse(value)
        except ValueError:
            raise ValueError(f"must be {self.allowed}") from None


@dataclass(frozen=True)
class Number(Kind):
    """Numbers in a range.

    Attributes:
        low: Least value.
        high: Greatest value; None: unlimited.
        above: Whether `low` itself is excluded.
        below: Whether `high` itself is excluded.
        whole: Whether only whole numbers are allowed.
        least: Floor to which smaller values in the range are raised; None: no floor.
        strict: Whether texts, and floats for whole numbers, are refused.
    """

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False
    whole: bool = False
    least: float | None = None
    strict: bool = False

    def parse(self, value: object) -> float:
        """See `Kind.parse`."""
        number = self._as_float(value)
        if not self.holds(number):
            raise ValueError(self.allowed)
        if self.strict:
            # As given: 1 stays an int.
            return value  # type: ignore[return-value]
        if self.least is not None:
            number = max(self.least, number)
        return int(number) if self.whole else number

    @property
    def allowed(self) -> str:
        """See `Kind.allowed`."""
        if self.whole:
            start = f"a whole number ≥ {self.low:g}"
            both = f"a whole number in [{self.low:.0f}, {self.high or 0:.0f}]"
            return start if self.high is None else both
        start = f"a number {'>' if self.above else '≥'} {self.low:g}"
        end = "" if self.high is None else f" and {'<' if self.below else '≤'} {self.high:g}"
        return start + end

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        schema: Schema = {"type": "integer" if self.whole else "number"}
        schema["exclusiveMinimum" if self.above else "minimum"] = self.low
        if self.high is not None:
            schema["exclusiveMaximum" if self.below else "maximum"] = self.high
        return schema

    def holds(self, number: float) -> bool:
        """Return whether a number is allowed."""
        if not math.isfinite(number) or (self.whole and number != int(number)):
            return False
        if number < self.low or (self.above and number == self.low):
            return False
        return self.high is None or number < self.high or (number == self.high and not self.below)

    def _as_float(self, value: object) -> float:
        types = (int,) if self.strict and self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, types if self.strict else _NUMERIC):
            raise ValueError(self.allowed)
        try:
            return float(value)
        except (ValueError, OverflowError):
            raise ValueError(self.allowed) from None


_NUMERIC = (int, float, str)


@dataclass(frozen=True)
class Flag(Kind):
    """True or false.

    Attributes:
        strict: Whether only JSON's true and false are taken.
    """

    allowed = "true or false"

    strict: bool = False

    def parse(self, value: object) -> bool:
        """See `Kind.parse`."""
        if isinstance(value, bool):
            return value
        if self.strict:
            raise ValueError(self.allowed)
        text = _ENUM_CLASS.sub("", str(value).strip().lower()).removesuffix(".0")
        if text not in _TRUE + _FALSE:
            raise ValueError(self.allowed)
        return text in _TRUE

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        if self.strict:
            return {"type": "boolean"}
        words = [word for word in _TRUE[1:] + _FALSE[1:] for word in (word, word.capitalize())]
        of_sdk = {"type": "string", "pattern": r"^Log[A-Za-z]+\.(EN|DIS)ABLE$"}
        return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1, *words]}, of_sdk]}


@dataclass(frozen=True)
class OneOf(Kind):
    """Names, in any of their spellings.

    Attributes:
        names: Known names.
        may_be_unset: Whether `none` and `not_set` mean "not set".
        strict: Whether names are taken only as they are written in `names`.
    """

    names: tuple[str, ...]
    may_be_unset: bool = False
    strict: bool = False

    def parse(self, value: object) -> str | None:
        """See `Kind.parse`."""
        if self.may_be_unset and is_unset(value):
            return None
        if self.strict:
            name = next((name for name in self.names if name == value), None)
        else:
            name = spelled(value, self.names)
        if name is None:
            raise ValueError(self.allowed)
        return name

    @property
    def allowed(self) -> str:
        """See `Kind.allowed`."""
        return f"one of {', '.join(self.names)}"

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"enum": [*self.names, *(_UNSET if self.may_be_unset else ())]}


@dataclass(frozen=True)
class Text(Kind):
    """Any text; numbers are texts too."""

    allowed = "a text"

    def parse(self, value: object) -> str:
        """See `Kind.parse`."""
        return str(value)

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"type": "string"}


@dataclass(frozen=True)
class FilePath(Kind):
    """Any path of a file."""

    allowed = "a path"

    def parse(self, value: object) -> Path:
        """See `Kind.parse`."""
        return Path(str(value))

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"type": "string"}


@dataclass(frozen=True)
class Duration(Kind):
    """Times in seconds: `90`, `90s`, `5m`, `1.5h`, `2d`."""

    allowed = "seconds, or a number with s, m, h or d, such as 90s, 5m or 1h"

    def parse(self, value: object) -> float:
        """See `Kind.parse`."""
        match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
        if match is None:
            raise ValueError(self.allowed)
        return float(match[1]) * _SECONDS[match[2]]

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        pattern = f"^{_DURATION.pattern}$"
        number = {"type": "number", "exclusiveMinimum": 0}
        return {"anyOf": [number, {"type": "string", "pattern": pattern}]}


_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


@dataclass(frozen=True)
class Quantity(Kind):
    """Numbers above 0 with a unit, which they keep: 15 alone could be seconds or milliseconds.

    Attributes:
        units: Units, and how much one of each is.
        example: A value.
    """

    units: Mapping[str, float] = field(hash=False)
    example: str

    @property
    def allowed(self) -> str:
        """See `Kind.allowed`."""
        return f"a number > 0 with {' or '.join(self.units)}, such as {self.example}"

    def parse(self, value: object) -> str:
        """See `Kind.parse`."""
        match = _QUANTITY.fullmatch(str(value))
        unit = spelled(match[2], self.units) if match else None
        if match is None or unit is None or not float(match[1]):
            raise ValueError(self.allowed)
        return f"{match[1]}{unit}"

    def amount(self, text: str) -> float:
        """Return the value of a parsed text, in the unit of size 1."""
        number, unit = re.split(r"(?<=\d)(?=[A-Za-z])", text)
        return float(number) * self.units[unit]

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        units = "|".join(self.units)
        return {"type": "string", "pattern": rf"^\s*\d+(\.\d+)?\s*({units})\s*$"}


LATENCY = Quantity({"ms": 0.001, "s": 1.0}, "15ms")
SIZE = Quantity({"kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20}, "20MB")


class TileGrid(Kind):
    """`auto`, or a grid of tiles; read as `3x2`, tiles across x tiles down."""

    allowed = _GRID_RULE

    def parse(self, value: object) -> str | None:
        """See `Kind.parse`."""
        if is_unset(value):
            return None
        if str(value).strip().lower() == "auto":
            return "auto"
        across, down = read_tile_grid(value)
        return f"{across}x{down}"

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"type": "string", "pattern": r"^(auto|none|[(\[]?\s*\d+\s*[x,]\s*\d+\s*[)\]]?)$"}


class JsonObject(Kind):
    """A JSON object, as a string or a mapping."""

    allowed = """a JSON object, such as '{"stream_image_files": true}'"""

    def parse(self, value: object) -> dict[str, Any] | None:
        """See `Kind.parse`."""
        if isinstance(value, str) and is_unset(value):
            return None
        try:
            settings = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            settings = None
        if not isinstance(settings, Mapping):
            raise ValueError(self.allowed)
        return dict(settings)

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"type": ["string", "object"]}


def is_unset(value: object) -> bool:
    """Return whether a value is a published word for "not set"."""
    return str(value).strip().lower() in _UNSET


def read_tile_grid(value: object) -> tuple[int, int]:
    """Return (across, down) of a `tile_grid_size`: `3x2`, `(3, 2)` or `[3, 2]`.

    Raises:
        ValueError: If it is no grid, or has one tile or too many; says what is allowed.
    """
    numbers = re.fullmatch(r"[(\[]?\s*(\d+)\s*[x×,]\s*(\d+)\s*[)\]]?", str(value).strip().lower())
    across, down = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not (1 <= across <= MAX_TILES and 1 <= down <= MAX_TILES) or across * down == 1:
        raise ValueError(_GRID_RULE)
    return across, down
