"""Settings of a server: flags win over AUTOFOCUS_… variables, those over the defaults.

The only module of the server that reads the environment.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autofocus.errors import InputError
from autofocus.runtime import num_cores
from autofocus.scoring.request import ImageScorer
from autofocus.serve.explainer import Address, LoadExplainer

ENV_PREFIX = "AUTOFOCUS_"
MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Limits and address of one server.

    Attributes:
        workers: Number of processes; each scores one request at a time.
        api_key_file: File of keys, one a line; None serves everybody.
        max_body_bytes: Longest request body.
        max_pixels: Largest image, before decoding; None takes the image reader's own limit.
        max_images: Most images in one request.
        queue_size: Requests that may wait in each worker; more are answered 429.
        timeout_s: Longest time from a request's first byte to the start of its inference.
        explain_queue_size: Requests for explanations that may wait in each worker.
        explain_timeout_s: Longest time from such a request's first byte to its answer.
        max_explanations: Most explanations in one request, one a class and image.
        explain_warm_up: Load the explainer as soon as the server is ready, before the first
            request for an explanation.
        grace_s: Time for running requests after a stop signal.
    """

    host: str = "127.0.0.1"
    port: int = 5001
    workers: int = field(default_factory=num_cores)
    api_key_file: Path | None = None
    max_body_bytes: int = 64 * MIB
    max_pixels: int | None = None
    max_images: int = 256
    queue_size: int = 64
    timeout_s: float = 30.0
    explain_queue_size: int = 4
    explain_timeout_s: float = 90.0
    max_explanations: int = 64
    explain_warm_up: bool = True
    grace_s: float = 30.0


# Lowest and highest value.
_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "workers": (1, 1_024),
    "max_body_bytes": (1_024, 1 << 31),
    "max_pixels": (1, 1 << 31),
    "max_images": (1, 100_000),
    "queue_size": (0, 100_000),
    "timeout_s": (0.001, 86_400),
    "explain_queue_size": (0, 100_000),
    "explain_timeout_s": (0.001, 86_400),
    "max_explanations": (1, 100_000),
    "grace_s": (0, 86_400),
}
# Flags whose name is not the field's; they count in bigger units.
_FLAGS = {
    "queue_size": "--queue",
    "explain_queue_size": "--explain-queue",
    "max_body_bytes": "--max-body-mb",
    "max_pixels": "--max-megapixels",
}
_UNITS = {"max_body_bytes": " bytes", "max_pixels": " pixels"}
_TEXTS = {"host": str, "api_key_file": Path}
_SWITCHES = ("explain_warm_up",)
_SWITCHED = {"true": True, "1": True, "false": False, "0": False}


def read_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings that flags and environment add up to.

    Args:
        flags: Field name to value; None means that the flag was not given.
        environment: Variables, for tests; the process's own when None.

    Raises:
        InputError: Names every flag and variable whose value is not allowed.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    problems = []
    for name in (*_RANGES, *_TEXTS, *_SWITCHES):
        variable = ENV_PREFIX + name.upper()
        source, value = _FLAGS.get(name, f"--{name.replace('_', '-')}"), flags.get(name)
        if value is None and variable in variables:
            source, value = variable, variables[variable]
        if value is None:
            continue
        try:
            values[name] = _parsed(name, value)
        except ValueError as error:
            problems.append(f"{source} {error}, got {value!r}.")
    if problems:
        raise InputError(problems)
    return Settings(**values)


def _parsed(name: str, value: Any) -> Any:
    if name in _TEXTS:
        return _TEXTS[name](value)
    if name in _RANGES:
        return _number(name, value)
    if str(value).lower() not in _SWITCHED:
        raise ValueError("must be true or false")
    return _SWITCHED[str(value).lower()]


def _number(name: str, value: Any) -> float:
    low, high = _RANGES[name]
    is_float = name.endswith("_s")
    try:
        number = float(value) if is_float else int(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"must be {'a' if is_float else 'a whole'} number") from None
    # Written so that NaN fails.
    if not low <= number <= high:
        raise ValueError(f"must be between {low:,} and {high:,}{_UNITS.get(name, '')}")
    return number


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
    load: Callable[[Path, int | None], ImageScorer]
    load_explainer: LoadExplainer | None = None
    explainer: Address | None = None
    no_explanations: str = "This server gives no explanations."
