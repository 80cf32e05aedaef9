"""Measures of maps of classes, see `measures`, with the torch network that made them.

Notation: n images; h, w their size in pixels; k classes.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from autofocus.explain.algorithms import explain
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import batch_size
from autofocus.explain.measures import (
    NUM_STEPS,
    Mask,
    Measurements,
    Quality,
    SaliencyMap,
    area_under,
    blurred,
    centred_gaussian,
    pointing_game,
    random_map,
    step_of_pixels,
)
from autofocus.explain.parameters import Parameters
from autofocus.runtime import Track, no_progress
from autofocus.tasks.explaining import Activation

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def measure(
    network: FrozenClassifier,
    images: Tensor,
    targets: Sequence[int],
    activation: Activation,
    algorithms: Mapping[str, Parameters],
    *,
    truths: Sequence[Mask] | None = None,
    seed: int = 0,
    track: Track = no_progress,
) -> dict[str, Quality]:
    """Compare algorithms with each other and with two maps that know nothing.

    Args:
        network: Trained network, frozen.
        images: Normalised, [n, 3, h, w].
        targets: Class index of each image.
        activation: Function that turns logits into probabilities.
        algorithms: Row name -> parameters.
        truths: Pixels of the object in each image, bool [h, w].
        seed: Seed of the random map, the order of equal values and the shuffled weights.
        track: Progress display.
    """
    height, width = images.shape[2:]
    shuffled = shuffle_weights(network, seed)
    rows: dict[str, Quality] = {}
    for name, parameters in track(algorithms.items(), "explain", len(algorithms)):
        maps = _maps(network, images, targets, parameters)
        others = _maps(shuffled, images, targets, parameters)
        similar = [rank_correlation(a, b) for a, b in zip(maps, others, strict=True)]
        known = [value for value in similar if value is not None]
        rows[name] = _measured(network, images, targets, activation, maps, truths, seed, known)
    ignorant: dict[str, Callable[[int], SaliencyMap]] = {
        "random map": lambda i: random_map(height, width, seed + i),
        "centred Gaussian": lambda i: centred_gaussian(height, width),
    }
    for name, make in ignorant.items():
        maps = [make(i) for i in range(len(images))]
        rows[name] = _measured(network, images, targets, activation, maps, truths, seed, [])
    return rows


def _maps(
    network: FrozenClassifier, images: Tensor, targets: Sequence[int], parameters: Parameters
) -> list[SaliencyMap]:
    return [a.saliency() for a in explain(network, images, targets, parameters)]


def _measured(
    network: nn.Module,
    images: Tensor,
    targets: Sequence[int],
    activation: Activation,
    maps: Sequence[SaliencyMap],
    truths: Sequence[Mask] | None,
    seed: int,
    similar: list[float],
) -> Quality:
    areas = [
        insertion_deletion(network, image, target, saliency, activation, seed=seed)
        for image, target, saliency in zip(images, targets, maps, strict=True)
    ]
    hits = [pointing_game(m, t) for m, t in zip(maps, truths, strict=True)] if truths else []
    return Measurements(areas, hits, similar).quality()


def insertion_deletion(
    network: nn.Module,
    image: Tensor,
    target: int,
    saliency: SaliencyMap,
    activation: Activation,
    *,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the areas under the insertion and the deletion curve, each in [0, 1].

    Args:
        network: Returns logits [n, k].
        image: Normalised, [3, h, w].
        target: Index of the class whose probability is followed.
        saliency: Map [h, w]; pixels of equal value are ordered at random.
        activation: Function that turns logits into probabilities.
        num_steps: Equal steps in which pixels return or go.
        seed: Seed of the order of equal values.
    """
    steps = step_of_pixels(saliency, num_steps, seed)
    is_image = torch.from_numpy(steps)[None] < torch.arange(num_steps + 1)[:, None, None]
    is_image = is_image[:, None].to(image.device)  # [num_steps + 1, 1, h, w]
    inserted = torch.where(is_image, image, _blurred(image))
    deleted = torch.where(is_image, torch.zeros_like(image), image)
    probs = _probabilities(network, torch.cat([inserted, deleted]), target, activation)
    insertion, deletion = probs.reshape(2, -1)
    return area_under(insertion), area_under(deletion)


def _blurred(image: Tensor) -> Tensor:
    smooth = blurred(image.cpu().float().numpy())
    return torch.from_numpy(smooth).to(image.device, image.dtype)


def _probabilities(
    network: nn.Module, images: Tensor, target: int, activation: Activation
) -> NDArray[np.float64]:
    with torch.inference_mode():
        logits = torch.cat([network(chunk) for chunk in torch.split(images, batch_size(images))])
        probs = logits.softmax(dim=1) if activation == "softmax" else logits.sigmoid()
    return probs[:, target].double().cpu().numpy()


def shuffle_weights(network: NetworkT, seed: int) -> NetworkT:
    """Return a copy with the numbers within each tensor of weights shuffled.

    Their distribution stays: signals neither vanish nor explode, and what was learned goes.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            values = parameter.flatten()[order].reshape(parameter.shape)
            parameter.copy_(values)
    return shuffled


def rank_correlation(left: SaliencyMap, right: SaliencyMap) -> float | None:
    """Return Spearman's correlation of two maps, or None where one of them is constant."""
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(spearmanr(left.ravel(), right.ravel()).statistic)
