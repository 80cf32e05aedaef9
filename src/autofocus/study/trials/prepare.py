"""What every trial needs before it trains: the device, and the pretrained weights of its model."""

import logging

import torch

from autofocus.models.weights.load import LoadedWeights, load_weights
from autofocus.runtime import Track
from autofocus.study.resolve import Plan
from autofocus.training.device import choose_device, prepare_torch

log = logging.getLogger(__name__)


def prepare(plan: Plan, num_classes: int, track: Track) -> tuple[LoadedWeights, torch.device]:
    """Return the pretrained weights and the device, and say which.

    Args:
        plan: Of the trial.
        num_classes: k.
        track: Shows downloads.

    Raises:
        WeightsError: If they cannot be had or their licence was not accepted.
        JobError: If the device is not there.
    """
    job = plan.job
    prepare_torch()
    device = choose_device(job.device)
    weights = load_weights(
        plan.model,
        job.weights,
        job.on_missing_weights,
        job.accept_license,
        plan.user_named_model,
        track=track,
    )
    classes = f"{num_classes} class{'es' * (num_classes != 1)}"
    log.info("%s · device %s · %s", weights.line, device, classes)
    return weights, device
