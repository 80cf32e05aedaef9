"""The differentiable half of each task: one module a task, found by the task's name."""

from typing import Protocol

from torch import Tensor

from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification
from autofocus.training.losses import multiclass, multilabel


class TaskLoss(Protocol):
    """What the loop needs of a task's loss module."""

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
        """Return targets that can be mixed, float [n, k]."""

    def num_images_of_class(self, targets: Tensor, num_classes: int) -> Tensor:
        """Return how many images each class has, [k]."""


LOSSES: dict[str, TaskLoss] = {
    MulticlassClassification.name: multiclass,
    MultilabelClassification.name: multilabel,
}
