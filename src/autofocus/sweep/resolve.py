"""From a job document to a plan: every problem of both phases is reported together.

`job.py` knows keys and shapes; here tasks and the catalog check names and fill defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofocus.errors import InputError, JobError
from autofocus.job import Job, canonical_parameters, check_job, did_you_mean
from autofocus.models import catalog
from autofocus.models.base import ModelSpec
from autofocus.parameters import RECIPE_PARAMETERS, check_parameters
from autofocus.tasks import TASKS
from autofocus.tasks.base import Task

# What training reads besides the recipe.
USED_PARAMETERS = {
    "model_name",
    "random_seed",
    "validation_crop_size",
    "validation_resize_size",
    *RECIPE_PARAMETERS,
}


@dataclass(frozen=True)
class Plan:
    """A job whose names all mean something.

    Attributes:
        job: With the primary metric and the model filled in.
        task: What is to be learnt.
        model: The model to use.
        user_named_model: Whether the job names the model; only otherwise may another stand in.
        parameters: `training_parameters` with their values parsed; what was not set is missing.
    """

    job: Job
    task: Task[Any, Any]
    model: ModelSpec
    user_named_model: bool
    parameters: dict[str, Any]

    @property
    def unused_parameters(self) -> list[str]:
        """Return the names of parameters that no part of training reads."""
        return sorted(set(self.parameters) - USED_PARAMETERS)


def resolve(document: Mapping[str, Any]) -> Plan:
    """Check a job document whole.

    Raises:
        JobError: Names every problem.
    """
    job, problems = check_job(document)
    task_name, metric = document.get("task"), document.get("primary_metric")
    task = TASKS.get(task_name) if isinstance(task_name, str) else None
    if task is None:
        problems.append(_task_problem(task_name))
    if task is not None and isinstance(metric, str) and metric not in task.primary_metrics:
        problems.append(
            f"primary_metric: must be one of {', '.join(task.primary_metrics)} for {task.name}, "
            f"got {metric!r}{did_you_mean(metric, task.primary_metrics)}"
        )
    parameters, impossible = check_parameters(canonical_parameters(document))
    problems += impossible
    problems += _weights_problems(document.get("weights"))
    model = None
    try:
        model = catalog.resolve(_model_name(document) or catalog.DEFAULT_MODEL)
    except InputError as error:
        problems += error.problems
    if task is not None and model is not None and model.kind != task.model_kind:
        problems.append(f"model_name: {task.name} needs a {task.model_kind}, {model.name} is not.")
    if problems or job is None or task is None or model is None:
        raise JobError(problems)
    filled = job.model_copy(update={"primary_metric": metric or task.primary_metrics[0]})
    return Plan(filled, task, model, job.model_name is not None, parameters)


def _task_problem(name: object) -> str:
    allowed = ", ".join(TASKS)
    if name is None:
        return f"task: required, one of {allowed}. Give --task, or task in the job YAML."
    return f"task: must be one of {allowed}, got {name!r}{did_you_mean(str(name), list(TASKS))}"


def _weights_problems(weights: object) -> list[str]:
    if not isinstance(weights, str) or weights == "random" or Path(weights).is_file():
        return []
    return [f"weights: there is no file {weights!r}. Give a file of weights, or 'random'."]


def _model_name(document: Mapping[str, Any]) -> str | None:
    parameters = document.get("training_parameters")
    name = parameters.get("model_name") if isinstance(parameters, Mapping) else None
    return None if name is None else str(name)
