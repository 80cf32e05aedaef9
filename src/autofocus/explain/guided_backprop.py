"""Guided backprop: the gradient of a logit with every rectifier guided (see `guided_rule`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from autofocus.explain.base import Attribution, Output
from autofocus.explain.batches import in_batches
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import select
from autofocus.explain.guided_rule import guided
from autofocus.explain.parameters import Parameters


class GuidedBackprop:
    """Fine detail that raises a logit; sharp, and the least specific to the class.

    Metadata: `guided` and `guided_extension`, the number of guided activations by kind, and `rule`,
    which is `guided, extended` where our extension took part.
    """

    name = "guided_backprop"
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
            scores = select(network(points), targets, self.output)
        with guided(network, scores) as units:
            (maps,) = torch.autograd.grad(scores.sum(), points)
        arrays = maps.float().cpu().contiguous().numpy()
        return [
            Attribution(array, self.name, target, self.output, "size", units.metadata())
            for array, target in zip(arrays, targets.tolist(), strict=True)
        ]
