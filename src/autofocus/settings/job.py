"""The job of `train`: a closed document with every default filled in.

Top-level keys are Azure's (`reference/azure.md` §1.1) plus ours. This module knows keys and
shapes; which tasks, metrics and models exist is checked by `study/resolve.py`, and the problems
of both are shown together.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from autofocus.settings.fields import LATENCY, SIZE, Duration, Number
from autofocus.settings.parameters import Parameters
from autofocus.settings.search_space import canonical_space
from autofocus.settings.spelling import did_you_mean, spelled

# Keys that are accepted and have no effect here. They mean something only in a cloud, but for
# `test_data_size`, which Azure does not use for images either (`reference/azure.md` §1.1).
UNUSED_KEYS = (
    "test_data_size",
    "compute",
    "resources",
    "queue_settings",
    "identity",
    "services",
    "environment_id",
    "environment_variables",
    "id",
    "status",
    "creation_context",
    "log_files",
)

# Role of data -> its flag.
DATA_FLAGS = {
    "training_data": "--data",
    "validation_data": "--validation-data",
    "test_data": "--test-data",
}

# `azureml:fridge:1`, `azureml:fridge@latest` and ids of a workspace. The SDK writes local paths
# as `azureml:./data/train`, without a version.
_ASSET = re.compile(r"azureml:(/subscriptions/.*|[^/\\:@]+[:@][^/\\]+)", re.IGNORECASE)


def is_asset(path: str) -> bool:
    """Return whether a path names data that is registered in a cloud workspace."""
    return _ASSET.fullmatch(path) is not None


def local_path(path: str) -> str:
    """Return a data path without the `azureml:` that the SDK puts before local paths."""
    if path.startswith("azureml://") or is_asset(path):
        return path
    return path.removeprefix("azureml:")


def _parse_input(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _parse_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _spelling_of(*names: str) -> BeforeValidator:
    """Let `Debug` and `DEBUG` mean `debug`; leave unknown names for the validator."""
    return BeforeValidator(lambda value: spelled(value, names) or value)


class Closed(BaseModel):
    """Part of the job: unknown keys are errors, null means not set."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_unset(cls, value: object) -> object:
        # A job that is read back has null for keys that were not set.
        if not isinstance(value, Mapping):
            return value
        return {key: item for key, item in value.items() if item is not None}


def _about(text: str) -> Any:
    """Return the metadata of a key that says what it means, in docs, schema and suggestions."""
    return Field(description=text)


class _OrText:
    """Metadata of a key that may also be written as a text."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


class DataInput(Closed):
    """Source of rows: an MLTable folder, a JSONL file or an image folder."""

    path: Annotated[str, BeforeValidator(lambda v: local_path(v) if isinstance(v, str) else v)]
    type: str = "mltable"
    mode: str | None = None
    description: str | None = None
    datastore: str | None = None
    path_on_compute: str | None = None


class Limits(Closed):
    """Limits on trials, time and the model. Defaults: azure.md §1.1."""

    max_trials: Annotated[
        int, Field(ge=1, le=1000), _about("Most trials; AutoMode without it: as the budget allows")
    ] = 1
    max_concurrent_trials: Annotated[
        int, Field(ge=1, le=100), _about("Most trials at the same time")
    ] = 1
    timeout_minutes: Annotated[
        Annotated[float, Field(gt=0, le=86400)] | None, _about("Wall time, as `budget`")
    ] = None
    max_latency: Annotated[
        Annotated[str, LATENCY] | None,
        _about("Most time of one image in the network, here, on one core: `15ms`, `0.2s`"),
    ] = None
    max_size: Annotated[
        Annotated[str, SIZE] | None, _about("Largest ONNX file of the network: `20MB`, `8MiB`")
    ] = None


_SHARE_RULE = "a share > 0 and ≤ 1, such as 0.95, or CLASS=SHARE, such as cat=0.98"


def _parse_wishes(value: object) -> object:
    """Return the share by class that `0.95`, `cat=0.98` or a list of these means."""
    if isinstance(value, Mapping):
        items: list[tuple[object, object]] = list(value.items())
    else:
        texts = [str(each) for each in (value if isinstance(value, list) else [value])]
        items = [(label or "*", share) for label, _, share in (t.rpartition("=") for t in texts)]
    try:
        wishes = {str(label): Number(0, 1, above=True).parse(share) for label, share in items}
    except ValueError:
        raise ValueError(f"must be {_SHARE_RULE}") from None
    if len(wishes) < len(items):
        raise ValueError("must name each class once")
    return wishes


_SHARE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
_WISH = {"anyOf": [_SHARE, {"type": "string"}]}
Wishes = Annotated[
    dict[str, float],
    BeforeValidator(_parse_wishes),
    WithJsonSchema(
        {
            "anyOf": [
                *_WISH["anyOf"],
                {"type": "array", "items": _WISH},
                {"type": "object", "additionalProperties": _SHARE},
            ]
        }
    ),
]


class Wanted(Closed):
    """Precision and recall that score thresholds are fitted for, by class; `*` is all together."""

    min_precision: Annotated[Wishes, _about("Least precision: `0.95`, `cat=0.98`, or both")] = {}
    min_recall: Annotated[Wishes, _about("Least recall, likewise")] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is wanted: no threshold is fitted."""
        return not self.min_precision and not self.min_recall


