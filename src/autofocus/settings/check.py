"""Check a job document: every problem at once, each as a sentence that says what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from autofocus.settings.job import (
    DATA_FLAGS,
    POLICIES,
    Asha,
    Bandit,
    DataInput,
    DataRules,
    Job,
    Limits,
    MedianStopping,
    Sampling,
    Sweep,
    TruncationSelection,
    is_asset,
)
from autofocus.settings.parameters import canonical_names, parameter_sentences
from autofocus.settings.spelling import did_you_mean


def check_job(document: Mapping[str, Any]) -> tuple[Job, list[str]]:
    """Check keys and shapes.

    Returns:
        The job without what is wrong with it, so that the rest can be checked too, and every
        problem as a sentence.
    """
    document, problems = _with_assets(document)
    try:
        job = Job.model_validate(document)
    except ValidationError as error:
        errors = error.errors()
        problems = [*_sentences(errors), *problems]
        job = Job.model_validate(_without(document, errors))
    return job, problems + _node_count_problems(job)


def _of_parameter(error: ErrorDetails) -> bool:
    return error["loc"][0] == "training_parameters" and len(error["loc"]) > 1


def _without(document: Mapping[str, Any], errors: Sequence[ErrorDetails]) -> dict[str, Any]:
    """Return a document without the parameters and the top-level keys that are wrong."""
    keys = {str(error["loc"][0]) for error in errors if not _of_parameter(error)}
    rest = {key: value for key, value in document.items() if str(key) not in keys}
    # A job has data; nobody reads this one's, for there is a problem.
    rest.setdefault("training_data", "")
    if parameters := {error["loc"][1] for error in errors if _of_parameter(error)}:
        given = canonical_names(rest["training_parameters"])
        right = {name: value for name, value in given.items() if name not in parameters}
        rest["training_parameters"] = right
    return rest


def _sentences(errors: Sequence[ErrorDetails]) -> list[str]:
    before = [error for error in errors if not _of_parameter(error)]
    return [
        *map(_sentence, before),
        *parameter_sentences(error for error in errors if _of_parameter(error)),
    ]


def _with_assets(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the document with paths of mapped data assets, and the problems of the others."""
    result, problems = dict(document), []
    maps: dict[str, str] = {}
    for key in ("datastores", "map"):
        given = document.get(key)
        maps.update(given if isinstance(given, Mapping) else {})
    for role, flag in DATA_FLAGS.items():
        entry = document.get(role)
        path = entry.get("path") if isinstance(entry, Mapping) else entry
        if not isinstance(path, str):
            continue
        if "${{" in path:
            problems.append(
                f"{role}: {path} is made by another node of the pipeline, which is not run here. "
                f"Give the data with {flag} SRC."
            )
        if not is_asset(path):
            continue
        if path in maps:
            result[role] = (
                {**entry, "path": maps[path]} if isinstance(entry, Mapping) else maps[path]
            )
            continue
        problems.append(
            f"{role}: {path!r} is registered in a cloud workspace, which is not asked here. Give "
            f"its data with {flag} SRC, or --map {path}=DIR."
        )
    return result, problems


def _node_count_problems(job: Job) -> list[str]:
    count = job.properties.get("node_count_per_trial", 1)
    if str(count).isdigit() and int(str(count)) >= 1:
        return []
    key = "properties.node_count_per_trial"
    return [f"{key}: must be a whole number ≥ 1, got {count!r}."]


# Path of a closed part of the job -> its model.
_PARTS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Job,
    ("limits",): Limits,
    ("data",): DataRules,
    ("sweep",): Sweep,
    ("sweep", "sampling_algorithm"): Sampling,
    ("sweep", "early_termination", "bandit"): Bandit,
    ("sweep", "early_termination", "median_stopping"): MedianStopping,
    ("sweep", "early_termination", "truncation_selection"): TruncationSelection,
    ("sweep", "early_termination", "asha"): Asha,
    **{(role,): DataInput for role in DATA_FLAGS},
}


def _sentence(problem: ErrorDetails) -> str:
    loc = tuple(str(part) for part in problem["loc"])
    # pydantic names the policy that a discriminator chose; the job has no such key.
    key = ".".join(part for part in loc if part not in POLICIES)
    if problem["type"] == "extra_forbidden":
        fields = _PARTS[loc[:-1]].model_fields
        known = [field.alias or name for name, field in fields.items()]
        return f"{key}: unknown key{did_you_mean(loc[-1], known)}"
    if problem["type"] == "missing":
        return f"{key}: required. {_MISSING_HINTS.get(key, '')}".rstrip()
    message = problem["msg"].removeprefix("Value error, ")
    if message.endswith((".", "?")):
        return f"{key}: {message}"
    return f"{key}: {message}, got {_shortened(problem['input'])}."


_MISSING_HINTS = {"training_data": "Give --data SRC, or training_data in the job YAML."}


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
