"""The objective of tasks whose networks compute their own losses: boxes and outlines."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from autofocus.data.batches.augment.presets import BOX_PRESETS, OUTLINE_PRESETS, BoxAugmentation
from autofocus.data.batches.box_views import SIZE_STEP, BoxViews
from autofocus.data.batches.outline_views import OutlineViews
from autofocus.data.batches.views import Views
from autofocus.manifest import ResizeFit
from autofocus.models.network import Network
from autofocus.structures.targets import BoxTarget, MaskTarget, OutlineTarget
from autofocus.tasks.base import Targets

Target = dict[str, Tensor]

# As published for `multi_scale`: half to one and a half times the size.
MULTI_SCALE = 0.5
# Views as in evaluation, for `multi_scale` without another augmentation.
_AS_EVALUATED = BoxAugmentation(whole_prob=1.0, flip_prob=0.0)


def takes_sizes(network: Network) -> bool:
    """Return whether a network takes batches of different size, in multiples of `SIZE_STEP`."""
    return network.takes_any_size and SIZE_STEP % network.size_multiple == 0


class DetectionObjective:
    """Sums the losses that a detector returns by name (`models.base`).

    Args:
        network: The network.
        multi_scale: Whether batches differ in size by up to `MULTI_SCALE`; None leaves it to the
            augmentation. Ignored by networks of one input size.
    """

    def __init__(self, network: Network, multi_scale: bool | None = None) -> None:
        self._mask_stride = network.stride
        self._multi_scale = multi_scale if takes_sizes(network) else False

    def views(self, spec: ResizeFit, targets: Targets, augmentation: str | None) -> Views:
        """Return views in which boxes move with the image."""
        params = self._params(augmentation, BOX_PRESETS)
        return BoxViews(spec, cast(Sequence[BoxTarget], targets), params)

    def collate(self, targets: Sequence[BoxTarget], device: torch.device) -> list[Target]:
        """Return a dict of tensors for each image; boxes in pixels of the canvas."""
        return [_tensors(target, device) for target in targets]

    def vary(self, images: Tensor, targets: list[Target]) -> tuple[Tensor, list[Target]]:
        """Return the batch as it is: views have varied images and objects."""
        return images, targets

    def loss(self, model: nn.Module, images: Tensor, targets: list[Target]) -> Tensor:
        """Return the sum of the network's losses."""
        losses: dict[str, Tensor] = model(images, targets)
        return torch.stack(list(losses.values())).sum()

    def _params(
        self, augmentation: str | None, presets: Mapping[str, BoxAugmentation | None]
    ) -> BoxAugmentation | None:
        if augmentation is None:
            return None
        params = presets[augmentation]
        if self._multi_scale:
            return replace(params or _AS_EVALUATED, size_jitter=MULTI_SCALE)
        if params is None or self._multi_scale is None:
            return params
        return replace(params, size_jitter=0.0)


class OutlineObjective(DetectionObjective):
    """Objective of instance segmentation: a mask for each object as well."""

    def views(self, spec: ResizeFit, targets: Targets, augmentation: str | None) -> Views:
        """Return views in which outlines move with the image and become masks last."""
        params = self._params(augmentation, OUTLINE_PRESETS)
        outlines = cast(Sequence[OutlineTarget], targets)
        return OutlineViews(spec, outlines, params, self._mask_stride)


def _tensors(target: BoxTarget, device: torch.device) -> Target:
    height, width = target.size
    boxes = target.xyxy_frac * np.array([width, height, width, height], np.float32)
    tensors = {
        "boxes": torch.from_numpy(np.ascontiguousarray(boxes, np.float32)),
        "classes": torch.from_numpy(target.classes),
    }
    if isinstance(target, MaskTarget):
        tensors["masks"] = torch.from_numpy(target.masks)
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