class DataRules(Closed):
    """What rows say beside image and label, and treatment of invalid ones that are JSON."""

    on_invalid: Annotated[
        Literal["skip", "error"], _about("Whether an invalid row ends the command")
    ] = "skip"
    group_column: Annotated[
        str | None,
        _about(
            "Column, or field of `image_details`, of what images belong to (a camera, a patient, a "
            "source photo): images of one group never cross a fold or a split"
        ),
    ] = None
    coordinates: Annotated[
        Literal["pixels", "fractions"] | None,
        _about("What numbers of COCO, VOC and VIA are; else they are what they look like"),
    ] = None
    masks: Annotated[
        Literal["objects", "classes"] | None,
        _about("What the numbers in masks are of; else of objects"),
    ] = None
    class_name: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        _about("Class of objects that have no name (masks, VIA); else `object`"),
    ] = None


Rule = Literal["random", "sobol"]
SAMPLINGS = ("random", "sobol", "grid", "bayesian")


class Sampling(Closed):
    """Sampler of the search space. `type: sobol` is short for its `rule`.

    Other distributions may add types; `study/search/samplers.py` knows which there are.
    """

    type: Annotated[Literal["random", "grid", "bayesian"] | str, _spelling_of(*SAMPLINGS)] = (
        "random"
    )
    seed: Annotated[
        Annotated[int, Field(ge=0, lt=2**63)] | None, _about("Instead of the job's `seed`")
    ] = None
    rule: Annotated[Rule, _spelling_of("random", "sobol"), _about("Kind of `random`")] = "random"
    logbase: Annotated[
        Annotated[float, Field(gt=1)] | Literal["e"], _about("Base of log distributions' exponents")
    ] = "e"

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        fields = {"type": value} if isinstance(value, str) else value
        if isinstance(fields, Mapping) and spelled(fields.get("type"), SAMPLINGS) == "sobol":
            return {**fields, "type": "random", "rule": "sobol"}
        return fields


# The SDK writes 0 for keys that were not given.
Interval = Annotated[
    int,
    Field(ge=1),
    BeforeValidator(lambda value: value or 1),
    WithJsonSchema({"type": "integer", "minimum": 0}),
]
Slack = Annotated[
    Annotated[float, Field(gt=0)] | None,
    BeforeValidator(lambda value: value or None),
    WithJsonSchema({"type": "number", "minimum": 0}),
]


class Policy(Closed):
    """Early termination policy, applied at every multiple of the interval from the delay on.

    An interval is one evaluation, which is when the primary metric is measured.
    """

    evaluation_interval: Annotated[Interval, _about("Evaluations between two looks")] = 1
    delay_evaluation: Annotated[int, Field(ge=0), _about("Evaluations before the first look")] = 0


class Bandit(Policy):
    """Policy that stops trials further from the best one than the slack; one slack is given."""

    type: Literal["bandit"] = "bandit"
    slack_factor: Annotated[Slack, _about("Stops below best / (1 + this)")] = None
    slack_amount: Annotated[Slack, _about("Stops below best - this")] = None

    @model_validator(mode="after")
    def _one_slack(self) -> "Bandit":
        if (self.slack_factor is None) == (self.slack_amount is None):
            raise ValueError("bandit takes one of slack_factor and slack_amount, above 0.")
        return self


class MedianStopping(Policy):
    """Policy that stops trials worse than the median of the running averages of all trials."""

    type: Literal["median_stopping"] = "median_stopping"


class TruncationSelection(Policy):
    """Policy that stops the lowest `truncation_percentage` of the trials."""

    type: Literal["truncation_selection"] = "truncation_selection"
    truncation_percentage: Annotated[
        int, Field(ge=1, le=99), _about("Share of the trials that is stopped")
    ]
    exclude_finished_jobs: Annotated[bool, _about("Whether ended trials do not count")] = False


class Asha(Closed):
    """Policy, ours, by which the best 1 / `eta` of the trials at each rung go on."""

    type: Literal["asha"] = "asha"
    eta: Annotated[int, Field(ge=2), _about("One of this many trials goes on")] = 3
    rungs: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(min_length=1), _about("Evaluations that decide it")
    ] = [1, 3, 9, 27]


POLICIES = ("bandit", "median_stopping", "truncation_selection", "asha")
EarlyTermination = Bandit | MedianStopping | TruncationSelection | Asha


