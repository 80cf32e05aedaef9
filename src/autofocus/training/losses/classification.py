"""The objective of both classification tasks: one logit a class."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from autofocus.data.batches.augment.presets import PRESETS
from autofocus.data.batches.views import ClassificationViews
from autofocus.manifest import ResizeCrop
from autofocus.models.network import Network
from autofocus.tasks.base import Targets
from autofocus.training.recipe import Recipe

# As published: class weights only where the largest class has this many times the smallest.
_MIN_IMBALANCE = 2


class ClassLoss(Protocol):
    """Loss of a classification task; a module each."""

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        label_smoothing: float,
        class_weights: Tensor | None,
    ) -> Tensor:
        """Return the mean loss of a batch."""

    def as_shares(self, targets: Tensor, num_classes: int) -> Tensor:
        """Return targets as class shares, which mixup can mix, float [n, k]."""

    def num_images_of_class(self, targets: Tensor, num_classes: int) -> Tensor:
        """Return the number of images of each class, [k]."""


class ClassificationObjective:
    """Cross-entropy, with the recipe's class weights and mixup.

    Args:
        kind: The task's loss module.
        recipe: Training recipe.
        targets: The task's targets of all training images.
        network: Network with k classes.
    """

    def __init__(self, kind: ClassLoss, recipe: Recipe, targets: Targets, network: Network) -> None:
        self._kind = kind
        self._recipe = recipe
        self._num_classes = network.num_classes
        self.class_weights = self._weights(torch.from_numpy(np.asarray(targets)))

    def views(
        self, spec: ResizeCrop, targets: Targets, augmentation: str | None
    ) -> ClassificationViews:
        """Return views that leave targets unchanged."""
        params = None if augmentation is None else PRESETS[augmentation]
        return ClassificationViews(spec, targets, params)

    def collate(self, targets: Sequence[Any], device: torch.device) -> Tensor:
        """Return the targets as one tensor."""
        return torch.from_numpy(np.stack(targets)).to(device)

    def vary(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch mixed with itself if the recipe has mixup."""
        if self._recipe.mixup_alpha <= 0:
            return images, targets
        shares = self._kind.as_shares(targets, self._num_classes)
        return mixup(images, shares, self._recipe.mixup_alpha)

    def loss(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over images."""
        weights = self.class_weights
        return self._kind.loss(
            model(images),
            targets,
            label_smoothing=self._recipe.label_smoothing,
            class_weights=None if weights is None else weights.to(images.device),
        )

    def _weights(self, targets: Tensor) -> Tensor | None:
        """Return class weights, [k]; as published, None where imbalance is at most 2.

        Their mean over training images is 1, so that they do not change the learning rate.
        """
        if self._recipe.weighted_loss == 0:
            return None
        counts = self._kind.num_images_of_class(targets, self._num_classes).float().clamp(min=1)
        if counts.max() / counts.min() <= _MIN_IMBALANCE:
            return None
        weights = 1 / counts
        if self._recipe.weighted_loss == 1:
            weights = weights.sqrt()
        weights *= counts.sum() / (counts * weights).sum()
        return weights


def mixup(images: Tensor, shares: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return images and targets blended with those of a random order of the same batch.

    Args:
        images: float32 [n, 3, h, w].
        shares: Targets as class shares, float [n, k].
        alpha: Parameter of the images' share, which is drawn from Beta(alpha, alpha); above 0.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(images)).to(images.device)
    return torch.lerp(images[order], images, share), torch.lerp(shares[order], shares, share)
