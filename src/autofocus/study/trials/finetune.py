"""Probe and fine-tune a classifier from a plan, for all that do so."""

import logging

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from autofocus.errors import BudgetError
from autofocus.manifest import ResizeCrop
from autofocus.models.base import LoadedWeights
from autofocus.study.resolve import Plan
from autofocus.study.trials.prepare import prepare_trial
from autofocus.study.trials.recipes import preprocess_for, recipe_for
from autofocus.study.trials.trial import Common, Hooks
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.device import make_accelerator
from autofocus.training.finetune_trial import Finetuned, Finetuning, run_finetune
from autofocus.training.probe_trial import Probed, ProbeSetup, run_probe
from autofocus.training.recipe import Recipe

log = logging.getLogger(__name__)


def probe_and_finetune(
    common: Common, plan: Plan, trial: str, deadline_s: float | None, hooks: Hooks
) -> tuple[NDArray[np.float64], Finetuned]:
    """Train a classifier from a frozen probe of its own model; arguments as `TrainTrial` has them.

    Returns:
        Loss of each validation image under the probe, [n], and the result of fine-tuning.

    Raises:
        BudgetError: If the deadline passed before all images were seen.
    """
    weights, device = prepare_trial(plan, len(common.labels), hooks.track)
    fingerprint = common.data_fingerprint
    setup = probe_setup(plan, weights, device, common.labels, fingerprint, deadline_s)
    # Two processes would batch the same images differently and round differently; the second one
    # finds their features in the cache.
    trials = common.folder / "trials"
    trials.mkdir(parents=True, exist_ok=True)
    with FileLock(trials / "probe.lock"):
        probed = run_probe(
            setup,
            common.train,
            common.validation,
            report=lambda role, issue: log.warning("%s", issue.text()),
            decide=lambda what, **inputs: hooks.decide(what, trial=trial, **inputs),
            track=hooks.track,
        )
    if len(probed.validation) < len(common.validation):
        raise BudgetError("the budget ended before all images were seen")
    recipe = recipe_for(plan, len(probed.train))
    finetuned = finetune(common, setup, probed, recipe, trial, deadline_s, hooks)
    return probe_losses(setup, probed), finetuned


def probe_losses(setup: ProbeSetup, probed: Probed) -> NDArray[np.float64]:
    """Return the loss of each validation image under the probe, [n]."""
    targets = setup.task.encode_targets(probed.validation.records, setup.labels)
    return setup.task.sample_losses(probed.predictions, targets)


def finetune(
    common: Common,
    setup: ProbeSetup,
    probed: Probed,
    recipe: Recipe,
    trial: str,
    deadline_s: float | None,
    hooks: Hooks,
) -> Finetuned:
    """Fine-tune a probe's network, in `trials/<id>/`."""
    hooks.decide("recipe", trial=trial, **recipe.document())
    return run_finetune(
        Finetuning(
            setup=setup,
            recipe=recipe,
            accelerator=make_accelerator(setup.device),
            primary_metric=common.metric,
            folder=common.folder / "trials" / trial,
            deadline_s=deadline_s,
            should_stop=hooks.should_stop,
            on_epoch=hooks.on_epoch,
            track=hooks.track,
        ),
        probed,
    )


def probe_setup(
    plan: Plan,
    weights: LoadedWeights,
    device: torch.device,
    labels: list[str],
    data_fingerprint: str,
    deadline_s: float | None,
) -> ProbeSetup:
    """Return the settings of a probe of a plan's model."""
    assert isinstance(plan.task, ClassificationTask), "only classifiers have frozen features"
    default = weights.spec.preprocess
    assert isinstance(default, ResizeCrop), "classifiers see a crop"
    return ProbeSetup(
        task=plan.task,
        weights=weights,
        preprocess=preprocess_for(plan, default),
        labels=labels,
        validation_frac=plan.job.validation_data_size,
        seed=plan.seed,
        device=device,
        data_fingerprint=data_fingerprint,
        deadline_s=deadline_s,
    )
