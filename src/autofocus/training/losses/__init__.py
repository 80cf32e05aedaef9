"""Objectives: the differentiable half of each task, by the task's name."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autofocus.data.batches.views import Views
from autofocus.models.network import Network
from autofocus.tasks.base import Targets
from autofocus.tasks.detection import ObjectDetection
from autofocus.tasks.instance_segmentation import InstanceSegmentation
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification
from autofocus.training.losses import multiclass, multilabel
from autofocus.training.losses.classification import ClassificationObjective
from autofocus.training.losses.detection import DetectionObjective, OutlineObjective
from autofocus.training.recipe import Recipe


class Objective(Protocol):
    """Turns images and targets into views, and a batch of them into a loss."""

    def views(self, spec: Any, targets: Targets, augmentation: str | None) -> Views:
        """Return views, which make network input and targets from images.

        Args:
            spec: Size and normalisation of the network's input.
            targets: The task's targets, one an image.
            augmentation: Name of a preset; None for views as in evaluation.
        """

    def collate(self, targets: Sequence[Any], device: torch.device) -> Any:
        """Return the targets of n views on `device`, in a form that can be sliced by image."""

    def vary(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Return images and targets, changed together (such as by mixup) or as they are."""

    def loss(self, model: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the mean loss over images of a model in training mode.

        Args:
            model: Model; may be wrapped for several processes.
            images: float32 [n, 3, h, w].
            targets: Targets from `vary`, or a slice of them.
        """


# Constructors by task, from a recipe, all training targets and the network.
OBJECTIVES: dict[str, Callable[[Recipe, Targets, Network], Objective]] = {
    MulticlassClassification.name: lambda *given: ClassificationObjective(multiclass, *given),
    MultilabelClassification.name: lambda *given: ClassificationObjective(multilabel, *given),
    ObjectDetection.name: lambda recipe, targets, network: DetectionObjective(
        network, recipe.multi_scale
    ),
    InstanceSegmentation.name: lambda recipe, targets, network: OutlineObjective(
        network, recipe.multi_scale
    ),
}
