"""The models by name. A new one is one line here; one from outside, see docs/extending.md.

Any timm name works, and any as the backbone of a detector: `<head>_<timm name>_fpn`. Classifiers
with several encoders side by side are `<timm name>+<timm name>`. The table holds those that were
reviewed (weights, licence, size), under their timm names and under the names that Azure's AutoML
for Images uses. Imports no torch and no timm: they are loaded only when a name is not in the table.
"""

import difflib
import math
import re
from typing import Any, Final

from autofocus.errors import InputError, JobError, WeightsError
from autofocus.manifest import ResizeCrop, ResizeFit
from autofocus.models.base import (
    BESIDE,
    CLASSIFIER,
    DETECTOR,
    SEGMENTER,
    UNKNOWN_LICENCE,
    ModelSpec,
)
from autofocus.models.transformers.catalog import TRANSFORMERS
from autofocus.plugins import with_plugins

DEFAULT_MODEL: Final = "tf_efficientnet_lite0.in1k"
DEFAULT_DETECTOR: Final = "fcos_tf_efficientnet_lite0_fpn"
DEFAULT_SEGMENTER: Final = "maskrcnn_tf_efficientnet_lite0_fpn"
# Side of a detector's input until the data is known, in pixels.
DETECTOR_SIDE: Final = 416

# torchvision's heads, by the prefix of a detector's name.
HEADS: Final = {
    "fcos": DETECTOR,
    "retinanet": DETECTOR,
    "fasterrcnn": DETECTOR,
    "maskrcnn": SEGMENTER,
}

# Azure's names of detectors and segmenters; their sizes and recipes are the published ones.
AZURE_DETECTORS: Final = (
    "fasterrcnn_resnet18_fpn",
    "fasterrcnn_resnet34_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet101_fpn",
    "fasterrcnn_resnet152_fpn",
    "retinanet_resnet50_fpn",
    "maskrcnn_resnet18_fpn",
    "maskrcnn_resnet34_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet101_fpn",
    "maskrcnn_resnet152_fpn",
)

# Detectors whose whole network torchvision has trained on COCO. A backbone with its tag
# (`fcos_resnet50.a1_in1k_fpn`) asks for the backbone's weights instead.
COCO_WEIGHTS: Final = {
    "fasterrcnn_resnet50_fpn": "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
    "retinanet_resnet50_fpn": "RetinaNet_ResNet50_FPN_Weights.COCO_V1",
    "maskrcnn_resnet50_fpn": "MaskRCNN_ResNet50_FPN_Weights.COCO_V1",
    "fcos_resnet50_fpn": "FCOS_ResNet50_FPN_Weights.COCO_V1",
}

Triple = tuple[float, float, float]
Norm = tuple[Triple, Triple]

IMAGENET: Final[Norm] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Final[Norm] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP: Final[Norm] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
APACHE: Final = "apache-2.0"
MIT: Final = "mit"


def resolve(name: str) -> ModelSpec:
    """Return the model that `name` means.

    Args:
        name: A name or alias of the tables, any timm name with or without its weights' tag, or the
            hub id of a timm model (`timm/resnet18.a1_in1k`); any of these between a head and
            `_fpn` (`fcos_resnet18_fpn`), or several with `+` between them.

    Raises:
        JobError: If no model has this name; proposes the nearest names.
        WeightsError: If the name belongs to a family that is AGPL.
    """
    wanted = re.sub(r"^(hf[-_]hub:)?(timm/)?", "", name.strip())
    if spec := known_models().get(wanted.lower()):
        return _named(spec)
    if BESIDE in wanted:
        return _side_by_side(wanted)
    if re.match(r"(?i)(ultralytics/|fastsam|rtdetr-[lx]\b|yolo)", wanted):
        raise WeightsError(
            f"model '{name}': YOLO weights and code of this name are AGPL-3.0, which autofocus"
            " never loads, whatever 'accept_license' says. For classification take"
            f" '{DEFAULT_MODEL.partition('.')[0]}' or 'mobilenetv4_conv_small', for detection"
            f" '{DEFAULT_DETECTOR}' (docs/reference/models.md)."
        )
    if spec := _detector_spec(wanted) or _timm_spec(wanted):
        return spec
    raise JobError(_unknown_name(name, wanted))


def _named(spec: ModelSpec) -> ModelSpec:
    """Return a model that can be found again by its name, as a package does it."""
    if MODELS.get(spec.name.lower()) == spec:
        return spec
    raise JobError(
        f"MODELS: the model '{spec.name}' must be an entry under its own name in lower case."
    )


