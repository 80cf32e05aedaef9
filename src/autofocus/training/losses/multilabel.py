"""Binary cross-entropy a class, for any number of classes an image.

A file of its own: one loss a task.
"""

from torch import Tensor
from torch.nn import functional as F


def loss(
    logits: Tensor, targets: Tensor, *, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the mean loss over images and classes.

    Args:
        logits: float [n, k].
        targets: 0 or 1 (or mixed shares) [n, k].
        label_smoothing: Share by which targets move towards one half, in [0, 1).
        class_weights: float [k], or None.
    """
    shares = targets.float() * (1 - label_smoothing) + 0.5 * label_smoothing
    return F.binary_cross_entropy_with_logits(logits.float(), shares, weight=class_weights)


def as_shares(targets: Tensor, num_classes: int) -> Tensor:
    """Return targets as floats, which mixup can mix."""
    return targets.float()


def num_images_of_class(targets: Tensor, num_classes: int) -> Tensor:
    """Return the number of images of each class, int64 [k]."""
    return targets.sum(dim=0)
