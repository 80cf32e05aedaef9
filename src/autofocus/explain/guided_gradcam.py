"""Guided Grad-CAM: guided backprop's detail, weighed by where Grad-CAM sees the class.

Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization (Selvaraju et al.,
ICCV 2017). The coarse map is the positive part of the last map's channels, each times the mean of
its gradient; it is enlarged bilinearly, as in the paper (captum's default is nearest neighbour).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from autofocus.explain.base import Attribution, Output
from autofocus.explain.batches import in_batches
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import select
from autofocus.explain.guided_rule import guided
from autofocus.explain.parameters import Parameters
from autofocus.explain.spatial_map import forward_with_map


class GuidedGradcam:
    """Detail where the class is.

    Metadata: that of guided backprop, `grid`, the places of the coarse map, and
    `positive_evidence`, false where no place speaks for the class: the map is zero then.
    """

    name = "guided_gradcam"
    output: Output = "logit"

    def attribute(
        self,
        network: FrozenClassifier,
        images: Tensor,
        targets: Sequence[int],
        parameters: Parameters,
    ) -> list[Attribution]:
        """See `Explainer.attribute`."""
        return in_batches(network, images, targets, self._explain)

    def _explain(
        self, network: FrozenClassifier, images: Tensor, targets: Tensor
    ) -> list[Attribution]:
        points = images.requires_grad_()
        with torch.enable_grad():
            run = forward_with_map(network, points)
            scores = select(run.logits, targets, self.output)
        # The coarse map takes plain gradients: before the rule is put on the same graph.
        activation, gradient = run.map_and_gradient(scores)
        coarse = gradcam(activation, gradient)
        with guided(network, scores) as units:
            (detail,) = torch.autograd.grad(scores.sum(), points)
        enlarged = functional.interpolate(
            coarse, size=tuple(images.shape[2:]), mode="bilinear", align_corners=False
        )
        maps = (detail * enlarged).float().cpu().contiguous().numpy()
        found = []
        for k, (array, target) in enumerate(zip(maps, targets.tolist(), strict=True)):
            metadata: dict[str, Any] = {
                **units.metadata(),
                "grid": tuple(coarse.shape[2:]),
                "positive_evidence": bool(coarse[k].any()),
            }
            found.append(Attribution(array, self.name, target, self.output, "size", metadata))
        return found


def gradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return the coarse map [n, 1, r, s] of a map and its gradient, [n, c, r, s] both."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1, keepdim=True).relu()
