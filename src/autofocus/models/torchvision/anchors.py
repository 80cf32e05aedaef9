"""torchvision's anchors, on levels whose strides are known."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator


class LevelAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is not typed
    """Anchors around the points of each level.

    torchvision divides the image's size by the map's, which is not the stride where a level's last
    row or column reaches beyond the image; and it keeps tensors that an export would leave behind.

    Args:
        sizes: Roots of the anchors' areas, of each level, in pixels.
        aspect_ratios: Heights / widths, the same at all levels.
        strides: Of the levels, in pixels.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[float],
        strides: Sequence[int],
    ) -> None:
        super().__init__(tuple(map(tuple, sizes)), (tuple(aspect_ratios),) * len(sizes))
        self.strides = list(strides)
        for level, anchors in enumerate(self.cell_anchors):
            self.register_buffer(f"level_{level}", anchors, persistent=False)

    def of_levels(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors of each level, corners in pixels, [a of the level, 4]."""
        anchors = []
        for level, (values, stride) in enumerate(zip(levels, self.strides, strict=True)):
            cell: Tensor = self.get_buffer(f"level_{level}")
            height, width = values.shape[-2:]
            y = torch.arange(height, device=cell.device) * stride
            x = torch.arange(width, device=cell.device) * stride
            top, left = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack([left, top, left, top], dim=2).view(-1, 1, 4)
            anchors.append((shifts + cell).view(-1, 4))
        return anchors

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors of each image, as `RegionProposalNetwork` asks for them."""
        anchors = torch.cat(self.of_levels(feature_maps))
        return [anchors] * len(image_list.image_sizes)
