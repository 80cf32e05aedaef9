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
from autofocus.settings.check import check_job
from autofocus.settings.fields import Reader
from autofocus.settings.job import EarlyTermination, Job, Sampling
from autofocus.settings.parameters import PARAMETERS, read_parameters
from autofocus.settings.search_space import Choice, SearchSpace, parse_space
from autofocus.settings.spelling import did_you_mean, spelled
from autofocus.study.search.samplers import GridSampler, sampling_problems
from autofocus.tasks import TASKS
from autofocus.tasks.base import Task

Mode = Literal["single", "sweep", "automode"]


@dataclass(frozen=True)
class Plan:
    """A resolved job.

    Attributes:
        job: Job with task and primary metric filled in.
        task: The task.
        model: The model.
        user_named_model: Whether the job names the model; only otherwise may another stand in.
        space: Search space of a sweep; empty without `search_space`.
        notes: Sentences on settings that may not be meant.
    """

    job: Job
    task: Task[Any, Any]
    model: ModelSpec
    user_named_model: bool
    space: SearchSpace = ()
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Parsed `training_parameters`; those not set are missing."""
        return self.job.training_parameters

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
    def chooses_number(self) -> bool:
        """Whether the system chooses the number of trials."""
        return self.mode == "automode" and "max_trials" not in self.job.limits.model_fields_set

    def document(self) -> dict[str, Any]:
        """Return the job as `job.yml` has it, which a command can be given again."""
        resolved = self.job.model_dump(mode="json", by_alias=True)
        if self.chooses_number:
            # A number would ask for that many, and 1 for the job's own recipe alone.
            del resolved["limits"]["max_trials"]
        return resolved

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
        return sorted(name for name in given if PARAMETERS[name].used_by not in self.readers)

    @property
    def readers(self) -> set[Reader]:
        """Readers of parameters that take part; of all models where the space has several."""
        readers: set[Reader] = {"all", *self.task.reads}
        has_models = any("model_name" in subspace for subspace in self.space)
        if "objects" in readers and (has_models or family_of(self.model).takes_any_shape):
            readers.add("any size")
        if "objects" in readers and (has_models or _is_yolov5(self.job.model_name)):
            readers.add("yolov5")
        return readers


def resolve(document: Mapping[str, Any]) -> Plan:
    """Check a job document whole.

    Raises:
        JobError: Names every problem.
    """
    job, problems = check_job(document)
    task = _task(document.get("task"), problems)
    metric = _metric(document.get("primary_metric"), task, problems)
    problems += _weights_problems(job.weights)
    name = job.model_name and _stand_in(job.model_name, job.training_parameters)
    model = _model(name, task, "model_name", problems)
    space = _space(document, job, task, problems)
    if problems or task is None or model is None:
        raise JobError(problems)
    filled = job.model_copy(update={"task": task.name, "primary_metric": metric})
    plan = Plan(filled, task, model, job.model_name is not None, space)
    return replace(plan, notes=_notes(plan))


def trial_plan(plan: Plan, drawn: Mapping[str, Any]) -> Plan:
    """Return the plan of one trial of a sweep: the job's own parameters, then what was drawn."""
    # 4.0 epochs are 4; ranges were checked when the space was. `none` takes back the job's own.
    parsed = read_parameters(drawn)
    parameters = {name: x for name, x in plan.parameters.items() if name not in drawn} | parsed
    name = parsed.get("model_name")
    return replace(
        plan,
        job=plan.job.model_copy(update={"training_parameters": parameters}),
        model=plan.model if name is None else catalog.resolve(_stand_in(name, parameters)),
        user_named_model=plan.user_named_model or name is not None,
        space=(),
        notes=(),
    )


def _is_yolov5(name: str | None) -> bool:
    return (name or "").strip().lower() == "yolov5"


def _stand_in(name: str, parameters: Mapping[str, Any]) -> str:
    """Return the name to look up: `yolov5` means the permissive model nearest in compute."""
    return yolov5_stand_in(parameters.get("model_size"))[0] if _is_yolov5(name) else name


def _task(name: object, problems: list[str]) -> Task[Any, Any] | None:
    known = None if name is None else spelled(name, TASKS)
    if known is not None:
        return TASKS[known]
    allowed = ", ".join(TASKS)
    if name is None:
        problems.append(
            f"task: required, one of {allowed}. Give --task, or task in the job YAML; "
            "'autofocus data check' says which the data fits."
        )
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
    document: Mapping[str, Any], job: Job, task: Task[Any, Any] | None, problems: list[str]
) -> SearchSpace:
    if job.search_space is None:
        if job.sweep is not None and document.get("search_space") is None:
            problems.append(
                "sweep: there is nothing to search without search_space. Add it, or leave sweep "
                "out: then the system chooses by itself."
            )
        return ()
    sampling = Sampling() if job.sweep is None else job.sweep.sampling_algorithm
    log_base = math.e if sampling.logbase == "e" else sampling.logbase
    space, wrong = parse_space(job.search_space, log_base)
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
    if _is_yolov5(plan.job.model_name):
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
