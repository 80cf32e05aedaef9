"""Base of all torchvision detectors: encoder, pyramid, anchors, targets, candidates.

Notation for tensor shapes:
    - n: images in a batch
    - h, w: height and width of the network's input, in pixels
    - a: anchors of all levels
    - k: classes
    - c: candidates of an image
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

from autofocus.models.network import Network
from autofocus.models.torchvision.pyramid import Pyramid

Target = dict[str, Tensor]

# Encoders end at a stride of 32, or a little less or more where their patches are odd.
_MIN_STRIDE = 22


class Detector(Network):
    """An encoder and its pyramid; subclasses add their heads, from an encoder, k and options.

    Args:
        encoder: timm's network, from `create_feature_encoder`.
        pyramid: Feature pyramid on the encoder's maps.
        strides: Strides of the levels, in pixels.
        num_classes: k.

    Attributes:
        strides: Strides of the levels, finest first, in pixels.
    """

    output_names: tuple[str, ...] = ("boxes", "scores", "classes")

    def __init__(
        self,
        encoder: Any,
        pyramid: Pyramid,
        strides: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pyramid = pyramid
        self.num_classes = num_classes
        self.strides = list(strides)
        self.takes_any_size = not encoder.pretrained_cfg.get("fixed_input_size", False)
        self.size_multiple = next(
            stride for stride in (strides[0] * 2**i for i in range(5)) if stride > _MIN_STRIDE
        )

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return one map a level, finest first, of images [n, 3, h, w]."""
        encoder: Any = self.encoder
        maps = encoder.forward_intermediates(
            images,
            indices=self.pyramid.indices,
            norm=self.pyramid.normalize,
            intermediates_only=True,
        )
        levels: list[Tensor] = self.pyramid(maps)
        return levels


class LevelAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is not typed
    """Anchors around the points of each level.

    torchvision divides the image's size by the map's, which is not the stride where a level's last
    row or column reaches beyond the image; and it keeps tensors that an export would leave behind.

    Args:
        sizes: Roots of the anchors' areas, of each level, in pixels.
        aspect_ratios: Heights / widths, the same at all levels.
        strides: Strides of the levels, in pixels.
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


def solid_targets(targets: Sequence[Target], first_label: int = 0) -> list[Target]:
    """Return targets as torchvision's heads take them: `labels`, and only boxes with an area.

    Args:
        targets: See `models.base`.
        first_label: Label of class 0: 1 where 0 is the background.
    """
    solid = []
    for target in targets:
        boxes = target["boxes"]
        kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        given = {key: value[kept] for key, value in target.items() if key != "classes"}
        solid.append({**given, "labels": target["classes"][kept] + first_label})
    return solid


def best_of(scores: Tensor, num_candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best of all anchors and classes: scores, anchors, classes, each [n, c].

    Args:
        scores: [n, a, k].
        num_candidates: c, at most.
    """
    num_classes = scores.shape[2]
    flat = scores.flatten(1)
    best, index = flat.topk(min(num_candidates, flat.shape[1]), dim=1)
    return best, index // num_classes, index % num_classes


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """Return rows of values [n, a, d] at index [n, c], as [n, c, d]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def as_fractions(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes [..., 4] in pixels of a canvas of `size`, clipped to it, as its fractions."""
    height, width = size
    scale = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    return (boxes / scale).clamp(0.0, 1.0)
