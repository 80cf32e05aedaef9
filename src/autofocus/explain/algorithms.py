"""The explainers by their published names. A new one is one line here."""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from autofocus.explain.base import Attribution, Explainer
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.guided_backprop import GuidedBackprop
from autofocus.explain.guided_gradcam import GuidedGradcam
from autofocus.explain.integrated_gradients import IntegratedGradients
from autofocus.explain.parameters import Parameters
from autofocus.explain.xrai import Xrai

EXPLAINERS: Final[dict[str, Explainer]] = {
    "xrai": Xrai(),
    "integrated_gradients": IntegratedGradients(),
    "guided_gradcam": GuidedGradcam(),
    "guided_backprop": GuidedBackprop(),
}


def explain(
    network: FrozenClassifier, images: Tensor, targets: Sequence[int], parameters: Parameters
) -> list[Attribution]:
    """Explain one class of each image by the algorithm that `parameters` names.

    Args:
        network: What `frozen.freeze` returned.
        images: Normalised as the network expects, float32 [n, 3, h, w].
        targets: Class index of each image.
        parameters: What `parameters.parse_parameters` returned.

    Raises:
        InputError: If the images do not fit the network, or the algorithm cannot explain it.
    """
    explainer = EXPLAINERS[parameters.xai_algorithm]
    return explainer.attribute(network, images, targets, parameters)
