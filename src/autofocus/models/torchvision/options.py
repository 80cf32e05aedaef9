"""Options of torchvision's detectors: planned from the data, and read from a manifest."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from autofocus.errors import ModelFolderError

# Bounds, so that no manifest makes the builder take all memory.
Stride = Annotated[int, msgspec.Meta(ge=2, le=512)]
Pixels = Annotated[float, msgspec.Meta(gt=0, le=8192)]
Ratio = Annotated[float, msgspec.Meta(ge=0.02, le=50)]
Channels = Annotated[int, msgspec.Meta(ge=8, le=1024)]
Number = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Overlap = Annotated[float, msgspec.Meta(gt=0, le=1)]
Levels = msgspec.Meta(min_length=1, max_length=7)
AnchorSizes = Annotated[list[Annotated[list[Pixels], Levels]], Levels]
AspectRatios = Annotated[list[Ratio], Levels]


class PyramidOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The feature maps that the heads see.

    Attributes:
        strides: Stride of each level, finest first, in pixels; each twice the one before.
        channels: Channels of each level.
    """

    strides: Annotated[list[Stride], Levels]
    channels: Channels


class FcosOptions(PyramidOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """FCOS.

    Attributes:
        range_ends: For each level but the last, the largest distance from a point to a side of its
            box that the level learns, in pixels.
        num_candidates: c, at most.
    """

    range_ends: list[Pixels]
    num_candidates: Number


class RetinaNetOptions(PyramidOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """RetinaNet.

    Attributes:
        anchor_sizes: Roots of the anchors' areas, of each level, in pixels.
        aspect_ratios: Heights / widths of the anchors.
        num_candidates: c, at most.
        group_norm: Whether the head normalises; COCO's weights are of one that does not.
    """

    anchor_sizes: AnchorSizes
    aspect_ratios: AspectRatios
    num_candidates: Number
    group_norm: bool = True


class RcnnOptions(PyramidOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Faster R-CNN and Mask R-CNN.

    Attributes:
        anchor_sizes: Roots of the anchors' areas, of each level, in pixels.
        aspect_ratios: Heights / widths of the anchors.
        num_proposals: Regions an image that the box head looks at.
        num_candidates: c, at most, without masks.
        num_masks: c with masks: boxes of an image that are left after suppression, at most.
        num_samples: Regions an image that the box head learns from.
        head_width: Features of a region.
        num_mask_layers: Convolutions of the mask head.
        mask_stride: Pixels along one cell of the masks that it learns from.
        nms_iou: NMS IoU threshold within a class before masks; 1 suppresses nothing. Manifests
            from before this was an option have networks of the default.
    """

    anchor_sizes: AnchorSizes
    aspect_ratios: AspectRatios
    num_proposals: Number
    num_candidates: Number
    num_masks: Number
    num_samples: Number
    head_width: Channels
    num_mask_layers: Annotated[int, msgspec.Meta(ge=1, le=8)]
    mask_stride: Literal[1, 2, 4] = 4
    nms_iou: Overlap = 0.6


AnyOptions = TypeVar("AnyOptions", bound=PyramidOptions)


def read_options(values: Mapping[str, Any], kind: type[AnyOptions]) -> AnyOptions:
    """Return `values` as options of `kind`.

    Raises:
        ModelFolderError: If they are not: they come from a manifest that was changed.
    """
    try:
        options = msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        raise ModelFolderError(
            f"manifest.json: network: {error}. Copy the model folder again."
        ) from error
    if problem := _inconsistent(options):
        raise ModelFolderError(f"manifest.json: network.{problem}. Copy the model folder again.")
    return options


def _inconsistent(options: PyramidOptions) -> str | None:
    """Return a message on the option that does not fit the levels, or None."""
    strides = options.strides
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        return f"strides: each must be twice the one before, got {strides}"
    if isinstance(options, FcosOptions):
        if len(options.range_ends) != len(strides) - 1:
            return f"range_ends: must be one a level but the last, got {options.range_ends}"
        return None
    sizes: list[list[float]] = getattr(options, "anchor_sizes", [])
    if len(sizes) != len(strides) or len({len(row) for row in sizes}) != 1:
        return f"anchor_sizes: must be as many numbers for each level, got {sizes}"
    return None