def _problem(entry: object) -> str | None:
    return None if isinstance(entry, ModelSpec) else f"{entry!r} is no ModelSpec object"


def known_models() -> dict[str, ModelSpec]:
    """Return the models of the tables by name, those of other distributions too."""
    return with_plugins(MODELS, "autofocus.models", _problem)


def preferred_models(kind: str) -> tuple[str, ...]:
    """Return the default names, best first, that are taken where their weights can be had.

    Detectors that were pretrained whole, on objects, beat ones whose heads start random.
    """
    return {DETECTOR: ("d_fine_n",)}.get(kind, ())


def default_model(kind: str) -> str:
    """Return the name of the default model of a kind; its weights are always there."""
    return {
        CLASSIFIER: DEFAULT_MODEL,
        DETECTOR: DEFAULT_DETECTOR,
        SEGMENTER: DEFAULT_SEGMENTER,
    }[kind]


def evaluation_crop(crop_size: int, crop_frac: float, norm: Norm) -> ResizeCrop:
    """Return the evaluation preprocessing of timm weights.

    Args:
        crop_size: Side of the network's input, in pixels.
        crop_frac: Share of the resized image's shorter side that the crop keeps.
        norm: Mean and standard deviation of each channel, for values in [0, 1].
    """
    # timm rounds down; one pixel more would not be the numbers its accuracies were measured with.
    return ResizeCrop(math.floor(crop_size / crop_frac), crop_size, *norm)


def _row(
    name: str, licence: str, num_params: int, crop_size: int, crop_frac: float, norm: Norm
) -> ModelSpec:
    return ModelSpec(
        name=name,
        kind=CLASSIFIER,
        licence=licence,
        preprocess=evaluation_crop(crop_size, crop_frac, norm),
        hub_id=f"timm/{name}",
        num_params=num_params,
        aliases=tuple(alias for alias, target in ALIASES.items() if target == name),
    )


ALIASES: Final[dict[str, str]] = {
    # Azure's twelve names. Four of them are timm's own names already.
    "mobilenetv2": "mobilenetv2_100.ra_in1k",
    "resnet18": "resnet18.a1_in1k",
    "resnet34": "resnet34.a1_in1k",
    "resnet50": "resnet50.a1_in1k",
    "resnet101": "resnet101.a1h_in1k",
    "resnet152": "resnet152.a1h_in1k",
    "resnest50": "resnest50d.in1k",
    "resnest101": "resnest101e.in1k",
    "seresnext": "seresnext50_32x4d.racm_in1k",
    "vits16r224": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vitb16r224": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "vitl16r224": "vit_large_patch16_224.augreg_in21k_ft_in1k",
    # The hub ids that Azure lists as curated, as the same weights in timm's form.
    "google/vit-base-patch16-224": "vit_base_patch16_224.orig_in21k_ft_in1k",
    "facebook/deit-base-patch16-224": "deit_base_patch16_224.fb_in1k",
    "microsoft/beit-base-patch16-224-pt22k-ft22k": "beit_base_patch16_224.in22k_ft_in22k",
    "microsoft/swinv2-base-patch4-window12-192-22k": "swinv2_base_window12_192.ms_in22k",
}

