"""The job: what `train` is asked to do, as a closed document with every default filled in.

Top-level keys are Azure's (`reference/azure.md` §1.1) plus ours. This module knows keys and
shapes; which tasks, metrics and models exist is checked by `sweep/resolve.py`, and the problems
of both are shown together.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from autofocus.errors import JobError

# Runtime spellings that older pages and notebooks use -> the YAML's (azure.md §1.5).
PARAMETER_ALIASES = {
    "amsgrad": "ams_gradient",
    "box_detections_per_img": "box_detections_per_image",
    "box_score_thresh": "box_score_threshold",
    "grad_accumulation_step": "gradient_accumulation_step",
    "img_size": "image_size",
    "lr_scheduler": "learning_rate_scheduler",
    "nms_iou_thresh": "nms_iou_threshold",
    "num_workers": "number_of_workers",
    "tile_predictions_nms_thresh": "tile_predictions_nms_threshold",
    "train_crop_size": "training_crop_size",
    "valid_crop_size": "validation_crop_size",
    "valid_resize_size": "validation_resize_size",
}

PARAMETERS = (
    "model_name",
    "ams_gradient",
    "beta1",
    "beta2",
    "distributed",
    "early_stopping",
    "early_stopping_delay",
    "early_stopping_patience",
    "enable_onnx_normalization",
    "evaluation_frequency",
    "gradient_accumulation_step",
    "layers_to_freeze",
    "learning_rate",
    "learning_rate_scheduler",
    "momentum",
    "nesterov",
    "number_of_epochs",
    "number_of_workers",
    "optimizer",
    "random_seed",
    "step_lr_gamma",
    "step_lr_step_size",
    "training_batch_size",
    "validation_batch_size",
    "warmup_cosine_lr_cycles",
    "warmup_cosine_lr_warmup_epochs",
    "weight_decay",
    "augmentations",
    "advanced_settings",
    "checkpoint_frequency",
    "checkpoint_run_id",
    "training_crop_size",
    "validation_crop_size",
    "validation_resize_size",
    "weighted_loss",
    "box_detections_per_image",
    "box_score_threshold",
    "image_size",
    "max_size",
    "min_size",
    "model_size",
    "multi_scale",
    "nms_iou_threshold",
    "tile_grid_size",
    "tile_overlap_ratio",
    "tile_predictions_nms_threshold",
    "validation_iou_threshold",
    "validation_metric_type",
    "log_training_metrics",
    "log_validation_loss",
)

CLOUD_KEYS = (
    "compute",
    "resources",
    "queue_settings",
    "identity",
    "services",
    "environment_id",
    "environment_variables",
)

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)?\s*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}


def parse_duration(value: object) -> object:
    """Turn `90`, `"90s"`, `"5m"`, `"1h"` into seconds; leave the rest for the validator."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2]]
    if isinstance(value, str):
        raise ValueError("must be seconds, or a number with s, m, h or d, such as 90s, 5m or 1h")
    return value


