"""Binary cross-entropy a class, for any number of classes an image.

A file of its own: one loss a task.
"""

from torch import Tensor
from torch.nn import functional as F


def loss(
    logits: Tensor, targets: Tensor, *, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the mean over images and classes.

    Args:
        logits: float [n, k].
        targets: 0 or 1 (or mixed shares) [n, k].
        label_smoothing: In [0, 1); targets move towards one half.
        class_weights: float [k], or None.
    """
    shares = targets.float() * (1 - label_smoothing) + 0.5 * label_smoothing
    return F.binary_cross_entropy_with_logits(logits.float(), shares, weight=class_weights)


def as_shares(targets: Tensor, num_classes: int) -> Tensor:
    """Return targets as floats, which mixup can mix."""
    return targets.float()


def num_images_of_class(targets: Tensor, num_classes: int) -> Tensor:
    """Return how many images each class has, int64 [k]."""
    return targets.sum(dim=0)
