"""The published YAML of a batch deployment, as far as it says how a batch runs here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from autofocus.errors import JobError
from autofocus.settings.spelling import did_you_mean, spelled

# Key -> its least value. Since CLI 1.7 they stand under `settings`, before at the root.
_NUMBERS: Final = {
    "mini_batch_size": 1,
    "max_concurrency_per_instance": 1,
    "error_threshold": -1,
}
_SETTINGS: Final = (*_NUMBERS, "output_file_name", "output_action", "retry_settings")
# They mean something only in a cloud, or are said otherwise here: the model, the images.
_UNUSED: Final = (
    *("$schema", "name", "description", "tags", "endpoint_name", "type", "model", "properties"),
    *("code_configuration", "environment", "environment_variables", "compute", "resources"),
    *("logging_level", "input", "inputs", "outputs", "experiment_name", "instance_count"),
    *("job_definition", "partition_keys"),
)


@dataclass(frozen=True)
class Deployment:
    """What a deployment says; None where it says nothing.

    Attributes:
        mini_batch_size: Images that a thread takes at once.
        workers: Images that are scored at once.
        error_threshold: Images that may fail; -1 for any number.
        output_file_name: Name of the output.
        retries: How often a store that cannot be reached is asked again.
        unused: Keys that are given and have no effect here.
    """

    mini_batch_size: int | None = None
    workers: int | None = None
    error_threshold: int = -1
    output_file_name: str | None = None
    retries: int | None = None
    unused: tuple[str, ...] = field(default=())


def read_deployment(path: Path) -> Deployment:
    """Read a deployment's YAML.

    Raises:
        JobError: Names every key that is unknown and every value that is not allowed.
    """
    document = _parse(path)
    problems: list[str] = []
    settings = document.pop("settings", None) or {}
    given = {**_known(document, "", problems), **_known(settings, "settings.", problems)}
    numbers = {
        key: _number(given.get(key), key, least, problems) for key, least in _NUMBERS.items()
    }
    name = given.get("output_file_name")
    if name is not None and (not isinstance(name, str) or Path(name).name != name or not name):
        problems.append(f"output_file_name: must be the name of a file, got {name!r}.")
    unused = [key for key in given if key in _UNUSED and key != "$schema"]
    if spelled(given.get("output_action"), ("append_row",)) is None and "output_action" in given:
        unused.append(f"output_action: {given['output_action']}")
    retry = given.get("retry_settings") or {}
    if not isinstance(retry, dict):
        problems.append(f"retry_settings: must be a mapping, got {retry!r}.")
        retry = {}
    retries = _number(retry.get("max_retries"), "retry_settings.max_retries", 0, problems)
    unused += [f"retry_settings.{key}" for key in retry if key != "max_retries"]
    threshold = numbers["error_threshold"]
    if problems:
        raise JobError([f"{path}: {problem}" for problem in problems])
    return Deployment(
        mini_batch_size=numbers["mini_batch_size"],
        workers=numbers["max_concurrency_per_instance"],
        error_threshold=-1 if threshold is None else threshold,
        output_file_name=name,
        retries=retries,
        unused=tuple(unused),
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise JobError(f"{path}: cannot be read as YAML: {reason}.") from error
    if not isinstance(document, dict):
        raise JobError(f"{path}: a batch deployment is a mapping of keys.")
    return document


def _known(entries: Any, where: str, problems: list[str]) -> dict[str, Any]:
    """Return the entries by their published names; the REST interface writes `miniBatchSize`."""
    if not isinstance(entries, dict):
        problems.append(f"{where.rstrip('.')}: must be a mapping, got {entries!r}.")
        return {}
    found = {}
    for key, value in entries.items():
        name = spelled(key, (*_SETTINGS, *_UNUSED))
        if name is None:
            problems.append(
                f"{where}{key}: is no key of a batch deployment{did_you_mean(str(key), _SETTINGS)}"
            )
        else:
            found[name] = value
    return found


def _number(value: Any, key: str, least: int, problems: list[str]) -> int | None:
    if value is None:
        return None
    # True is an int too.
    if type(value) is int and value >= least:
        return value
    problems.append(f"{key}: must be a whole number of at least {least}, got {value!r}.")
    return None
