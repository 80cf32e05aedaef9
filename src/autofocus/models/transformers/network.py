"""A transformers detector as `models.base` describes a detector or segmenter.

Notation for tensor shapes:
    - n: images in a batch
    - h, w: height and width of the network's input, in pixels
    - q: queries of an image
    - k: classes
    - c: candidates of an image
    - m: objects of an image
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from autofocus.models.network import Exporter, Network

# Candidates of an image that their authors' post-processing keeps.
_MIN_CANDIDATES: Final = 300
# `loss_bbox_aux_1`, `loss_vfl_dn_0`, `loss_ce_2`, `loss_mask_dice_enc`: a loss, then where.
_LOSS = re.compile(r"loss_(\w+?)(?:_(?:aux|dn)_\d+|_enc|_\d+)?")


class TransformersDetector(Network):
    """A detector or instance segmenter of the DETR family, with its family's own loss.

    Attributes:
        detector: The transformers model; holds `encoder` too, under its own name for it.
        loss_weights: Factor of each loss by its name; None where the model applied them.
        freezes_norms: Whether the encoder's batch norms keep their pretrained statistics.
        stride: Stride of the masks in training's targets, in pixels; 1 for a detector.
    """

    def __init__(
        self,
        detector: nn.Module,
        encoder: nn.Module,
        *,
        num_classes: int,
        num_candidates: int,
        mask_stride: int | None = None,
        loss_weights: Mapping[str, float] | None = None,
        exporter: Exporter = "torchscript",
        freezes_norms: bool = False,
    ) -> None:
        super().__init__()
        # First, so that its parameters are named `encoder.…` for layer-wise rates and freezing.
        self.encoder = encoder
        self.detector = detector
        self.num_classes = num_classes
        self.num_candidates = num_candidates
        self.stride = mask_stride or 1
        self.output_names = ("boxes", "scores", "classes") + (("masks",) if mask_stride else ())
        self.exporter = exporter
        self.loss_weights = loss_weights
        self.freezes_norms = freezes_norms
        own: Any = detector
        own.loss_function = InFloat32(own.loss_function)
        # One name a tensor: the encoder has two, and heads are shared between layers.
        hooks: Any = super()
        hooks.register_state_dict_post_hook(_drop_aliases)
        hooks.register_load_state_dict_pre_hook(_restore_aliases)

    def train(self, mode: bool = True) -> "TransformersDetector":
        """Switch to training, but for frozen batch norms."""
        super().train(mode)
        if self.freezes_norms:
            for module in self.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(
        self, images: Tensor, targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Return candidates of images, best first; or, given targets, losses by name.

        Args:
            images: float32 [n, 3, h, w], normalised.
            targets: n dicts: `boxes` [m, 4], corners in pixels; `classes` [m]; a segmenter's
                `masks` [m, h / stride, w / stride] too. Only in training mode.

        Returns:
            boxes [n, c, 4], corners as fractions of the canvas; scores [n, c]; classes [n, c]; a
            segmenter's masks [n, c, h / stride, w / stride], probabilities. Or scalars whose sum
            is the training loss.
        """
        if targets is not None:
            assert self.training, "queries come in groups in training only"
            return self._losses(images, targets)
        outputs = self.detector(images)
        scores, best = outputs.logits.sigmoid().flatten(1).topk(self.num_candidates, dim=1)
        query, classes = best // self.num_classes, best % self.num_classes  # [n, c]
        boxes = _take(to_corners(outputs.pred_boxes), query)
        if "masks" not in self.output_names:
            return boxes, scores, classes
        masks = _take(outputs.pred_masks.flatten(2), query).sigmoid()
        height, width = outputs.pred_masks.shape[2:]
        return boxes, scores, classes, masks.reshape(-1, self.num_candidates, height, width)

    def _losses(self, images: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the family's losses, weighed, added up over layers and query groups."""
        labels = [_label(target, images) for target in targets]
        outputs = self.detector(images, labels=labels)
        losses: dict[str, Tensor] = {}
        for key, value in outputs.loss_dict.items():
            if found := _LOSS.fullmatch(key):
                name = found[1]
                weight = self.loss_weights[name] if self.loss_weights is not None else 1.0
                # Without an object, masks' losses are empty instead of zero.
                losses[name] = (
                    losses.get(name, torch.zeros_like(value.sum())) + weight * value.sum()
                )
        return losses


class InFloat32:
    """A loss function that computes in float32 whatever the network computed in.

    In bfloat16 a confident score rounds to 1, and the logarithm of what is missing to -inf.
    """

    def __init__(self, loss_function: Callable[..., Any]) -> None:
        self.loss_function = loss_function

    def __call__(self, logits: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return what the loss function returns for the same arguments."""
        with torch.autocast(logits.device.type, enabled=False):
            return self.loss_function(_float32(logits), *_float32(list(args)), **_float32(kwargs))


def _float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    if isinstance(value, dict):
        return {key: _float32(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_float32(item) for item in value)
    return value


def to_corners(boxes: Tensor) -> Tensor:
    """Return (left, top, right, bottom) of boxes (centre x, centre y, width, height), [..., 4]."""
    centre, side = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - side / 2, centre + side / 2], dim=-1)


def num_candidates(num_queries: int, num_classes: int, *, has_masks: bool) -> int:
    """Return c, the number of pairs of query and class in the authors' post-processing."""
    wanted = num_queries if has_masks else max(_MIN_CANDIDATES, num_queries)
    return min(wanted, num_queries * num_classes)


def _take(values: Tensor, query: Tensor) -> Tensor:
    """Return [n, c, d]: of values [n, q, d] the rows that `query` [n, c] names."""
    return values.gather(1, query.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _label(target: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """Return a target as transformers' losses want it: centres and sides in fractions."""
    height, width = images.shape[-2:]
    boxes = target["boxes"].to(images.device, torch.float32)  # [m, 4]
    boxes = (boxes / boxes.new_tensor([width, height, width, height])).clamp(0, 1)
    corner, other = boxes[:, :2], boxes[:, 2:]
    kept = (other > corner).all(dim=1)
    label = {
        "boxes": torch.cat([(corner + other) / 2, other - corner], dim=1)[kept],
        "class_labels": target["classes"].to(images.device)[kept],
    }
    if "masks" in target:
        label["masks"] = target["masks"].to(images.device)[kept]
    return label


def _aliases(module: nn.Module) -> dict[str, str]:
    """Return the first name of each tensor that has several, by its other names."""
    first: dict[int, str] = {}
    aliases: dict[str, str] = {}
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        owner = first.setdefault(id(tensor), name)
        if owner != name:
            aliases[name] = owner
    return aliases


def _drop_aliases(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any
) -> None:
    """Keep each tensor under one name: safetensors refuses two, an average would move twice."""
    for alias in _aliases(module):
        state_dict.pop(prefix + alias, None)


def _restore_aliases(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_unused: Any
) -> None:
    for alias, owner in _aliases(module).items():
        if prefix + owner in state_dict:
            state_dict.setdefault(prefix + alias, state_dict[prefix + owner])
