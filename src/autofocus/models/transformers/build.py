"""Builds D-FINE, DEIMv2, RT-DETRv2, RF-DETR and RF-DETR-Seg of transformers.

They are built from our own table of sizes; the library's image processors and label tables are not
used.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Final

import transformers
from torch import nn

from autofocus.errors import ModelFolderError
from autofocus.models.base import LoadedWeights, ModelSpec
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

_MASK_STRIDE: Final = 4

# Allowed keys of `options`: shapes, and no other part of transformers' configurations.
_OPTIONS: Final = frozenset(
    {"num_queries", "num_denoising", "backbone"}.union(*(size.config for size in SIZES.values()))
)


@dataclass(frozen=True)
class _Architecture:
    """The transformers classes of one kind of detector, and their layout.

    Attributes:
        config: Name of the configuration's class in transformers.
        model: Name of the model's class.
        encoder: Path of the backbone in the model.
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

_ARCHITECTURES: Final[dict[str, _Architecture]] = {
    D_FINE: _Architecture(
        "DFineConfig", "DFineForObjectDetection", "model.backbone.model", _STAGES
    ),
    DEIMV2: _Architecture(
        "Deimv2Config", "Deimv2ForObjectDetection", "model.conv_encoder.model", _STAGES
    ),
    RT_DETR_V2: _Architecture(
        "RTDetrV2Config", "RTDetrV2ForObjectDetection", "model.backbone.model", _STAGES
    ),
    RF_DETR: _Architecture(
        "RfDetrConfig",
        "RfDetrForObjectDetection",
        "model.backbone.backbone",
        _LAYERS,
        exporter="dynamo",
    ),
    RF_DETR_SEG: _Architecture(
        "RfDetrConfig",
        "RfDetrForInstanceSegmentation",
        "model.model.backbone.backbone",
        _LAYERS,
        exporter="dynamo",
    ),
}


def build_transformers(
    spec: ModelSpec,
    num_classes: int,
    weights: LoadedWeights | None,
    size: tuple[int, int],
    options: Mapping[str, Any],
) -> TransformersDetector:
    """Build the network of `spec`, see `Family.build`.

    Raises:
        WeightsError: If the weights are not those of this model.
        ModelFolderError: If an option is not one of this model.
    """
    sizes = SIZES[spec.architecture]
    architecture = _ARCHITECTURES[sizes.family]
    config = _config(sizes, num_classes, size, options)
    model_class = getattr(transformers, architecture.model)
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
            encoder_path=architecture.encoder,
        )
    if sizes.family == DEIMV2:
        follow_authors(detector)
    encoder: Any = reduce(getattr, architecture.encoder.split("."), detector)
    encoder.group_matcher = partial(_group_matcher, architecture.blocks)
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
        exporter=architecture.exporter,
        freezes_norms=state_dict is not None,
    ).eval()


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
        return getattr(transformers, _ARCHITECTURES[sizes.family].config)(
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
    """Initialise batch norms with 1: transformers draws RT-DETRv2's from numbers around 0.

    Encoder and decoder then see next to nothing of the image for hundreds of steps.
    """
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)


def _group_matcher(blocks: Mapping[str, Any], coarse: bool = False) -> dict[str, Any]:
    """Return the encoder's blocks by depth, as timm's own models do."""
    return dict(blocks)
