"""Is a saliency map any good? Four measures that need no opinion, and two maps that know nothing.

insertion       the probability while pixels return to a blurred image, highest first: area under
                the curve, higher is better (RISE, Petsiuk et al., BMVC 2018)
deletion        the probability while pixels turn to the mean colour, highest first: lower is better
pointing game   does the highest value lie on the object (Zhang et al., ECCV 2016)
randomisation   rank correlation with the map of the same network after its weights were shuffled:
                a map that stays shows nothing of what was learned (Adebayo et al., NeurIPS 2018)

A random map and a centred Gaussian stand beside the algorithms: photos show things in the middle,
so that the Gaussian is the one to beat. Notation: n images; h, w their size in pixels.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Quality:
    """What one way of making maps reached on n images; means, with standard errors of the means.

    Attributes:
        insertion: Area under the insertion curve, in [0, 1].
        deletion: Area under the deletion curve, in [0, 1].
        pointing: Share of images whose highest value lies on the object; None without masks.
        randomised: Mean rank correlation with the maps of the shuffled network; None for the maps
            that use no network.
    """

    num_images: int
    insertion: float
    insertion_error: float
    deletion: float
    deletion_error: float
    pointing: float | None
    randomised: float | None


def measure(
    network: FrozenClassifier,
    images: Tensor,
    targets: Sequence[int],
    kind: Activation,
    algorithms: Mapping[str, Parameters],
    *,
    truths: Sequence[Mask] | None = None,
    seed: int = 0,
    track: Track = no_progress,
) -> dict[str, Quality]:
    """Compare algorithms with each other and with the two maps that know nothing.

    Args:
        network: The trained network, frozen.
        images: Normalised, [n, 3, h, w].
        targets: Class index of each image.
        kind: How logits become probabilities.
        algorithms: Row name -> parameters.
        truths: Where the object is in each image, bool [h, w].
        seed: Decides the random map, the order of equal values and the shuffled weights.
        track: Shows progress.
    """
    height, width = images.shape[2:]
    shuffled = shuffle_weights(network, seed)
    rows: dict[str, Quality] = {}
    for name, parameters in track(algorithms.items(), "explain", len(algorithms)):
        maps = _maps(network, images, targets, parameters)
        others = _maps(shuffled, images, targets, parameters)
        similar = [rank_correlation(a, b) for a, b in zip(maps, others, strict=True)]
        known = [value for value in similar if value is not None]
        rows[name] = _judge(network, images, targets, kind, maps, truths, seed, known)
    ignorant: dict[str, Callable[[int], SaliencyMap]] = {
        "random map": lambda i: random_map(height, width, seed + i),
        "centred Gaussian": lambda i: centred_gaussian(height, width),
    }
    for name, make in ignorant.items():
        maps = [make(i) for i in range(len(images))]
        rows[name] = _judge(network, images, targets, kind, maps, truths, seed, [])
    return rows


def _maps(
    network: FrozenClassifier, images: Tensor, targets: Sequence[int], parameters: Parameters
) -> list[SaliencyMap]:
    return [a.saliency() for a in explain(network, images, targets, parameters)]


def _judge(
    network: nn.Module,
    images: Tensor,
    targets: Sequence[int],
    kind: Activation,
    maps: Sequence[SaliencyMap],
    truths: Sequence[Mask] | None,
    seed: int,
    similar: Sequence[float],
) -> Quality:
    areas = np.array(
        [
            insertion_deletion(network, image, target, saliency, kind, seed=seed)
            for image, target, saliency in zip(images, targets, maps, strict=True)
        ]
    )
    means = areas.mean(axis=0).tolist()
    errors = (areas.std(axis=0) / np.sqrt(len(areas))).tolist()
    hits = [pointing_game(m, t) for m, t in zip(maps, truths, strict=True)] if truths else None
    return Quality(
        num_images=len(areas),
        insertion=means[0],
        insertion_error=errors[0],
        deletion=means[1],
        deletion_error=errors[1],
        pointing=float(np.mean(hits)) if hits else None,
        randomised=float(np.mean(similar)) if similar else None,
    )


def insertion_deletion(
    network: nn.Module,
    image: Tensor,
    target: int,
    saliency: SaliencyMap,
    kind: Activation,
    *,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the areas under the insertion and the deletion curve, each in [0, 1].

    Args:
        network: Gives logits [n, k].
        image: Normalised, [3, h, w].
        target: The class whose probability is followed.
        saliency: [h, w]; pixels of equal value are ordered at random.
        kind: How logits become probabilities.
        num_steps: Equal parts in which pixels return or go.
        seed: Decides the order of equal values.
    """
    steps = step_of_pixels(saliency, num_steps, seed)
    shown = torch.from_numpy(steps)[None] < torch.arange(num_steps + 1)[:, None, None]
    shown = shown[:, None].to(image.device)  # [num_steps + 1, 1, h, w]
    inserted = torch.where(shown, image, _blurred(image))
    deleted = torch.where(shown, torch.zeros_like(image), image)
    probs = _probabilities(network, torch.cat([inserted, deleted]), target, kind)
    insertion, deletion = probs.reshape(2, -1)
    return area_under(insertion), area_under(deletion)


def _blurred(image: Tensor) -> Tensor:
    smooth = blurred(image.cpu().float().numpy())
    return torch.from_numpy(smooth).to(image.device, image.dtype)


def _probabilities(
    network: nn.Module, images: Tensor, target: int, kind: Activation
) -> NDArray[np.float64]:
    with torch.inference_mode():
        logits = torch.cat([network(chunk) for chunk in torch.split(images, batch_size(images))])
        probs = logits.softmax(dim=1) if kind == "softmax" else logits.sigmoid()
    return probs[:, target].double().cpu().numpy()


def shuffle_weights(network: NetworkT, seed: int) -> NetworkT:
    """Return a copy with the numbers within each tensor of weights shuffled.

    Their distribution stays, so that signals neither vanish nor explode: what was learned goes.
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
