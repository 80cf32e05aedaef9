"""Detectors and segmenters from transformers: D-FINE, DEIMv2, RT-DETRv2, RF-DETR, RF-DETR-Seg.

They stretch the image to a square and find each object once, so that little is left to suppress.
Built from our own table of sizes; the library's image processors and label tables are not used.
"""

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Final

import transformers
from torch import nn

from autofocus.errors import ModelFolderError
from autofocus.manifest import ResizeFit
from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import BoxProfile
from autofocus.models.network import Exporter
from autofocus.models.transformers.deimv2 import follow_authors
from autofocus.models.transformers.network import TransformersDetector, num_candidates
from autofocus.models.transformers.sizes import (
    D_FINE,
    DEIMV2,
    RF_DETR,
    RF_DETR_SEG,
    RT_DETR_V2,
    SIZES,
    Size,
)
from autofocus.models.transformers.weights import load_pretrained, quiet
from autofocus.models.weights.load import LoadedWeights

logger = logging.getLogger(__name__)

# Of the objects in all but the fullest images; the rest of the room is for double finds.
_QUERIES_PER_OBJECT: Final = 1.5
# A side at which a step of training takes a second or so on two cores.
_CPU_SIDE: Final = 320
# Of input that is enlarged to have room for all objects.
_MAX_SIDE: Final = 1024
# The least size that the smaller objects (the 10th percentile) must keep, in pixels.
_MIN_OBJECT_SIDE: Final = 12.0
_MASK_STRIDE: Final = 4

# What `options` may hold: shapes, and no other part of transformers' configurations.
_OPTIONS: Final = frozenset(
    {"num_queries", "num_denoising", "backbone"}.union(*(size.config for size in SIZES.values()))
)


@dataclass(frozen=True)
class _Family:
    """What differs between families.

    Attributes:
        config: Name of the configuration's class in transformers.
        model: Name of the model's class.
        encoder: Where the model keeps its backbone.
        blocks: Patterns of the backbone's blocks, for timm's grouping by depth.
        exporter: RF-DETR's position embeddings need the newer one; the others' checks of shapes
            only pass the older one, which is also the one that leaves their batch dynamic.
    """

    config: str
    model: str
    encoder: str
    blocks: Mapping[str, Any]
    exporter: Exporter = "torchscript"


_STAGES: Final = {"stem": r"^embedder", "blocks": r"^encoder\.stages\.(\d+)"}
_LAYERS: Final = {
    "stem": r"^embeddings",
    "blocks": [(r"^encoder\.layer\.(\d+)", None), (r"^layernorm", (99999,))],
}

_FAMILIES: Final[dict[str, _Family]] = {
    D_FINE: _Family("DFineConfig", "DFineForObjectDetection", "model.backbone.model", _STAGES),
    DEIMV2: _Family(
        "Deimv2Config", "Deimv2ForObjectDetection", "model.conv_encoder.model", _STAGES
    ),
    RT_DETR_V2: _Family(
        "RTDetrV2Config", "RTDetrV2ForObjectDetection", "model.backbone.model", _STAGES
    ),
    RF_DETR: _Family(
        "RfDetrConfig",
        "RfDetrForObjectDetection",
        "model.backbone.backbone",
        _LAYERS,
        exporter="dynamo",
    ),
    RF_DETR_SEG: _Family(
        "RfDetrConfig",
        "RfDetrForInstanceSegmentation",
        "model.model.backbone.backbone",
        _LAYERS,
        exporter="dynamo",
    ),
}


def build(
    spec: ModelSpec,
    num_classes: int,
    weights: LoadedWeights | None,
    size: tuple[int, int],
    options: Mapping[str, Any],
) -> TransformersDetector:
    """Build the network of `spec` in evaluation mode.

    Args:
        spec: A row of `transformers_catalog.TRANSFORMERS`.
        num_classes: k.
        weights: What `load_weights` returned; None for random numbers.
        size: (height, width) of the input, in pixels.
        options: What `network_options` returned; fields of the configuration may be overridden.

    Raises:
        WeightsError: If the weights are not those of this model.
        ModelFolderError: If an option is not one of this model.
    """
    sizes = SIZES[spec.architecture]
    family = _FAMILIES[sizes.family]
    config = _config(sizes, num_classes, size, options)
    model_class = getattr(transformers, family.model)
    state_dict = weights.state_dict if weights else None
    if state_dict is None:
        with quiet():
            detector: nn.Module = model_class(config)
        _open_norms(detector)
    else:
        detector = load_pretrained(
            model_class,
            config,
            state_dict,
            name=spec.architecture,
            encoder_path=family.encoder,
        )
    if sizes.family == DEIMV2:
        follow_authors(detector)
    encoder: Any = reduce(getattr, family.encoder.split("."), detector)
    encoder.group_matcher = partial(_group_matcher, family.blocks)
    if sizes.family in {RF_DETR, RF_DETR_SEG}:
        encoder.embeddings.mask_token.requires_grad_(False)  # for a pretraining that is over
    has_masks = sizes.family == RF_DETR_SEG
    return TransformersDetector(
        detector,
        encoder,
        num_classes=num_classes,
        num_candidates=num_candidates(config.num_queries, num_classes, has_masks=has_masks),
        mask_stride=_MASK_STRIDE if has_masks else None,
        loss_weights=_loss_weights(sizes.family, config),
        exporter=family.exporter,
        freezes_norms=state_dict is not None,
    ).eval()


