"""FCOS: torchvision's head and losses, on points and scale ranges from the training boxes.

Notation for tensor shapes as in `detector`.
"""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOSHead

from autofocus.models.torchvision.detector import (
    Detector,
    LevelAnchors,
    Target,
    as_fractions,
    best_of,
    rows_at,
    solid_targets,
)
from autofocus.models.torchvision.options import FcosOptions
from autofocus.models.torchvision.pyramid import Pyramid

# A point learns a box from within this many strides of its centre.
_CENTRE_STRIDES = 1.5


class Fcos(Detector):
    """FCOS on any timm encoder."""

    def __init__(self, encoder: Any, num_classes: int, options: FcosOptions) -> None:
        super().__init__(encoder, Pyramid(encoder, options), options.strides, num_classes)
        squares = [[stride] for stride in options.strides]
        self.points = LevelAnchors(squares, [1.0], options.strides)
        self.head = FCOSHead(options.channels, 1, num_classes)
        self.range_ends = options.range_ends
        self.num_candidates = options.num_candidates

    def forward(
        self, images: Tensor, targets: list[Target] | None = None
    ) -> dict[str, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """Return losses, or boxes, scores and classes; see `models.base`."""
        levels = self.feature_maps(images)
        points = self.points.of_levels(levels)
        # Box arithmetic in half precision would cost whole pixels.
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        if targets is not None:
            return self._losses(outputs, points, solid_targets(targets))
        scores = (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
        best, index, classes = best_of(scores, self.num_candidates)
        sides = rows_at(outputs["bbox_regression"], index)  # [n, c, 4]
        boxes = self.head.box_coder.decode(sides, torch.cat(points)[index])
        return as_fractions(boxes, (images.shape[2], images.shape[3])), best, classes

    def _losses(
        self, outputs: dict[str, Tensor], points: list[Tensor], targets: list[Target]
    ) -> dict[str, Tensor]:
        lowest, highest = self._ranges(points)
        anchors = torch.cat(points)
        matched = [match_points(anchors, target["boxes"], lowest, highest) for target in targets]
        losses: dict[str, Tensor] = self.head.compute_loss(
            targets, outputs, [anchors] * len(targets), matched
        )
        return losses

    def _ranges(self, points: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the shortest and longest distance that each point learns, [a], in pixels."""
        ends = [0.0, *self.range_ends, float("inf")]
        nums = torch.tensor([len(level) for level in points], device=points[0].device)
        limits = torch.tensor(ends, device=points[0].device)
        return limits[:-1].repeat_interleave(nums), limits[1:].repeat_interleave(nums)


def match_points(points: Tensor, boxes: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Return the box that each point learns, or -1: int64 [a].

    torchvision's rule, with given ranges: a point learns a box that it is in and near the centre
    of, if its largest distance to the box's sides is in its level's range; of several the smallest.

    Args:
        points: Squares of one stride around the points, corners in pixels, [a, 4].
        boxes: Corners in pixels, [m, 4].
        lowest: [a], in pixels.
        highest: [a], in pixels.
    """
    if not len(boxes):
        return torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    centres = (points[:, None, :2] + points[:, None, 2:]) / 2  # [a, 1, 2]
    strides = points[:, 2] - points[:, 0]
    distances = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=2)  # [a, m, 4]
    off_centre = (centres - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(dim=2)  # [a, m]
    longest = distances.amax(dim=2)
    fits = off_centre < _CENTRE_STRIDES * strides[:, None]
    fits &= distances.amin(dim=2) > 0
    fits &= (longest > lowest[:, None]) & (longest < highest[:, None])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    smallest, matched = torch.where(fits, areas, torch.inf).min(dim=1)
    return torch.where(smallest.isinf(), -1, matched)