# Licence, size and parameters are timm 1.0.31's; a test holds them against the installed timm.
# A bare architecture means its first row here; outside this table it means timm's default weights.
RECOMMENDED: Final[tuple[ModelSpec, ...]] = (
    _row("tf_efficientnet_lite0.in1k", APACHE, 4_652_008, 224, 0.875, HALF),
    _row("tf_efficientnet_lite1.in1k", APACHE, 5_416_680, 240, 0.882, HALF),
    _row("tf_efficientnet_lite2.in1k", APACHE, 6_092_072, 260, 0.89, HALF),
    _row("mobilenetv4_conv_small.e2400_r224_in1k", APACHE, 3_774_024, 224, 0.875, IMAGENET),
    _row("mobilenetv4_conv_medium.e500_r256_in1k", APACHE, 9_715_512, 256, 0.95, IMAGENET),
    _row("mobilenetv3_large_100.ra_in1k", APACHE, 5_483_032, 224, 0.875, IMAGENET),
    _row("tiny_vit_5m_224.dist_in22k_ft_in1k", APACHE, 5_392_764, 224, 0.95, IMAGENET),
    _row("tiny_vit_11m_224.dist_in22k_ft_in1k", APACHE, 10_996_972, 224, 0.95, IMAGENET),
    _row("tiny_vit_21m_224.dist_in22k_ft_in1k", APACHE, 21_198_568, 224, 0.95, IMAGENET),
    _row("convnext_tiny.in12k_ft_in1k", APACHE, 28_589_128, 224, 0.95, IMAGENET),
    _row("convnext_base.fb_in22k_ft_in1k", APACHE, 88_591_464, 224, 0.875, IMAGENET),
    _row("tf_efficientnetv2_s.in21k_ft_in1k", APACHE, 21_458_488, 300, 1.0, HALF),
    _row("caformer_s18.sail_in22k_ft_in1k", APACHE, 26_341_656, 224, 1.0, IMAGENET),
    _row("vit_small_patch14_dinov2.lvd142m", APACHE, 22_056_192, 518, 1.0, IMAGENET),
    _row("vit_base_patch14_dinov2.lvd142m", APACHE, 86_579_712, 518, 1.0, IMAGENET),
    _row("eva02_small_patch14_336.mim_in22k_ft_in1k", MIT, 22_129_000, 336, 1.0, CLIP),
    _row("eva02_base_patch14_448.mim_in22k_ft_in22k_in1k", MIT, 87_117_544, 448, 1.0, CLIP),
    _row("beitv2_base_patch16_224.in1k_ft_in22k_in1k", APACHE, 86_530_984, 224, 0.9, IMAGENET),
    _row("mobilenetv2_100.ra_in1k", APACHE, 3_504_872, 224, 0.875, IMAGENET),
    _row("resnet18.a1_in1k", APACHE, 11_689_512, 224, 0.95, IMAGENET),
    _row("resnet34.a1_in1k", APACHE, 21_797_672, 224, 0.95, IMAGENET),
    _row("resnet50.a1_in1k", APACHE, 25_557_032, 224, 0.95, IMAGENET),
    _row("resnet101.a1h_in1k", APACHE, 44_549_160, 224, 0.95, IMAGENET),
    _row("resnet152.a1h_in1k", APACHE, 60_192_808, 224, 0.95, IMAGENET),
    _row("resnest50d.in1k", APACHE, 27_483_240, 224, 0.875, IMAGENET),
    _row("resnest101e.in1k", APACHE, 48_275_016, 256, 0.875, IMAGENET),
    _row("seresnext50_32x4d.racm_in1k", APACHE, 27_559_896, 224, 0.875, IMAGENET),
    _row("vit_small_patch16_224.augreg_in21k_ft_in1k", APACHE, 22_050_664, 224, 0.9, HALF),
    _row("vit_base_patch16_224.augreg2_in21k_ft_in1k", APACHE, 86_567_656, 224, 0.9, HALF),
    _row("vit_large_patch16_224.augreg_in21k_ft_in1k", APACHE, 304_326_632, 224, 0.9, HALF),
    _row("vit_base_patch16_224.orig_in21k_ft_in1k", APACHE, 86_567_656, 224, 0.9, HALF),
    _row("deit_base_patch16_224.fb_in1k", APACHE, 86_567_656, 224, 0.9, IMAGENET),
    _row("beit_base_patch16_224.in22k_ft_in22k", APACHE, 102_557_713, 224, 0.9, HALF),
    _row("swinv2_base_window12_192.ms_in22k", MIT, 109_280_841, 192, 0.9, IMAGENET),
)

# By names in lower case. What is added has its own name as a key, and others as it likes.
MODELS: Final[dict[str, ModelSpec]] = {
    name.lower(): spec
    # Reversed, so that of two rows with one architecture the first keeps the bare name.
    for spec in reversed((*RECOMMENDED, *TRANSFORMERS))
    for name in (spec.architecture, spec.name, *spec.aliases)
}


def _detector_spec(name: str) -> ModelSpec | None:
    """Return a torchvision detector, or None where the name is not `<head>_<backbone>_fpn`."""
    found = re.fullmatch(rf"(?i)({'|'.join(HEADS)})_(.+)_fpn", name)
    if found is None or re.match(rf"(?i)({'|'.join(HEADS)})_", found[2]):
        return None
    head = found[1].lower()
    backbone = _part_of(name, found[2])
    if backbone.kind != CLASSIFIER or backbone.members:
        raise JobError(f"model_name: {backbone.name} is no backbone of a detector, got '{name}'.")
    bare = f"{head}_{backbone.architecture}_fpn"
    weights_enum = COCO_WEIGHTS.get(bare) if name.lower() == bare else None
    # The short name, where it means this backbone and nothing else.
    is_short = weights_enum is not None or (
        MODELS.get(backbone.architecture) == backbone and bare not in COCO_WEIGHTS
    )
    crop = backbone.preprocess
    return ModelSpec(
        name=bare if is_short else f"{head}_{backbone.name}_fpn",
        kind=HEADS[head],
        licence="bsd-3-clause" if weights_enum else backbone.licence,
        preprocess=ResizeFit(DETECTOR_SIDE, DETECTOR_SIDE, True, crop.mean, crop.std),
        family="torchvision",
        backbone=backbone.name,
        weights_enum=weights_enum,
    )


