"""XRAI: integrated gradients from a black and a white baseline, averaged over regions.

XRAI: Better Attributions Through Regions (Kapishnikov et al., ICCV 2019). The attributed number
is the class's share of the softmax, for multi-label networks too, as published. The baselines are
the image's own least and greatest value; both run in the same batches.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofocus.explain.base import Attribution, Output
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import integrated_gradients
from autofocus.explain.parameters import Parameters
from autofocus.explain.segmentation.masks import Masks, xrai_masks
from autofocus.explain.segmentation.regions import rank_regions


class Xrai:
    """Whole regions in the order of their mean attribution.

    The map is the same in all three channels. Metadata: `fast`; `num_masks`, the overlapping
    regions that were ranked; `constant_image`, true where all values are equal: such an image is
    its own baselines, and nothing in it can be attributed.
    """

    name: ClassVar[str] = "xrai"
    output: Output = "softmax"

    def attribute(
        self,
        network: FrozenClassifier,
        images: Tensor,
        targets: Sequence[int],
        parameters: Parameters,
    ) -> list[Attribution]:
        """See `AttributionMethod.attribute`."""
        images = network.checked(images, targets)
        baselines = torch.stack([images.amin(dim=(1, 2, 3)), images.amax(dim=(1, 2, 3))], dim=1)
        gradients = integrated_gradients(
            network,
            images,
            baselines[:, :, None, None, None],
            targets,
            self.output,
            parameters.approximation_method,
            parameters.n_steps,
        )
        merged = gradients.mean(dim=1).amax(dim=1).float().cpu().contiguous().numpy()
        pixels = images.permute(0, 2, 3, 1).float().cpu().contiguous().numpy()
        found = []
        masks: Masks | None = None
        for i, target in enumerate(targets):
            # Several classes of one image follow each other and share its regions.
            if masks is None or not np.array_equal(pixels[i], pixels[i - 1]):
                masks = xrai_masks(pixels[i])
            heat = rank_regions(merged[i], masks, fast=parameters.xrai_fast)
            metadata: dict[str, Any] = {
                "fast": parameters.xrai_fast,
                "num_masks": len(masks),
                "constant_image": bool(pixels[i].min() == pixels[i].max()),
            }
            found.append(
                Attribution(
                    _three_channels(heat), self.name, target, self.output, "value", metadata
                )
            )
        return found


def warm_up() -> None:
    """Compile, or load the compiled code, so that no request waits for it."""
    ramp = np.linspace(0, 1, 16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3)
    masks = xrai_masks(ramp)
    for fast in (True, False):
        rank_regions(ramp[:, :, 0], masks, fast=fast)


def _three_channels(heat: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.repeat(heat.astype(np.float32)[None], 3, axis=0)
