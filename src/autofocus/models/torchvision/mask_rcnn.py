"""Mask R-CNN: torchvision's mask head on the boxes that Faster R-CNN finds.

Notation for tensor shapes as in `rcnn`, and:
    - s: cells along a side of a box's mask
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

from autofocus.models.torchvision.detector import Target, as_fractions, rows_at, solid_targets
from autofocus.models.torchvision.options import RcnnOptions
from autofocus.models.torchvision.rcnn import FasterRcnn, RegionPooler, suppressed

_POOLED_CELLS, _MASK_CELLS = 14, 28
# Masks of worse boxes are not worth their time: they are left empty.
_MIN_SCORE = 0.01


class MaskRcnn(FasterRcnn):
    """Mask R-CNN on any timm encoder.

    Its candidates are suppressed by class before they get masks, which are its largest cost.

    Attributes:
        stride: Best pixels along one cell of the masks that it learns from; any will do.
    """

    output_names = ("boxes", "scores", "classes", "box_masks")

    def __init__(self, encoder: Any, num_classes: int, options: RcnnOptions) -> None:
        super().__init__(encoder, num_classes, options)
        channels = options.channels
        heads: Any = self.roi_heads
        heads.mask_roi_pool = RegionPooler(options.strides, _POOLED_CELLS)
        heads.mask_head = MaskRCNNHeads(channels, [channels] * options.num_mask_layers, dilation=1)
        heads.mask_predictor = MaskRCNNPredictor(channels, channels, num_classes + 1)
        # Near no opinion: torchvision's start is so sure that its loss drowns all others.
        nn.init.normal_(heads.mask_predictor.mask_fcn_logits.weight, std=0.001)
        self.num_masks = options.num_masks
        self.nms_iou = options.nms_iou
        self.stride = options.mask_stride

    def forward(
        self, images: Tensor, targets: list[Target] | None = None
    ) -> dict[str, Tensor] | tuple[Tensor, ...]:
        """Return losses, or boxes, scores, classes and masks; see `models.base`."""
        size = (images.shape[2], images.shape[3])
        named = self.named_levels(images)
        if targets is not None:
            return self._losses(images, named, solid_targets(targets, first_label=1))
        boxes, scores, classes = self._found(named, size)
        # Boxes of different classes lie far apart, so that they do not suppress each other.
        apart = boxes + classes[..., None].float() * (2 * max(size))
        scores, index = suppressed(apart, scores, self.nms_iou).topk(
            min(self.num_masks, scores.shape[1]), dim=1
        )
        boxes, classes = rows_at(boxes, index), classes.gather(1, index)
        masks = self._masks(named, boxes, scores, classes, size)
        return as_fractions(boxes, size), scores, classes, masks

    def _masks(
        self,
        named: dict[str, Tensor],
        boxes: Tensor,
        scores: Tensor,
        classes: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Return probabilities within each box, for its class, [n, c, s, s]."""
        rows = []
        for position in range(len(boxes)):
            one = {name: level[position : position + 1] for name, level in named.items()}
            # The best box always has a mask: no pooling of nothing at all.
            least = scores[position][0].clamp(max=_MIN_SCORE)
            chosen = torch.where(scores[position] >= least)[0]
            logits = self._mask_logits(one, [boxes[position][chosen]], [size])
            own = _of_class(logits, classes[position][chosen] + 1)
            empty = own.new_zeros(scores.shape[1], _MASK_CELLS, _MASK_CELLS)
            rows.append(empty.index_copy(0, chosen, own.sigmoid()))
        return torch.stack(rows)

    def _mask_logits(
        self, named: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Return logits for all boxes and classes, the background first, [b, k + 1, s, s]."""
        heads: Any = self.roi_heads
        logits: Tensor = heads.mask_predictor(
            heads.mask_head(heads.mask_roi_pool(named, boxes, sizes))
        )
        return logits.float()

    def _more_losses(
        self,
        named: dict[str, Tensor],
        sampled: list[Tensor],
        matched: list[Tensor],
        labels: list[Tensor],
        targets: list[Target],
        sizes: list[tuple[int, int]],
    ) -> dict[str, Tensor]:
        """Return the loss of the masks of proposals that are objects."""
        is_object = [image_labels > 0 for image_labels in labels]
        boxes = [image_boxes[kept] for image_boxes, kept in zip(sampled, is_object, strict=True)]
        logits = self._mask_logits(named, boxes, sizes)
        wanted = torch.cat(
            [
                target_masks(target, image_boxes, image_matched[kept], sizes[0])
                for target, image_boxes, image_matched, kept in zip(
                    targets, boxes, matched, is_object, strict=True
                )
            ]
        )
        classes = torch.cat([image[kept] for image, kept in zip(labels, is_object, strict=True)])
        if not len(classes):
            return {"masks": logits.sum() * 0}
        own = _of_class(logits, classes)
        return {"masks": functional.binary_cross_entropy_with_logits(own, wanted)}


def _of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the masks [b, s, s] of one class [b] each, out of [b, k + 1, s, s]."""
    index = classes[:, None, None, None].expand(-1, 1, _MASK_CELLS, _MASK_CELLS)
    return logits.gather(1, index)[:, 0]


def target_masks(target: Target, boxes: Tensor, objects: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the masks of objects within proposals, float32 [b, s, s] in [0, 1].

    torchvision's `project_masks_on_boxes`, for masks of any stride: cell (i, j) of a mask covers
    the area from (j, i) to (j + 1, i + 1).

    Args:
        target: Target with `masks`, uint8 [m, h / stride, w / stride].
        boxes: Proposals, corners in pixels of the canvas, [b, 4].
        objects: Object of each proposal, int64 [b].
        size: (height, width) of the canvas.
    """
    masks = target["masks"]
    if not len(boxes):
        return boxes.new_zeros(0, _MASK_CELLS, _MASK_CELLS)
    # Only the masks that are needed, as floats: sixteen images of 300 objects would fill memory.
    which, row = torch.unique(objects, return_inverse=True)
    rois = torch.cat([row[:, None].to(boxes), boxes], dim=1)
    pixels = masks[which][:, None].to(boxes)
    scale = masks.shape[1] / size[0]
    cells: Tensor = roi_align(pixels, rois, (_MASK_CELLS, _MASK_CELLS), scale, aligned=True)
    return cells[:, 0]