def _side_by_side(name: str) -> ModelSpec:
    """Return the classifier whose encoders all see the image at the largest one's size.

    Raises:
        JobError: If its members cannot be one network.
    """
    members = [_part_of(name, part) for part in name.split(BESIDE)]
    for member in members:
        if member.family != "timm" or not _takes_any_size(member):
            raise JobError(
                f"model_name: encoders side by side must be timm's and take images of any size;"
                f" {member.name} is not such a one, got '{name}'. Convolutional ones are"
                " (tf_efficientnet_lite2, convnext_tiny, resnet50)."
            )
    if len({member.name for member in members}) < len(members):
        raise JobError(f"model_name: encoders side by side must differ, got '{name}'.")
    if len({(member.preprocess.mean, member.preprocess.std) for member in members}) > 1:
        norms = ", ".join(f"{member.name} {member.preprocess.mean}" for member in members)
        raise JobError(
            "model_name: encoders side by side must have been trained on images of one"
            f" normalisation, got means of {norms}. Name others: docs/reference/models.md."
        )
    nums = [member.num_params for member in members]
    return ModelSpec(
        name=BESIDE.join(member.name for member in members),
        kind=CLASSIFIER,
        licence=BESIDE.join(sorted({member.licence for member in members})),
        preprocess=max((member.preprocess for member in members), key=lambda one: one.size),
        num_params=None if None in nums else sum(num or 0 for num in nums),
        family="side_by_side",
        members=tuple(member.name for member in members),
    )


def _part_of(name: str, part: str) -> ModelSpec:
    """Return the model that a part of a name means; errors have the whole name."""
    try:
        return resolve(part)
    except InputError as error:
        raise type(error)([f"{name}: {problem}" for problem in error.problems]) from error


def _takes_any_size(spec: ModelSpec) -> bool:
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(spec.name)
    assert cfg is not None, f"{spec.name} was resolved by the catalog"
    return not cfg.fixed_input_size


def _timm_spec(name: str) -> ModelSpec | None:
    """Return a spec from timm's own registry, or None where timm has no such name."""
    import timm
    from timm.models import get_pretrained_cfg

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        return None
    try:
        cfg = get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # the architecture has no such tag
        return None
    if cfg is None:
        return None
    if not tag and cfg.tag:
        name = f"{architecture}.{cfg.tag}"
    return _spec_of(name, cfg)


def _spec_of(name: str, cfg: Any) -> ModelSpec:
    hub_id, _, revision = (cfg.hf_hub_id or "").partition("@")
    if not cfg.has_weights:
        hub_id = ""
    crop_frac = cfg.crop_pct or 0.875
    return ModelSpec(
        name=name,
        kind=CLASSIFIER,
        licence=cfg.license or UNKNOWN_LICENCE,
        preprocess=evaluation_crop(cfg.input_size[1], crop_frac, (cfg.mean, cfg.std)),
        hub_id=hub_id or None,
        revision=revision or None,
    )


def _unknown_name(name: str, wanted: str) -> str:
    """Return the message for a name that no model has."""
    import timm

    architecture, _, tag = wanted.lower().partition(".")
    tags = list(timm.list_pretrained(f"{architecture}.*")) if tag else []
    detectors = {f"{head}_{spec.architecture}_fpn" for head in HEADS for spec in RECOMMENDED}
    known_names = tags or {*MODELS, *timm.list_models(), *detectors}
    near = difflib.get_close_matches(wanted.lower(), known_names, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return (
        f"model_name must be a model that autofocus knows, got '{name}'.{hint}"
        " Names: docs/reference/models.md, or any timm classification model, such as"
        " 'resnet50.a1_in1k', alone or as a detector's backbone: 'fcos_resnet50.a1_in1k_fpn'."
        " A model of another distribution needs that one installed (docs/extending.md)."
    )
