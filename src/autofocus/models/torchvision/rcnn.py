"""Faster R-CNN: torchvision's region proposals and box head, on anchors from the training boxes.

Notation for tensor shapes as in `detector`, and:
    - p: proposals of an image
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import clip_boxes_to_image, nms, roi_align
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import initLevelMapper

from autofocus.models.torchvision.detector import (
    Detector,
    LevelAnchors,
    Target,
    as_fractions,
    best_of,
    rows_at,
    solid_targets,
)
from autofocus.models.torchvision.options import RcnnOptions
from autofocus.models.torchvision.pyramid import Pyramid

# torchvision's numbers.
_PROPOSAL_IOUS, _BOX_IOUS = (0.7, 0.3), (0.5, 0.5)
_PROPOSAL_SAMPLES, _PROPOSAL_POSITIVES = 256, 0.5
_BOX_POSITIVES = 0.25
_PROPOSAL_NMS_IOU = 0.7
_MIN_PROPOSAL_SIDE = 1e-3
_BOX_CELLS = 7
# Levels beyond the encoder's are not pooled from.
_MAX_POOLED_STRIDE = 32
_SAMPLES_A_CELL = 2
# torchvision's: a region of this side is pooled from the level of stride 2 ** level.
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 4


class FasterRcnn(Detector):
    """Faster R-CNN on any timm encoder."""

    # Suppression of proposals leaves another number in each image.
    dynamic_batch = False

    def __init__(self, encoder: Any, num_classes: int, options: RcnnOptions) -> None:
        pyramid = Pyramid(encoder, options, pool_coarse=True)
        super().__init__(encoder, pyramid, options.strides, num_classes)
        self.anchors = LevelAnchors(options.anchor_sizes, options.aspect_ratios, options.strides)
        most = {"training": 2 * options.num_proposals, "testing": options.num_proposals}
        self.rpn = RegionProposalNetwork(
            self.anchors,
            RPNHead(options.channels, self.anchors.num_anchors_per_location()[0]),
            *_PROPOSAL_IOUS,
            _PROPOSAL_SAMPLES,
            _PROPOSAL_POSITIVES,
            pre_nms_top_n=most,
            post_nms_top_n=most,
            nms_thresh=_PROPOSAL_NMS_IOU,
        )
        self.roi_heads = RoIHeads(
            RegionPooler(options.strides, _BOX_CELLS),
            TwoMLPHead(options.channels * _BOX_CELLS**2, options.head_width),
            FastRCNNPredictor(options.head_width, num_classes + 1),
            *_BOX_IOUS,
            options.num_samples,
            _BOX_POSITIVES,
            bbox_reg_weights=None,
            # Suppression is ours: `forward`.
            score_thresh=0.0,
            nms_thresh=1.0,
            detections_per_img=options.num_candidates,
        )
        # Near no opinion: on the large features of some encoders the loss starts far too high.
        nn.init.normal_(self.roi_heads.box_predictor.cls_score.weight, std=0.01)
        nn.init.normal_(self.roi_heads.box_predictor.bbox_pred.weight, std=0.001)
        self.num_proposals = options.num_proposals
        self.num_candidates = options.num_candidates

    def forward(
        self, images: Tensor, targets: list[Target] | None = None
    ) -> dict[str, Tensor] | tuple[Tensor, ...]:
        """Return losses, or boxes, scores and classes; see `models.base`."""
        size = (images.shape[2], images.shape[3])
        named = self.named_levels(images)
        if targets is not None:
            return self._losses(images, named, solid_targets(targets, first_label=1))
        boxes, scores, classes = self._found(named, size)
        return as_fractions(boxes, size), scores, classes

    def named_levels(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pyramid's levels as torchvision's poolers take them."""
        levels = enumerate(self.feature_maps(images))
        return OrderedDict((str(level), values) for level, values in levels)

    def _losses(
        self, images: Tensor, named: dict[str, Tensor], targets: list[Target]
    ) -> dict[str, Tensor]:
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        proposals, losses = self.rpn(ImageList(images, sizes), named, targets)
        heads: Any = self.roi_heads
        sampled, matched, labels, deltas = heads.select_training_samples(proposals, targets)
        features = heads.box_head(heads.box_roi_pool(named, sampled, sizes))
        classification, regression = fastrcnn_loss(
            *(output.float() for output in heads.box_predictor(features)), labels, deltas
        )
        more = self._more_losses(named, sampled, matched, labels, targets, sizes)
        return {
            "objectness": losses["loss_objectness"],
            "proposal_regression": losses["loss_rpn_box_reg"],
            "classification": classification,
            "bbox_regression": regression,
            **more,
        }

    def _more_losses(
        self,
        named: dict[str, Tensor],
        sampled: list[Tensor],
        matched: list[Tensor],
        labels: list[Tensor],
        targets: list[Target],
        sizes: list[tuple[int, int]],
    ) -> dict[str, Tensor]:
        """Return the losses of heads beyond the box head: here there are none."""
        return {}

    def _found(
        self, named: dict[str, Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best of all proposals and classes: boxes in pixels, scores, classes."""
        proposals, is_kept = self._proposals(list(named.values()), size)
        num = len(proposals)
        heads: Any = self.roi_heads
        pooled = heads.box_roi_pool(named, list(proposals.unbind()), [size] * num)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        # Class 0 is the background.
        scores = logits.float().softmax(dim=1)[:, 1:].reshape(num, -1, self.num_classes)
        best, index, classes = best_of(scores * is_kept[..., None], self.num_candidates)
        by_class = deltas.float().reshape(num, -1, 4)
        own = rows_at(by_class, index * (self.num_classes + 1) + classes + 1)  # [n, c, 4]
        chosen = rows_at(proposals, index)
        boxes = heads.box_coder.decode_single(own.flatten(0, 1), chosen.flatten(0, 1))
        return clip_boxes_to_image(boxes.view_as(chosen), size), best, classes

    def _proposals(self, levels: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the p best proposals [n, p, 4] in pixels, and [n, p]: 0 where one was suppressed.

        As `RegionProposalNetwork` in evaluation, with a fixed number of proposals.
        """
        objectness, deltas = self.rpn.head(levels)
        boxes, scores = [], []
        for anchors, logits, codes in zip(
            self.anchors.of_levels(levels), objectness, deltas, strict=True
        ):
            num = logits.shape[0]
            flat = logits.permute(0, 2, 3, 1).reshape(num, -1).float()
            codes = codes.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).reshape(num, -1, 4).float()
            best, index = flat.topk(min(self.num_proposals, flat.shape[1]), dim=1)
            chosen = rows_at(codes, index)
            decoded = self.rpn.box_coder.decode_single(
                chosen.flatten(0, 1), anchors[index].flatten(0, 1)
            )
            clipped = clip_boxes_to_image(decoded.view_as(chosen), size)
            is_solid = ((clipped[..., 2:] - clipped[..., :2]) >= _MIN_PROPOSAL_SIDE).all(dim=2)
            boxes.append(clipped)
            scores.append(suppressed(clipped, best.sigmoid() * is_solid, _PROPOSAL_NMS_IOU))
        kept = torch.cat(scores, dim=1)
        best, index = kept.topk(min(self.num_proposals, kept.shape[1]), dim=1)
        return rows_at(torch.cat(boxes, dim=1), index), (best > 0).float()


class RegionPooler(nn.Module):
    """torchvision's `MultiScaleRoIAlign` on levels whose strides are known.

    It would guess them, as powers of two, and it counts regions in Python, which the exporter
    cannot follow where their number depends on the image.

    Args:
        strides: Strides of the levels, in pixels.
        num_cells: Cells along a side of a region.
    """

    def __init__(self, strides: Sequence[int], num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells
        self.scales = [1 / stride for stride in strides if stride <= _MAX_POOLED_STRIDE]
        first = round(math.log2(strides[0]))
        last = first + len(self.scales) - 1
        self.level_of = initLevelMapper(first, last, _CANONICAL_SIDE, _CANONICAL_LEVEL)

    def forward(
        self, named: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Return the features of regions, [r, f, s, s].

        Args:
            named: Levels, finest first, [n, f, h / stride, w / stride].
            boxes: Boxes of each image, corners in pixels, [., 4]; r in all.
            sizes: Sizes of the images; not needed, but torchvision's heads give them.
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


def suppressed(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Return the scores [n, c], 0 where a better box of the image overlaps by more than `iou`.

    Args:
        boxes: [n, c, 4].
        scores: [n, c].
        iou: NMS IoU threshold.
    """
    rows = []
    for image_boxes, image_scores in zip(boxes.unbind(), scores.unbind(), strict=True):
        kept = nms(image_boxes, image_scores, iou)
        rows.append(torch.zeros_like(image_scores).index_copy(0, kept, image_scores[kept]))
    return torch.stack(rows)