def network_options(spec: ModelSpec, profile: BoxProfile, size: tuple[int, int]) -> dict[str, Any]:
    """Return what `build` needs besides the names: as many queries as the data has objects.

    Args:
        spec: The model.
        profile: Of the training data.
        size: (height, width) of the input, in pixels.
    """
    sizes = SIZES[spec.architecture]
    needed = _num_needed(profile)
    wanted = max(sizes.num_queries, needed)
    num_queries = min(wanted, sizes.num_positions(size))
    if num_queries < needed:
        logger.warning(
            "%s finds at most %d objects in an image of %dx%d pixels, and 1 in 100 of the training"
            " images has more than %d: take a larger image_size, or tile_grid_size.",
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
    spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
) -> ResizeFit:
    """Return the size and normalisation of the input: a square, stretched.

    Args:
        spec: The model.
        profile: Of the training data.
        parameters: May have `image_size`, in pixels, which overrides what is chosen here.
        is_cpu: Whether it runs without an accelerator: then input is smaller, unless that would
            make the objects too small. Very full images get larger input in any case.
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


def _num_needed(profile: BoxProfile) -> int:
    """Return how many queries all but the fullest images need."""
    return math.ceil(_QUERIES_PER_OBJECT * profile.objects_p99)


def _config(
    sizes: Size, num_classes: int, size: tuple[int, int], options: Mapping[str, Any]
) -> Any:
    """Return transformers' configuration for a size, an input and the overrides in `options`."""
    unknown = sorted(set(options) - _OPTIONS)
    unknown += sorted(set(options.get("backbone", {})) - set(sizes.backbone))
    if unknown:
        raise ModelFolderError(
            f"manifest: network.{unknown[0]} is no option of a {sizes.family} model."
            " Copy the model folder again."
        )
    backbone = {**sizes.backbone, **options.get("backbone", {})}
    if sizes.family in {RF_DETR, RF_DETR_SEG}:
        assert size[0] == size[1], "RF-DETR's positions are those of a square"
        backbone["image_size"] = size[0]
    fields = {"num_queries": sizes.num_queries, **sizes.config, **options}
    fields["num_queries"] = min(fields["num_queries"], sizes.num_positions(size))
    fields["backbone_config"] = backbone
    fields.pop("backbone", None)
    if sizes.family not in {RF_DETR, RF_DETR_SEG}:
        fields["freeze_backbone_batch_norms"] = False  # `TransformersDetector.train` does it
    with quiet():
        return getattr(transformers, _FAMILIES[sizes.family].config)(
            num_labels=num_classes, **copy.deepcopy(fields)
        )


def _loss_weights(family: str, config: Any) -> dict[str, float] | None:
    """Return the factors that RF-DETR's loss function applies only to its sum."""
    if family not in {RF_DETR, RF_DETR_SEG}:
        return None
    return {
        "ce": config.class_loss_coefficient,
        "bbox": config.bbox_loss_coefficient,
        "giou": config.giou_loss_coefficient,
        "mask_ce": config.mask_class_loss_coefficient,
        "mask_dice": config.mask_dice_loss_coefficient,
    }


def _open_norms(detector: nn.Module) -> None:
    """Let batch norms start from 1: transformers draws RT-DETRv2's from numbers around 0.

    Encoder and decoder then see next to nothing of the image for hundreds of steps.
    """
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)


def _group_matcher(blocks: Mapping[str, Any], coarse: bool = False) -> dict[str, Any]:
    """Return the encoder's blocks by depth, as timm's own models do."""
    return dict(blocks)
