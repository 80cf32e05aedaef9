"""JSON schema of a job, for editors: what may be written where, what it means, and defaults.

Keys, types, ranges and meanings come from their declarations in `settings/`; tasks, metrics,
models, samplers and what the recipes agree on are added here. The schema describes a job as it
should be written; of other spellings the command itself takes more.
"""

from collections import defaultdict
from typing import Any

from autofocus.models import catalog
from autofocus.settings.fields import Number, Schema
from autofocus.settings.job import UNUSED_KEYS, Job
from autofocus.settings.parameters import PARAMETER_ALIASES, PARAMETERS
from autofocus.settings.search_space import ARGUMENTS
from autofocus.study.resolve import Plan, resolve
from autofocus.study.search.samplers import known_samplers
from autofocus.study.trials.recipes import default_values
from autofocus.tasks import TASKS

# Small and large sets of images, whose recipes differ.
NUM_IMAGES = (100, 5_000)

_PARAMETER = "#/$defs/TrainingParameters/properties/"
_REST_FORM = {"type": "string", "pattern": r"^\s*[A-Za-z_]+\s*\(.*\)\s*$"}


def job_schema() -> Schema:
    """Return the JSON schema (draft 2020-12) of a job."""
    schema = Job.model_json_schema()
    keys, parts = schema["properties"], schema["$defs"]
    parts["TrainingParameters"]["properties"] = _parameters(parts["TrainingParameters"])
    parts["Drawn"] = {"anyOf": [_drawn(kind) for kind in ARGUMENTS if kind != "choice"]}
    parts["SubSpace"] = _closed({name: _place(name) for name in (*PARAMETERS, *PARAMETER_ALIASES)})
    keys["search_space"]["anyOf"] = [
        {"type": "array", "items": {"$ref": "#/$defs/SubSpace"}, "minItems": 1},
        {"$ref": "#/$defs/SubSpace"},
    ]
    keys["task"]["enum"] = list(TASKS)
    metrics = [metric for task in TASKS.values() for metric in task.primary_metrics]
    keys["primary_metric"]["enum"] = list(dict.fromkeys(metrics))
    samplers = parts["Sampling"]["properties"]["type"]
    samplers["anyOf"] = [{"enum": [*known_samplers()]}, {"type": "string"}]
    for name in UNUSED_KEYS:
        keys[name]["description"] = "Accepted, not used here"
    for part in (schema, *parts.values()):
        _let_null_be_unset(part)
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "title": "Job of autofocus", **schema}


def _model_names() -> list[str]:
    """Return the names to propose; training takes more, such as any of timm's."""
    names = {*catalog.ALIASES, *catalog.AZURE_DETECTORS}
    names |= {catalog.default_model(task.model_kind) for task in TASKS.values()}
    return sorted(names | {spec.name for spec in catalog.known_models().values()})


def _parameters(declared: Schema) -> dict[str, Schema]:
    """Return the hyperparameters, with defaults, and their older spellings."""
    found: dict[str, Schema] = declared["properties"]
    defaults = common_defaults()
    for name, schema in found.items():
        schema["default"] = defaults.get(name)
    found["model_name"]["anyOf"] = [{"enum": [*_model_names(), "yolov5"]}, {"type": "string"}]
    older = {
        alias: {**found[name], "description": f"Same as `{name}`", "deprecated": True}
        for alias, name in PARAMETER_ALIASES.items()
    }
    return found | older


def _place(name: str) -> Schema:
    """Return what a search space may say of a parameter: a value, a text or a distribution."""
    value = {"$ref": _PARAMETER + name}
    choice = _closed({"type": {"const": "choice"}, "values": {"type": "array", "items": value}})
    choice["required"] = ["type", "values"]
    drawn = isinstance(PARAMETERS[PARAMETER_ALIASES.get(name, name)].kind, Number)
    return {"anyOf": [value, choice, _REST_FORM, *([{"$ref": "#/$defs/Drawn"}] if drawn else [])]}


def _drawn(kind: str) -> Schema:
    arguments = ARGUMENTS[kind]
    number = {"type": "number"}
    schema = _closed({"type": {"const": kind}, **dict.fromkeys(arguments, number)})
    return {**schema, "required": ["type", *arguments]}


def _closed(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


# Keys of a schema that do not say what is allowed.
_ABOUT = ("description", "default", "deprecated")


def _let_null_be_unset(part: Schema) -> None:
    """Drop titles and null defaults; let each key that is not required be null, "not set"."""
    part.pop("title", None)
    for name, schema in part.get("properties", {}).items():
        schema.pop("title", None)
        if schema.get("default", ...) is None:
            del schema["default"]
        options = schema.get("anyOf", [])
        if name in part.get("required", ()) or "const" in schema or _NULL in options:
            continue
        about = {key: schema.pop(key) for key in _ABOUT if key in schema}
        rest = schema.copy()
        schema.clear()
        schema |= {"anyOf": [*(options or [rest]), _NULL], **about}


_NULL = {"type": "null"}


def common_defaults() -> dict[str, Any]:
    """Return the hyperparameters whose default is the same for every model and set."""
    found = defaultdict(list)
    for plan in typical_plans():
        for num_images in NUM_IMAGES:
            for name, value in default_values(plan, num_images).items():
                found[name].append(value)
    return {
        name: values[0]
        for name, values in found.items()
        if all(value == values[0] for value in values)
    }


def typical_plans() -> list[Plan]:
    """Return the plan of a job with every known model, for each task that takes it."""
    models = {name: catalog.resolve(name) for name in _model_names()}
    return [
        resolve({"task": task.name, "training_data": "", "training_parameters": parameters})
        for task in TASKS.values()
        for name, spec in models.items()
        if spec.kind == task.model_kind and (parameters := {"model_name": name})
    ]
