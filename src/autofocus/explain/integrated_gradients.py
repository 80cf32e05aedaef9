"""Integrated gradients: the mean gradient on the straight line from a baseline to the image.

Axiomatic Attribution for Deep Networks (Sundararajan, Taly and Yan, ICML 2017). The baseline is
zero after normalisation, an image of the training data's mean colour, as in captum's default.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from autofocus.explain.base import Attribution, Output
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import integrated_gradients, values_of
from autofocus.explain.parameters import Parameters


class IntegratedGradients:
    """Attributions of a logit that sum to what the image adds to it over the baseline.

    Metadata: `value` and `baseline_value`, the logit of image and baseline, and
    `completeness_error`, the attributions' sum minus the difference of the two. It falls as
    `n_steps` grows; a large one says that the map leaves out a part of the answer.
    """

    name: ClassVar[str] = "integrated_gradients"
    output: Output = "logit"

    def attribute(
        self,
        network: FrozenClassifier,
        images: Tensor,
        targets: Sequence[int],
        parameters: Parameters,
    ) -> list[Attribution]:
        """See `AttributionMethod.attribute`."""
        images = network.checked(images, targets)
        baselines = images.new_zeros(len(images), 1, 1, 1, 1)
        maps = integrated_gradients(
            network,
            images,
            baselines,
            targets,
            self.output,
            parameters.approximation_method,
            parameters.n_steps,
        ).squeeze(1)
        values = values_of(network, images, targets, self.output).tolist()
        grounds = values_of(network, images.mul(0), targets, self.output).tolist()
        sums = maps.double().sum(dim=(1, 2, 3)).tolist()
        return [
            Attribution(
                map=attribution.float().cpu().contiguous().numpy(),
                algorithm=self.name,
                target=target,
                output=self.output,
                ranking="positive",
                metadata={
                    "value": value,
                    "baseline_value": ground,
                    "completeness_error": total - (value - ground),
                },
            )
            for attribution, target, value, ground, total in zip(
                maps, targets, values, grounds, sums, strict=True
            )
        ]
