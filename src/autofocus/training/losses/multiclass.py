"""Cross-entropy for one class an image.

A file of its own: one loss a task.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def loss(
    logits: Tensor, targets: Tensor, *, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the mean loss over images.

    With class weights too it is divided by the number of images, not by their weights: only so
    do the parts of a batch add up to the whole, in pieces and on several machines.

    Args:
        logits: float [n, k].
        targets: Class indices, int64 [n], or mixed class shares, float [n, k].
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        class_weights: float [k], or None.
    """
    total = F.cross_entropy(
        logits.float(),
        targets,
        weight=class_weights,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total / len(logits)


def as_shares(targets: Tensor, num_classes: int) -> Tensor:
    """Return targets as class shares, float [n, k], which mixup can mix."""
    return F.one_hot(targets, num_classes).float()


def num_images_of_class(targets: Tensor, num_classes: int) -> Tensor:
    """Return the number of images of each class, int64 [k]."""
    return torch.bincount(targets, minlength=num_classes)
