"""Check a job document: every problem at once, each as a sentence that says what to do."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
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
    Wanted,
    is_asset,
)
from autofocus.settings.parameters import PARAMETER_ALIASES, PARAMETERS, canonical_names
from autofocus.settings.spelling import did_you_mean

# pydantic's type of errors on keys that a model has not.
_UNKNOWN = "extra_forbidden"


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
    of_parameters = [error for error in errors if _of_parameter(error)]
    return [
        *(_sentence(error) for error in errors if not _of_parameter(error)),
        *_unknown_parameters(of_parameters),
        *(
            f"{_key(error)}: {_rule(error)}, got {error['input']!r}."
            for error in of_parameters
            if error["type"] != _UNKNOWN
        ),
    ]


def _unknown_parameters(errors: Sequence[ErrorDetails]) -> list[str]:
    """Return one sentence for all names that are no parameters, or none."""
    wrong = []
    for name in (str(error["loc"][-1]) for error in errors if error["type"] == _UNKNOWN):
        if other := PARAMETER_ALIASES.get(name):
            wrong.append(f"{name!r} and {other!r} are the same parameter; leave one out.")
        else:
            hint = _hint(name, [*PARAMETERS, *PARAMETER_ALIASES], is_top=False)
            wrong.append(f"{name!r} is not a parameter{hint.replace('training_parameters.', '')}")
    return [f"training_parameters: {' '.join(wrong)}"] if wrong else []


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
    ("thresholds",): Wanted,
    ("sweep",): Sweep,
    ("sweep", "sampling_algorithm"): Sampling,
    ("sweep", "early_termination", "bandit"): Bandit,
    ("sweep", "early_termination", "median_stopping"): MedianStopping,
    ("sweep", "early_termination", "truncation_selection"): TruncationSelection,
    ("sweep", "early_termination", "asha"): Asha,
    **{(role,): DataInput for role in DATA_FLAGS},
}


@cache
def _places() -> dict[str, str]:
    """Return the name of each key that somebody may look for -> its place in the job."""
    names = [*PARAMETERS, *PARAMETER_ALIASES]
    places = {name: f"training_parameters.{PARAMETER_ALIASES.get(name, name)}" for name in names}
    for part, model in reversed(_PARTS.items()):
        if model is not DataInput:
            known = (name for name, field in model.model_fields.items() if field.description)
            places |= {name: ".".join((*_without_policy(part), name)) for name in known}
    return places


def _hint(name: str, here: Iterable[str], *, is_top: bool) -> str:
    """Return the end of a sentence on an unknown name: the key that may be meant, or a full stop.

    Args:
        name: The unknown name.
        here: Names that are known where it stands.
        is_top: Whether that is the top of the job.
    """
    places, nearest = _places(), did_you_mean(name, here)
    if name not in places and nearest != ".":
        return nearest
    close = [name] if name in places else []
    if len(name) > len("lr_"):
        # `epochs` and `model` are words of longer names.
        words = set(name.split("_"))
        close += [known for known in places if words <= set(known.split("_"))]
    close += difflib.get_close_matches(name, places, n=1)
    if not close:
        return "."
    place = places[close[0]]
    owner = "" if is_top or "." in place else "the job's own key "
    return f"; did you mean {owner}{place!r}?"


def _without_policy(loc: Iterable[int | str]) -> tuple[str, ...]:
    # pydantic names the policy that a discriminator chose; the job has no such key.
    return tuple(str(part) for part in loc if part not in POLICIES)


def _key(error: ErrorDetails) -> str:
    return ".".join(_without_policy(error["loc"]))


def _rule(error: ErrorDetails) -> str:
    return error["msg"].removeprefix("Value error, ")


def _sentence(error: ErrorDetails) -> str:
    key = _key(error)
    if error["type"] == _UNKNOWN:
        *part, name = (str(item) for item in error["loc"])
        fields = _PARTS[tuple(part)].model_fields
        known = [field.alias or name for name, field in fields.items()]
        return f"{key}: unknown key{_hint(name, known, is_top=not part)}"
    if error["type"] == "missing":
        return f"{key}: required. {_MISSING_HINTS.get(key, '')}".rstrip()
    if _rule(error).endswith((".", "?")):
        return f"{key}: {_rule(error)}"
    return f"{key}: {_rule(error)}, got {_shortened(error['input'])}."


_MISSING_HINTS = {"training_data": "Give --data SRC, or training_data in the job YAML."}


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
