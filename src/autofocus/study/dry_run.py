"""Describe a job with every default filled in, and write nothing: `train --dry-run`."""

from collections.abc import Mapping
from typing import Any

from autofocus.data.rows.labels import label_map
from autofocus.data.sources.read import Data
from autofocus.models.base import is_permissive
from autofocus.runtime import Track, no_progress
from autofocus.settings.search_space import Choice
from autofocus.study.automode.priors import priors_of
from autofocus.study.resolve import Plan, resolve, trial_plan
from autofocus.study.search.samplers import make_sampler
from autofocus.study.sources import Sources, read_sources, with_splits
from autofocus.study.trials.recipes import recipe_for

_NUM_FIRST_TRIALS = 3


def describe(document: Mapping[str, Any], track: Track = no_progress) -> dict[str, Any]:
    """Check a job and its data, and return the plan as plain data.

    Raises:
        JobError: If the job is wrong; names every problem.
        DataError: If nothing valid is left of the data.
    """
    plan = with_splits(resolve(document))
    sources = read_sources(plan, track)
    job = plan.job
    return {
        "task": plan.task.name,
        "mode": plan.mode,
        "primary_metric": job.primary_metric,
        "data": {role: _data(plan, data) for role, data in sources.given.items()},
        "models": _models(plan, _num_training(plan, sources)),
        "sweep": _sweep(plan) if plan.space else None,
        "automode": _automode(plan, _num_training(plan, sources)),
        "limits": _limits(plan),
        "budget_s": job.budget_s,
        "seed": job.seed,
        "not_used_here": [*job.unused_keys, *plan.unused_parameters],
        "notes": list(plan.notes),
        "job": plan.document(),
    }


def _limits(plan: Plan) -> dict[str, Any]:
    limits, kind = plan.job.limits.model_dump(), plan.model.kind
    if plan.chooses_number:
        # The budget alone says when the system stops choosing; without one, the default recipe.
        limits["max_trials"] = 1 if plan.job.budget_s is None else priors_of(kind).max_trials
    return limits


def _data(plan: Plan, data: Data[Any]) -> dict[str, Any]:
    labels = label_map(*(plan.task.record_labels(record) for record in data.records))
    return {
        "name": data.name,
        "num_rows": data.num_rows,
        "num_images": len(data.records),
        "labels": list(labels),
        "issues": dict(data.issues.counts),
    }


def _num_training(plan: Plan, sources: Sources) -> int:
    """Return the number of training images, without those held out for validation."""
    num = len(sources.training.records)
    validation = 0.0 if sources.validation is not None else plan.job.validation_data_size
    return max(1, round(num * (1 - validation)))


def _models(plan: Plan, num_images: int) -> list[dict[str, Any]]:
    """Return every model that the plan may train, with its recipe."""
    names: dict[str | None, None] = {}
    for subspace in plan.space:
        choice = subspace.get("model_name")
        names |= dict.fromkeys(choice.values if isinstance(choice, Choice) else [None])
    plans = [
        plan if name is None else trial_plan(plan, {"model_name": name}) for name in names or [None]
    ]
    return [
        {
            "name": one.model.name,
            "kind": one.model.kind,
            "licence": one.model.licence,
            "needs_accept_license": not is_permissive(one.model.licence),
            "num_params": one.model.num_params,
            "named_by_the_job": one.user_named_model,
            "recipe": recipe_for(one, num_images).document(),
        }
        for one in plans
    ]


def _automode(plan: Plan, num_images: int) -> dict[str, Any] | None:
    """Return what AutoMode may try; which weights can be had shows when it runs."""
    if plan.mode != "automode":
        return None
    priors = priors_of(plan.model.kind)
    ranked = [row.name for row in priors.ranked(num_images)]
    is_named = plan.user_named_model or plan.job.weights is not None
    return {
        "models_by_expected_rank": [plan.model.name] if is_named else list(dict.fromkeys(ranked)),
    }


def _sweep(plan: Plan) -> dict[str, Any]:
    sampler = make_sampler(plan.sampling, plan.space, plan.job.seed)
    num_trials = plan.job.limits.max_trials
    if sampler.num_trials is not None:
        num_trials = min(num_trials, sampler.num_trials)
    policy = plan.early_termination
    # What bayesian asks for later depends on how the first ones did.
    first = [sampler.ask(number) for number in range(min(num_trials, _NUM_FIRST_TRIALS))]
    return {
        "num_trials": num_trials,
        "sampling_algorithm": plan.sampling.model_dump(),
        "early_termination": None if policy is None else policy.model_dump(),
        "search_space": plan.job.search_space,
        "first_trials": first,
    }
