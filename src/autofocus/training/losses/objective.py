"""What the loop needs of a task to learn from a batch."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Objective(Protocol):
    """Turns a batch's targets into a loss."""

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
