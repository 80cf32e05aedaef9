"""The differentiable half of each task: what is learnt from a batch, found by the task's name."""

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
        """Return how images become network input and targets.

        Args:
            spec: Size and normalisation of the network's input.
            targets: One an image, as the task encodes them.
            augmentation: Name of a preset; None draws what evaluation sees.
        """

    def collate(self, targets: Sequence[Any], device: torch.device) -> Any:
        """Return n targets of views in a form that can be sliced by image, on `device`."""

    def vary(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Return images and targets changed together, such as mixed; or as they are."""

    def loss(self, model: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the mean loss over images, of a model in training mode.

        Args:
            model: Takes the images; perhaps wrapped for several processes.
            images: float32 [n, 3, h, w].
            targets: What `vary` returned, or a slice of it.
        """


# From a recipe, all training targets and the network.
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
