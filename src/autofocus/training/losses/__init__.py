"""The differentiable half of each task: what is learnt from a batch, found by the task's name."""

from collections.abc import Callable

from autofocus.models.network import Network
from autofocus.tasks.base import Targets
from autofocus.tasks.detection import ObjectDetection
from autofocus.tasks.instance_segmentation import InstanceSegmentation
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification
from autofocus.training.losses import multiclass, multilabel
from autofocus.training.losses.classification import ClassificationObjective
from autofocus.training.losses.detection import DetectionObjective, OutlineObjective
from autofocus.training.losses.objective import Objective
from autofocus.training.recipe import Recipe

__all__ = ["OBJECTIVES", "Objective"]

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
