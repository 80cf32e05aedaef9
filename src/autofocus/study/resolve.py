"""Resolve a job document to a plan; all problems are reported together.

`settings/job.py` knows keys and shapes; here tasks and the catalog check names and fill defaults.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from autofocus.errors import InputError, JobError
from autofocus.models import catalog
from autofocus.models.base import ModelSpec
from autofocus.models.families import family_of
from autofocus.models.transformers.catalog import yolov5_stand_in
from autofocus.settings.job import EarlyTermination, Job, Sampling, canonical_parameters, check_job
from autofocus.settings.parameters import RECIPE_PARAMETERS, check_parameters
from autofocus.settings.search_space import Choice, SearchSpace, parse_space
from autofocus.settings.spelling import did_you_mean, spelled
from autofocus.study.search.samplers import GridSampler, sampling_problems
from autofocus.tasks import TASKS
from autofocus.tasks.base import Task
from autofocus.tasks.objects import ObjectsTask

# Parameters for classification, for objects, and for networks that take any input size; then
# those for all.
OF_CLASSES = {"weighted_loss", "validation_crop_size", "validation_resize_size"}
OF_OBJECTS = {"image_size", "tile_grid_size", "tile_overlap_ratio", "log_training_metrics"}
OF_ANY_SIZE = {"min_size", "max_size", "multi_scale"}
USED_PARAMETERS = {"model_name", "random_seed", *RECIPE_PARAMETERS} - (
    OF_CLASSES | OF_OBJECTS | OF_ANY_SIZE
)

Mode = Literal["single", "sweep", "automode"]


@dataclass(frozen=True)
class Plan:
    """A resolved job.

    Attributes:
        job: Job with task and primary metric filled in.
        task: The task.
        model: The model.
        user_named_model: Whether the job names the model; only otherwise may another stand in.
        parameters: Parsed `training_parameters`; those not set are missing.
        space: Search space of a sweep; empty without `search_space`.
        notes: Sentences on settings that may not be meant.
    """

    job: Job
    task: Task[Any, Any]
    model: ModelSpec
    user_named_model: bool
    parameters: dict[str, Any]
    space: SearchSpace = ()
    notes: tuple[str, ...] = ()

    @property
    def mode(self) -> Mode:
        """One run, the job's own sweep, or AutoMode, where the system chooses (azure.md §1.2)."""
        if self.space:
            return "sweep"
        limits = self.job.limits
        one = limits.max_trials == 1 and "max_trials" in limits.model_fields_set
        named_one = self.user_named_model and limits.max_trials == 1
        return "single" if one or named_one else "automode"

    @property
    def seed(self) -> int:
        """Seed of splits, folds, fresh layers and the order of work."""
        return int(self.parameters.get("random_seed", self.job.seed))

    @property
    def sampling(self) -> Sampling:
        """Sampling algorithm of the sweep."""
        return Sampling() if self.job.sweep is None else self.job.sweep.sampling_algorithm

    @property
    def early_termination(self) -> EarlyTermination | None:
        """Pruning policy of the sweep; None prunes nothing."""
        return None if self.job.sweep is None else self.job.sweep.early_termination

    @property
    def unused_parameters(self) -> list[str]:
        """Names of parameters that no part of training reads."""
        given = {*self.parameters, *(name for subspace in self.space for name in subspace)}
        return sorted(given - _used_parameters(self))


def _used_parameters(plan: Plan) -> set[str]:
    """Return the names of parameters that training reads for a task and a model."""
    if not isinstance(plan.task, ObjectsTask):
        return USED_PARAMETERS | OF_CLASSES
    used = USED_PARAMETERS | OF_OBJECTS | {*plan.task.default_values}
    has_models = any("model_name" in subspace for subspace in plan.space)
    if has_models or family_of(plan.model).takes_any_shape:
        used |= OF_ANY_SIZE
    if has_models or (plan.job.model_name or "").strip().lower() == "yolov5":
        used |= {"model_size"}
    return used


def resolve(document: Mapping[str, Any]) -> Plan:
    """Check a job document whole.

    Raises:
        JobError: Names every problem.
    """
    job, problems = check_job(document)
    task = _task(document.get("task"), problems)
    metric = _metric(document.get("primary_metric"), task, problems)
    given = canonical_parameters(document)
    parameters, impossible = check_parameters(given)
    problems += impossible
    problems += _weights_problems(document.get("weights"))
    name = stand_in(given.get("model_name"), parameters)
    model = _model(name, task, "model_name", problems)
    space = _space(document, job, task, problems)
    if problems or job is None or task is None or model is None:
        raise JobError(problems)
    filled = job.model_copy(update={"task": task.name, "primary_metric": metric})
    plan = Plan(filled, task, model, job.model_name is not None, parameters, space)
    return replace(plan, notes=_notes(plan))


