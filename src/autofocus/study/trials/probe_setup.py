"""From a plan to what a frozen probe of its model needs."""

import torch

from autofocus.manifest import ResizeCrop
from autofocus.models.weights.load import LoadedWeights
from autofocus.study.resolve import Plan
from autofocus.study.trials.recipes import preprocess_for
from autofocus.tasks.classification import ClassificationTask
from autofocus.training.probe_trial import ProbeSetup


def probe_setup(
    plan: Plan,
    weights: LoadedWeights,
    device: torch.device,
    labels: list[str],
    data_fingerprint: str,
    deadline_s: float | None,
) -> ProbeSetup:
    """Return everything that a probe of a plan's model needs to know."""
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
