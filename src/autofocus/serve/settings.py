"""Settings of a server: flags win over AUTOFOCUS_… variables, those over the defaults.

The only module of the server that reads the environment.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from autofocus.errors import InputError
from autofocus.runtime import num_cores
from autofocus.settings.fields import FilePath, Flag, Kind, Number, Text
from autofocus.settings.options import Option, options_of

if TYPE_CHECKING:
    # The command line reads the settings of every command.
    from autofocus.scoring.request import ImageScorer
    from autofocus.serve.explainer import Address, LoadExplainer

ENV_PREFIX: Final = "AUTOFOCUS_"


@dataclass(frozen=True)
class Setting(Option):
    """Declaration of one setting. Its variable is its name, see `ENV_PREFIX`.

    Attributes:
        unit: Unit of the value, for messages.
        flag: Name of the flag, where it is not the setting's.
        per: Number of units in one of the flag's.
        has_flag: Whether there is a flag.
    """

    unit: str = ""
    flag: str | None = None
    per: float = 1
    has_flag: bool = True

    @property
    def flag_kind(self) -> Kind:
        """Kind of the values of its flag, which may be fractions of a bigger unit."""
        return self.kind if self.per == 1 else Number(0)

    def default_of(self, value: Any) -> str:
        """Return a default in words, in the flag's unit."""
        return super().default_of(value if self.per == 1 or value is None else value / self.per)


def _whole(low: int, high: int) -> Number:
    return Number(low, high, whole=True)


_COUNT: Final = _whole(1, 100_000)
_PLACES: Final = _whole(0, 100_000)
_SECONDS: Final = Number(0.001, 86_400)
_variable = partial(Setting, has_flag=False)


@dataclass(frozen=True)
class Settings:
    """Limits and address of one server."""

    host: Annotated[str, Setting(Text(), "Address")] = "127.0.0.1"
    port: Annotated[
        int, Setting(_whole(0, 65_535), "Port; 0 takes a free one", "it is printed")
    ] = 5001
    workers: Annotated[
        int,
        Setting(
            _whole(1, 1_024),
            "Processes",
            "each scores one request at a time, its images also on cores that are free",
            "number of cores",
        ),
    ] = field(default_factory=num_cores)
    api_key_file: Annotated[
        Path | None,
        Setting(FilePath(), "Bearer keys, one a line", "read again when it changes", "none needed"),
    ] = None
    max_body_bytes: Annotated[
        int,
        Setting(
            _whole(1_024, 1 << 31),
            "Longest request, MiB",
            "checked before and while reading",
            unit=" bytes",
            flag="max_body_mb",
            per=1 << 20,
        ),
    ] = 64 << 20
    max_pixels: Annotated[
        int | None,
        Setting(
            _whole(1, 1 << 31),
            "Largest image, in millions of pixels",
            "checked before decoding; without it the image reader's 179",
            unit=" pixels",
            flag="max_megapixels",
            per=1_000_000,
        ),
    ] = None
    max_header_bytes: Annotated[
        int,
        _variable(
            _whole(1_024, 1 << 20),
            "Longest head of a request, its first line and headers",
            "of at most 128 headers",
            unit=" bytes",
        ),
    ] = 64 << 10
    header_timeout_s: Annotated[
        float, _variable(_SECONDS, "Seconds until a head must be there, once begun")
    ] = 10.0
    max_connections: Annotated[
        int,
        _variable(
            _whole(1, 1 << 20), "Connections of each worker", "always fewer than it may open files"
        ),
    ] = 4096
    max_images: Annotated[int, _variable(_COUNT, "Images in one request")] = 256
    queue_size: Annotated[
        int, Setting(_PLACES, "Requests that may wait in each worker", flag="queue")
    ] = 64
    timeout_s: Annotated[
        float,
        Setting(
            _SECONDS,
            "Seconds until a request must start",
            "what runs may take as long again, at least 10",
        ),
    ] = 30.0
    explain_queue_size: Annotated[
        int, Setting(_PLACES, "Explanations that may wait in each worker", flag="explain_queue")
    ] = 4
    explain_timeout_s: Annotated[
        float, Setting(_SECONDS, "Seconds until an explanation is done")
    ] = 90.0
    max_explanations: Annotated[
        int, _variable(_COUNT, "Explanations in one request", "one a class or box and image")
    ] = 64
    explain_warm_up: Annotated[
        bool, Setting(Flag(), "Load what explanations need once the server is ready")
    ] = True
    grace_s: Annotated[
        float, _variable(Number(0, 86_400), "Seconds for running requests after a stop signal")
    ] = 30.0


SETTINGS: Final = options_of(Settings, Setting)
# Flag, as a Python name -> setting.
FLAGS: Final = {
    setting.flag or name: name for name, setting in SETTINGS.items() if setting.has_flag
}


def read_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings that flags and environment add up to.

    Args:
        flags: Keys of `FLAGS` and their values, in the flag's unit; None means not given.
        environment: Variables, for tests; the process's own when None.

    Raises:
        InputError: Names every flag and variable whose value is not allowed.
    """
    variables = os.environ if environment is None else environment
    given = {FLAGS[flag]: value for flag, value in flags.items() if value is not None}
    values: dict[str, Any] = {}
    problems = []
    for name, setting in SETTINGS.items():
        variable = ENV_PREFIX + name.upper()
        if name in given:
            flag = (setting.flag or name).replace("_", "-")
            source, value = f"--{flag}", _in_units(setting, given[name])
        elif variable in variables:
            source, value = variable, variables[variable]
        else:
            continue
        try:
            values[name] = setting.kind.parse(value)
        except ValueError:
            problems.append(f"{source} must be {_rule(setting, value)}, got {value!r}.")
    if problems:
        raise InputError(problems)
    return Settings(**values)


def _in_units(setting: Setting, value: Any) -> Any:
    """Return a flag's value in the setting's unit; whole numbers of units are meant."""
    if setting.per == 1:
        return value
    scaled = value * setting.per
    return int(scaled) if math.isfinite(scaled) else scaled


def _rule(setting: Setting, value: object) -> str:
    """Return what a value is not: a number of this kind, or one in its range."""
    kind = setting.kind
    if not isinstance(kind, Number):
        return kind.allowed
    if not _is_number(value, whole=kind.whole):
        return f"a {'whole ' if kind.whole else ''}number"
    return f"between {kind.low:,} and {kind.high:,}{setting.unit}"


def _is_number(value: Any, *, whole: bool) -> bool:
    try:
        return float(value).is_integer() or not whole
    except (TypeError, ValueError, OverflowError):
        return False


@dataclass(frozen=True)
class ServerPlan:
    """Plan of a server: model, limits, keys. Travels to new processes.

    Attributes:
        folder: The model folder.
        keys: Digests of the allowed keys; none serves everybody.
        load: Loads the model from `folder` with a limit of pixels; a function of a module, so
            that it travels.
        load_explainer: The same for explanations; None serves none.
        explainer: Address of the explaining process; None where there is none. Filled in by
            `run.serve`.
        no_explanations: Reason why there is none.
    """

    folder: Path
    settings: Settings
    keys: list[bytes]
    load: "Callable[[Path, int | None], ImageScorer]"
    load_explainer: "LoadExplainer | None" = None
    explainer: "Address | None" = None
    no_explanations: str = "This server gives no explanations."
