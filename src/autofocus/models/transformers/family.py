"""The family of DETR-like detectors and segmenters from transformers. Imports no torch.

They stretch the image to a square and find each object once, so that little is left to suppress.
"""

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from autofocus.manifest import ResizeFit
from autofocus.models.base import Family, LoadedWeights, ModelSpec, Size
from autofocus.models.box_profile import BoxProfile
from autofocus.models.transformers.sizes import (
    D_FINE,
    DEIMV2,
    RF_DETR,
    RF_DETR_SEG,
    RT_DETR_V2,
    SIZES,
)

if TYPE_CHECKING:
    from autofocus.models.network import Network

logger = logging.getLogger(__name__)

# Queries for each object of all but the fullest images; the surplus is for duplicates.
_QUERIES_PER_OBJECT: Final = 1.5
# A side at which a step of training takes a second or so on two cores.
_CPU_SIDE: Final = 320
# Largest side of an input that is enlarged to have queries for all objects.
_MAX_SIDE: Final = 1024
# The least size that the smaller objects (the 10th percentile) must keep, in pixels.
_MIN_OBJECT_SIDE: Final = 12.0

# Networks that predict a set of objects (competitors.md §1b, §5.2): slow rates, small gradients,
# and losses that begin in the tens for each of their decoder's layers.
_SET: Final[dict[str, Any]] = {
    "batch_size": 8,
    "layer_decay": 1.0,
    "weight_decay": 1e-4,
    "warmup_epochs": 2.0,
    "clip_norm": 0.1,
    "ema_decay": 0.998,
    "max_loss": 10_000.0,
    "augmentation": "medium",
    "early_stopping_patience": 10,
    "early_stopping_delay": 10,
}
_HGNET: Final[dict[str, Any]] = _SET | {"learning_rate": 2e-4, "backbone_scale": 0.5}
_RESNET: Final[dict[str, Any]] = _SET | {"learning_rate": 1e-4, "backbone_scale": 0.1}
_DINOV2: Final[dict[str, Any]] = _SET | {
    "learning_rate": 1e-4,
    "backbone_scale": 1.0,
    "layer_decay": 0.8,
}


class TransformersFamily(Family):
    """D-FINE, DEIMv2, RT-DETRv2, RF-DETR and RF-DETR-Seg."""

    weight_names: ClassVar[str] = "transformers' names or its authors'"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        D_FINE: _HGNET,
        DEIMV2: _HGNET,
        RT_DETR_V2: _RESNET,
        RF_DETR: _DINOV2,
        RF_DETR_SEG: _DINOV2,
    }

    def build(
        self,
        spec: ModelSpec,
        num_classes: int,
        weights: LoadedWeights | None,
        size: Size,
        options: Mapping[str, Any],
    ) -> "Network":
        """Build a detector or segmenter; fields of its configuration may be overridden."""
        from autofocus.models.transformers.build import build_transformers

        return build_transformers(spec, num_classes, weights, size, options)

    def network_options(
        self,
        spec: ModelSpec,
        profile: BoxProfile,
        size: Size,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return as many queries as the data has objects."""
        sizes = SIZES[spec.architecture]
        needed = _num_needed(profile)
        wanted = max(sizes.num_queries, needed)
        num_queries = min(wanted, sizes.num_positions(size))
        if num_queries < needed:
            logger.warning(
                "%s finds at most %d objects in an image of %dx%d pixels, and 1 in 100 of the"
                " training images has more than %d: take a larger image_size, or tile_grid_size.",
                spec.architecture,
                num_queries,
                *reversed(size),
                profile.objects_p99,
            )
        options: dict[str, Any] = {"num_queries": num_queries}
        if sizes.family == RF_DETR_SEG and num_queries > sizes.num_queries:
            # Training has a mask for each query of each group: no more of them than published.
            num_masks = sizes.num_queries * sizes.config["group_detr"]
            options["group_detr"] = max(1, num_masks // num_queries)
        return options

    def input_spec(
        self, spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
    ) -> ResizeFit:
        """Return a square, into which images are stretched.

        Without an accelerator it is smaller, unless that would make the objects too small. Very
        full images get a larger one in any case.
        """
        sizes = SIZES[spec.architecture]
        side = parameters.get("image_size", sizes.side)
        if is_cpu and "image_size" not in parameters:
            visible = _MIN_OBJECT_SIDE / max(profile.side_frac[1], 1e-6)
            side = min(sizes.side, max(_CPU_SIDE, visible))
        side = math.ceil(side / sizes.multiple) * sizes.multiple
        if "image_size" not in parameters:
            while sizes.num_positions((side, side)) < _num_needed(profile) and side < _MAX_SIDE:
                side += sizes.multiple
        normal = spec.preprocess
        return ResizeFit(side, side, keep_aspect=False, mean=normal.mean, std=normal.std)

    def head(self, spec: ModelSpec) -> str:
        """Return the architecture without its size, a key of `recipes`."""
        return SIZES[spec.architecture].family


def _num_needed(profile: BoxProfile) -> int:
    """Return the number of queries that all but the fullest images need."""
    return math.ceil(_QUERIES_PER_OBJECT * profile.objects_p99)
