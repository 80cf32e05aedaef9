"""RetinaNet: torchvision's head, matcher and losses, on anchors from the training boxes.

Notation for tensor shapes as in `detector`.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from autofocus.models.torchvision.detector import (
    Detector,
    LevelAnchors,
    Target,
    as_fractions,
    best_of,
    rows_at,
    solid_targets,
)
from autofocus.models.torchvision.options import RetinaNetOptions
from autofocus.models.torchvision.pyramid import Pyramid

# torchvision's: least IoU of an anchor that learns the box; below the second: the background.
_FOREGROUND_IOU, _BACKGROUND_IOU = 0.5, 0.4
_NORM_GROUPS = 32


class RetinaNet(Detector):
    """RetinaNet on any timm encoder."""

    def __init__(self, encoder: Any, num_classes: int, options: RetinaNetOptions) -> None:
        super().__init__(encoder, Pyramid(encoder, options), options.strides, num_classes)
        self.anchors = LevelAnchors(options.anchor_sizes, options.aspect_ratios, options.strides)
        self.head = RetinaNetHead(
            options.channels,
            self.anchors.num_anchors_per_location()[0],
            num_classes,
            partial(nn.GroupNorm, _NORM_GROUPS) if options.group_norm else None,
        )
        self.matcher = Matcher(_FOREGROUND_IOU, _BACKGROUND_IOU, allow_low_quality_matches=True)
        self.num_candidates = options.num_candidates

    def forward(
        self, images: Tensor, targets: list[Target] | None = None
    ) -> dict[str, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """Return losses, or boxes, scores and classes; see `models.base`."""
        levels = self.feature_maps(images)
        anchors = torch.cat(self.anchors.of_levels(levels))
        # Box arithmetic in half precision would cost whole pixels.
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        if targets is not None:
            return self._losses(outputs, anchors, solid_targets(targets))
        best, index, classes = best_of(outputs["cls_logits"].sigmoid(), self.num_candidates)
        deltas = rows_at(outputs["bbox_regression"], index)  # [n, c, 4]
        coder = self.head.regression_head.box_coder
        boxes = coder.decode_single(deltas.flatten(0, 1), anchors[index].flatten(0, 1))
        size = (images.shape[2], images.shape[3])
        return as_fractions(boxes.view_as(deltas), size), best, classes

    def _losses(
        self, outputs: dict[str, Tensor], anchors: Tensor, targets: list[Target]
    ) -> dict[str, Tensor]:
        matched = [self._matched(anchors, target["boxes"]) for target in targets]
        losses: dict[str, Tensor] = self.head.compute_loss(
            targets, outputs, [anchors] * len(targets), matched
        )
        return losses

    def _matched(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Return the box that each anchor learns, int64 [a]; -1: background, -2: ignored."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        matched: Tensor = self.matcher(box_iou(boxes, anchors))
        return matched