def _parse_input(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _parse_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _canonical_parameters(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    unknown = [
        f"{name!r} is not a parameter{did_you_mean(str(name), PARAMETERS)}"
        for name in value
        if PARAMETER_ALIASES.get(str(name), name) not in PARAMETERS
    ]
    if unknown:
        raise ValueError(" ".join(unknown))
    return canonical_parameters({"training_parameters": value})


class Closed(BaseModel):
    """A part of the job: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class DataInput(Closed):
    """Where rows come from: an MLTable folder, a JSONL file or an image folder."""

    path: str
    type: str = "mltable"
    mode: str | None = None
    description: str | None = None


class Limits(Closed):
    """How much the job may do. Defaults: azure.md §1.1."""

    max_trials: Annotated[int, Field(ge=1, le=1000)] = 1
    max_concurrent_trials: Annotated[int, Field(ge=1, le=100)] = 1
    timeout_minutes: Annotated[float, Field(gt=0, le=86400)] | None = None


class DataRules(Closed):
    """What happens to invalid rows that are JSON."""

    on_invalid: Literal["skip", "error"] = "skip"


Input = Annotated[DataInput, BeforeValidator(_parse_input)]
Frac = Annotated[float, Field(gt=0, lt=1)]


class Job(Closed):
    """One `train` job."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    type: Literal["automl"] = "automl"
    task: str | None = None
    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    experiment_name: str | None = None
    tags: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    compute: str | dict[str, Any] | None = None
    resources: dict[str, Any] | None = None
    queue_settings: dict[str, Any] | None = None
    identity: dict[str, Any] | None = None
    services: dict[str, Any] | None = None
    environment_id: str | None = None
    environment_variables: dict[str, Any] | None = None
    outputs: dict[str, Any] = {}
    log_verbosity: Literal["not_set", "debug", "info", "warning", "error", "critical"] = "info"
    primary_metric: str | None = None
    target_column_name: str = "label"
    training_data: Input
    validation_data: Input | None = None
    validation_data_size: Frac = 0.2
    test_data: Input | None = None
    test_data_size: Frac | None = None
    limits: Limits = Limits()
    training_parameters: Annotated[dict[str, Any], BeforeValidator(_canonical_parameters)] = {}
    sweep: dict[str, Any] | None = None
    search_space: list[dict[str, Any]] | None = None
    # Ours.
    image_column_name: str = "image_url"
    image_root: str | None = None
    map: dict[str, str] = {}
    datastores: dict[str, str] = {}
    data: DataRules = DataRules()
    budget: Annotated[float, Field(gt=0), BeforeValidator(parse_duration)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: str = "auto"
    output_dir: str | None = None
    weights: str | None = None
    on_missing_weights: Literal["error", "substitute"] = "error"
    accept_license: Annotated[list[str], BeforeValidator(_parse_list)] = []

    @property
    def model_name(self) -> str | None:
        """The model the user named, or None."""
        name = self.training_parameters.get("model_name")
        return None if name is None else str(name)

    @property
    def budget_s(self) -> float | None:
        """Seconds the command may take: the smaller of `budget` and `limits.timeout_minutes`."""
        minutes = self.limits.timeout_minutes
        given = [s for s in (self.budget, None if minutes is None else minutes * 60) if s]
        return min(given, default=None)

    @property
    def data_maps(self) -> dict[str, str]:
        """Datastore names and URL prefixes to folders: `datastores` and `map` together."""
        return {**self.datastores, **self.map}

    @property
    def unused_keys(self) -> list[str]:
        """Keys that were given and mean something only in a cloud."""
        return [key for key in CLOUD_KEYS if key in self.model_fields_set]


def canonical_parameters(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's `training_parameters` under the YAML's spelling; {} if not a mapping."""
    given = document.get("training_parameters")
    if not isinstance(given, Mapping):
        return {}
    return {PARAMETER_ALIASES.get(str(name), str(name)): value for name, value in given.items()}


def read_document(path: Path) -> dict[str, Any]:
    """Read a job YAML; relative data paths become relative to its folder, as in Azure's CLI.

    Raises:
        JobError: If the file is missing, is not YAML, or is not a mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise JobError(f"{path}: {error.strerror or error}. Give a job YAML.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise JobError(
            f"{path}: not YAML: {reason}. This argument is the job; data is given with --data."
        ) from error
    if not isinstance(document, dict):
        raise JobError(f"{path}: a job is a mapping of keys, got {type(document).__name__}.")
    for key in ("training_data", "validation_data", "test_data"):
        _anchor(document, key, path.parent)
    return document


def _anchor(document: dict[str, Any], key: str, folder: Path) -> None:
    entry = document.get(key)
    value = entry.get("path") if isinstance(entry, dict) else entry
    if not isinstance(value, str) or "://" in value or value.startswith("azureml:"):
        return
    anchored = str(folder / value)
    document[key] = {**entry, "path": anchored} if isinstance(entry, dict) else anchored


def override(document: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `--set a.b=value` assignments; values are YAML, list positions are numbers.

    Raises:
        JobError: Names every assignment that does not fit.
    """
    problems = []
    result: dict[str, Any] = _copied(document)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            problems.append(f"--set {assignment}: must be KEY=VALUE, such as seed=7.")
            continue
        try:
            _assign(result, key.split("."), yaml.safe_load(text))
        except (KeyError, IndexError, ValueError, TypeError, yaml.YAMLError) as error:
            problems.append(f"--set {assignment}: there is no such place in the job ({error}).")
    if problems:
        raise JobError(problems)
    return result


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _assign(container: Any, keys: list[str], value: Any) -> None:
    head, *rest = keys
    key: Any = int(head) if isinstance(container, list) else head
    if not rest:
        container[key] = value
        return
    if isinstance(container, dict) and not isinstance(container.get(key), dict | list):
        container[key] = {}
    _assign(container[key], rest, value)


def check_job(document: Mapping[str, Any]) -> tuple[Job | None, list[str]]:
    """Check keys and shapes.

    Returns:
        The job, or None when it has problems, and every problem as a sentence.
    """
    try:
        return Job.model_validate(document), []
    except ValidationError as error:
        return None, [_sentence(dict(problem)) for problem in error.errors()]


def _sentence(problem: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in _fields_at(problem["loc"]).items()]
        return f"{place}: unknown key{did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{place}: required. {_MISSING_HINTS.get(place, '')}".rstrip()
    message = problem["msg"].removeprefix("Value error, ")
    if message.endswith((".", "?")):
        return f"{place}: {message}"
    return f"{place}: {message}, got {_shown(problem['input'])}."


_MISSING_HINTS = {"training_data": "Give --data SRC, or training_data in the job YAML."}


def _fields_at(loc: tuple[Any, ...]) -> dict[str, Any]:
    if len(loc) == 1:
        return dict(Job.model_fields)
    if loc[0] == "limits":
        return dict(Limits.model_fields)
    return dict(DataRules.model_fields if loc[0] == "data" else DataInput.model_fields)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return `; did you mean 'x'?` when something close is known, else a full stop."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def dump_job(job: Job) -> str:
    """Return the job as YAML with every default filled in."""
    document = job.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