def _known_policy(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    kind = spelled(value.get("type"), POLICIES)
    if kind is None:
        named = str(value.get("type"))
        hint = did_you_mean(named, POLICIES)
        raise ValueError(f"type must be one of {', '.join(POLICIES)}, got {named!r}{hint}")
    return {**value, "type": kind}


class Sweep(Closed):
    """Search of a search space: its sampler and its early termination."""

    sampling_algorithm: Annotated[Sampling, _OrText(), _about("Sampler of the space")] = Sampling()
    early_termination: Annotated[
        Annotated[
            Annotated[EarlyTermination, Field(discriminator="type")],
            BeforeValidator(_known_policy),
        ]
        | None,
        _about("Policy that ends trials early; none without it"),
    ] = None


Input = Annotated[DataInput, BeforeValidator(_parse_input), _OrText()]
Frac = Annotated[float, Field(gt=0, lt=1)]
VERBOSITIES = ("not_set", "debug", "info", "warning", "error", "critical")
Verbosity = Literal["not_set", "debug", "info", "warning", "error", "critical"]


class Job(Closed):
    """One `train` job."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    type: Annotated[Literal["automl"], _spelling_of("automl")] = "automl"
    task: Annotated[str | None, _about("Published task name")] = None
    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    experiment_name: Annotated[str | None, _about("Begin of the run folder's name")] = None
    tags: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    compute: str | dict[str, Any] | None = None
    resources: dict[str, Any] | None = None
    queue_settings: dict[str, Any] | None = None
    identity: dict[str, Any] | None = None
    services: dict[str, Any] | None = None
    environment_id: str | None = None
    environment_variables: dict[str, Any] | None = None
    id: str | None = None
    status: str | None = None
    creation_context: dict[str, Any] | None = None
    log_files: dict[str, Any] | None = None
    outputs: Annotated[
        dict[str, Any], _about("Accepted; the model is `best_model` in the run folder")
    ] = {}
    log_verbosity: Annotated[
        Verbosity, _spelling_of(*VERBOSITIES), _about("Least severe messages that are said")
    ] = "info"
    primary_metric: Annotated[str | None, _about("Metric that trials are ranked by")] = None
    target_column_name: Annotated[str, _about("Column of the labels")] = "label"
    training_data: Annotated[Input, _about("MLTable folder, JSON Lines, image folder or CSV")]
    validation_data: Annotated[Input | None, _about("The same, to choose the model by")] = None
    validation_data_size: Annotated[
        Frac, _about("Without `validation_data`: share of the training data, seeded, stratified")
    ] = 0.2
    test_data: Annotated[Input | None, _about("The same; only measured, never chosen by")] = None
    test_data_size: Frac | None = None
    limits: Annotated[Limits, _about("Limits on trials, time and the model")] = Limits()
    training_parameters: Annotated[Parameters, _about("Hyperparameters of all trials")] = {}
    sweep: Annotated[Sweep | None, _about("Sampling and early termination of a sweep")] = None
    search_space: Annotated[
        list[dict[str, Any]] | None,
        BeforeValidator(canonical_space),
        _about("Distributions of the hyperparameters of a sweep"),
    ] = None
    # Keys beyond Azure's.
    image_column_name: Annotated[str, _about("Column of the images")] = "image_url"
    image_root: Annotated[str | None, _about("Where relative image paths start")] = None
    map: Annotated[dict[str, str], _about("Datastores and URL prefixes to folders or URLs")] = {}
    datastores: Annotated[dict[str, str], _about("Datastores to folders or URLs")] = {}
    data: Annotated[DataRules, _about("Groups, and treatment of invalid rows")] = DataRules()
    thresholds: Annotated[Wanted, _about("Precision or recall wanted of score thresholds")] = (
        Wanted()
    )
    budget: Annotated[
        Annotated[float, Duration(), Field(gt=0)] | None,
        _about("Wall time of the command: seconds, `90s`, `5m` or `1h`"),
    ] = None
    seed: Annotated[
        int, Field(ge=0, lt=2**32), _about("Seed of splits, of order and of what a sweep tries")
    ] = 0
    device: Annotated[str, _about("`auto`, `cpu`, `cuda` or `cuda:1`")] = "auto"
    output_dir: Annotated[str | None, _about("Run folder; default in `runs/`")] = None
    weights: Annotated[str | None, _about("A file of weights, or `random`")] = None
    on_missing_weights: Annotated[
        Literal["error", "substitute"], _about("Whether missing weights end the command")
    ] = "error"
    accept_license: Annotated[
        list[str],
        BeforeValidator(_parse_list),
        _OrText(),
        _about("Licences to accept too"),
    ] = []

    @property
    def model_name(self) -> str | None:
        """Name of the model that the user chose, or None."""
        return self.training_parameters.get("model_name")

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
        """Keys that were given and have no effect here."""
        keys = [key for key in UNUSED_KEYS if key in self.model_fields_set]
        for role in DATA_FLAGS:
            entry: DataInput | None = getattr(self, role)
            given = () if entry is None else ("mode", "datastore", "path_on_compute")
            keys += [f"{role}.{key}" for key in given if getattr(entry, key) is not None]
        if str(self.properties.get("node_count_per_trial", 1)) != "1":
            keys.append("properties.node_count_per_trial")
        for name, output in self.outputs.items():
            if isinstance(output, Mapping) and output.get("path"):
                keys.append(f"outputs.{name}.path")
        return keys