def trial_plan(plan: Plan, drawn: Mapping[str, Any]) -> Plan:
    """Return the plan of one trial of a sweep: the job's own parameters, then what was drawn.

    Args:
        plan: The sweep's plan.
        drawn: Parameters from a sampler.
    """
    given = {name: value for name, value in drawn.items() if value is not None}
    # 4.0 epochs are 4; ranges were checked when the space was.
    parsed, problems = check_parameters(given)
    assert not problems, problems
    name = given.get("model_name")
    parameters = {**plan.parameters, **parsed}
    return replace(
        plan,
        job=plan.job.model_copy(
            update={"training_parameters": {**plan.job.training_parameters, **parsed}}
        ),
        model=plan.model if name is None else catalog.resolve(str(stand_in(name, parameters))),
        user_named_model=plan.user_named_model or name is not None,
        parameters=parameters,
        space=(),
        notes=(),
    )


def stand_in(name: object, parameters: Mapping[str, Any]) -> object:
    """Return the name to look up: `yolov5` means the permissive model nearest in compute."""
    if str(name).strip().lower() != "yolov5":
        return name
    return yolov5_stand_in(parameters.get("model_size"))[0]


def _task(name: object, problems: list[str]) -> Task[Any, Any] | None:
    known = None if name is None else spelled(name, TASKS)
    if known is not None:
        return TASKS[known]
    allowed = ", ".join(TASKS)
    if name is None:
        problems.append(f"task: required, one of {allowed}. Give --task, or task in the job YAML.")
    else:
        hint = did_you_mean(str(name), TASKS)
        problems.append(f"task: must be one of {allowed}, got {name!r}{hint}")
    return None


def _metric(name: object, task: Task[Any, Any] | None, problems: list[str]) -> str | None:
    if task is None or name is None:
        return None if task is None else task.primary_metrics[0]
    known = spelled(name, task.primary_metrics)
    if known is None:
        hint = did_you_mean(str(name), task.primary_metrics)
        allowed = ", ".join(task.primary_metrics)
        problems.append(
            f"primary_metric: must be one of {allowed} for {task.name}, got {name!r}{hint}"
        )
    return known


def _weights_problems(weights: object) -> list[str]:
    if not isinstance(weights, str) or weights == "random" or Path(weights).is_file():
        return []
    return [f"weights: there is no file {weights!r}. Give a file of weights, or 'random'."]


def _model(
    name: object, task: Task[Any, Any] | None, place: str, problems: list[str]
) -> ModelSpec | None:
    if name is None:
        name = catalog.DEFAULT_MODEL if task is None else catalog.default_model(task.model_kind)
    try:
        model = catalog.resolve(str(name))
    except InputError as error:
        problems += [f"{place}: {text.removeprefix('model_name: ')}" for text in error.problems]
        return None
    if task is not None and model.kind != task.model_kind:
        problems.append(f"{place}: {task.name} needs a {task.model_kind}, {model.name} is not.")
    return model


def _space(
    document: Mapping[str, Any],
    job: Job | None,
    task: Task[Any, Any] | None,
    problems: list[str],
) -> SearchSpace:
    sweep = None if job is None else job.sweep
    if document.get("search_space") is None:
        if document.get("sweep") is not None:
            problems.append(
                "sweep: there is nothing to search without search_space. Add it, or leave sweep "
                "out: then the system chooses by itself."
            )
        return ()
    sampling = Sampling() if sweep is None else sweep.sampling_algorithm
    log_base = math.e if sampling.logbase == "e" else sampling.logbase
    space, wrong = parse_space(document["search_space"], log_base)
    problems += wrong
    # What cannot be read cannot be searched either; one sentence is enough.
    problems += [] if wrong else sampling_problems(sampling, space)
    for index, subspace in enumerate(space):
        names = subspace.get("model_name")
        for name in names.values if isinstance(names, Choice) else ():
            _model(name, task, f"search_space.{index}.model_name", problems)
    return space


def _notes(plan: Plan) -> tuple[str, ...]:
    notes = []
    if (plan.job.model_name or "").strip().lower() == "yolov5":
        notes.append(yolov5_stand_in(plan.parameters.get("model_size"))[1])
    swept = {name for subspace in plan.space for name in subspace}
    if both := sorted(swept & set(plan.parameters)):
        notes.append(
            f"{', '.join(both)}: in training_parameters and in search_space; the latter holds "
            "where it has them"
        )
    limits = plan.job.limits
    if plan.space and limits.max_trials == 1:
        notes.append("limits.max_trials is 1: the sweep is one trial")
    if plan.space and plan.sampling.type == "grid":
        size = GridSampler(plan.space).num_trials or 0
        if size > limits.max_trials:
            notes.append(
                f"limits.max_trials of {limits.max_trials} leaves out part of the grid of {size}"
            )
    return tuple(notes)
