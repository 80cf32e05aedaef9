"""Pooling of regions from the level of their size."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import initLevelMapper

# Levels beyond the encoder's are not pooled from.
_MAX_STRIDE = 32
_SAMPLES_A_CELL = 2
# torchvision's: a region of this side is pooled from the level of stride 2 ** level.
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 4


class RegionPooler(nn.Module):
    """torchvision's `MultiScaleRoIAlign` on levels whose strides are known.

    It would guess them, as powers of two, and it counts regions in Python, which the exporter
    cannot follow where their number depends on the image.

    Args:
        strides: Of the levels, in pixels.
        num_cells: Along a side of a region.
    """

    def __init__(self, strides: Sequence[int], num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells
        self.scales = [1 / stride for stride in strides if stride <= _MAX_STRIDE]
        first = round(math.log2(strides[0]))
        last = first + len(self.scales) - 1
        self.level_of = initLevelMapper(first, last, _CANONICAL_SIDE, _CANONICAL_LEVEL)

    def forward(
        self, named: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Return the features of regions, [r, f, s, s].

        Args:
            named: Levels, finest first, [n, f, h / stride, w / stride].
            boxes: Of each image, corners in pixels, [., 4]; r in all.
            sizes: Of the images; not needed, but torchvision's heads give them.
        """
        rois = convert_boxes_to_roi_format(boxes)
        regions_level = self.level_of(boxes)
        levels = list(named.values())[: len(self.scales)]
        pooled = levels[0].new_zeros(
            rois.shape[0], levels[0].shape[1], self.num_cells, self.num_cells
        )
        for position, (level, scale) in enumerate(zip(levels, self.scales, strict=True)):
            index = torch.where(regions_level == position)[0]
            cells = roi_align(
                level, rois[index], (self.num_cells, self.num_cells), scale, _SAMPLES_A_CELL
            )
            pooled = pooled.index_copy(0, index, cells.to(pooled.dtype))
        return pooled
