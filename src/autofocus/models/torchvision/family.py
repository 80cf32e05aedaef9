"""torchvision's FCOS, RetinaNet, Faster R-CNN and Mask R-CNN on any timm encoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from torch import nn

from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import BoxProfile
from autofocus.models.catalog import COCO_WEIGHTS, resolve
from autofocus.models.timm.encoders import OWN_PREFIX
from autofocus.models.torchvision import planning
from autofocus.models.torchvision.checkpoints import (
    TORCHVISION_PREFIX,
    encoder_of_torchvision,
    load_heads,
)
from autofocus.models.torchvision.detector import Detector
from autofocus.models.torchvision.fcos import Fcos
from autofocus.models.torchvision.mask_rcnn import MaskRcnn
from autofocus.models.torchvision.options import (
    FcosOptions,
    PyramidOptions,
    RcnnOptions,
    RetinaNetOptions,
    read_options,
)
from autofocus.models.torchvision.pyramid import create_feature_encoder
from autofocus.models.torchvision.rcnn import FasterRcnn
from autofocus.models.torchvision.retinanet import RetinaNet
from autofocus.models.weights.load import LoadedWeights

# Trained with norms that add nothing to the variance.
_WITHOUT_EPSILON: Final = {
    name for head, name in COCO_WEIGHTS.items() if not head.startswith("fcos")
}


@dataclass(frozen=True)
class _Head:
    """One of `catalog.HEADS`: its network, its options, and how they come from the boxes."""

    network: Callable[[Any, int, Any], Detector]
    options: type[PyramidOptions]
    fit: Callable[[ModelSpec, BoxProfile, tuple[int, int]], PyramidOptions]


_HEADS: Final = {
    "fcos": _Head(Fcos, FcosOptions, planning.fcos_options),
    "retinanet": _Head(RetinaNet, RetinaNetOptions, planning.retinanet_options),
    "fasterrcnn": _Head(FasterRcnn, RcnnOptions, planning.rcnn_options),
    "maskrcnn": _Head(MaskRcnn, RcnnOptions, planning.rcnn_options),
}


def build(
    spec: ModelSpec,
    num_classes: int,
    weights: LoadedWeights | None,
    size: tuple[int, int],
    options: Mapping[str, Any],
) -> Detector:
    """Build the network of `spec` in evaluation mode.

    Args:
        spec: With weights that stand in for another model, `weights.spec`.
        num_classes: k.
        weights: What `load_weights` returned; None for random numbers.
        size: (height, width) of the input, in pixels.
        options: What `network_options` returned.

    Raises:
        WeightsError: If the weights are not those of this architecture.
        ModelFolderError: If the options are not this model's.
    """
    assert spec.backbone is not None, "a torchvision detector has a backbone"
    state_dict = weights.state_dict if weights else None
    is_whole = any(key.startswith(TORCHVISION_PREFIX) for key in state_dict or {})
    encoder_dict = state_dict
    if state_dict is not None and is_whole:
        own = encoder_of_torchvision(state_dict)
        encoder_dict = {f"{OWN_PREFIX}{key}": tensor for key, tensor in own.items()}
    encoder = create_feature_encoder(resolve(spec.backbone), size, encoder_dict)
    if spec.weights_enum in _WITHOUT_EPSILON:
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    head = _head(spec)
    network = head.network(encoder, num_classes, read_options(options, head.options))
    if state_dict is not None and is_whole:
        load_heads(network, state_dict, spec.name)
    return network.eval()


def network_options(
    spec: ModelSpec,
    profile: BoxProfile,
    size: tuple[int, int],
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what `build` needs for objects such as `profile`'s, as JSON values.

    Args:
        spec: The detector.
        profile: Of the training boxes.
        size: (height, width) of the input, in pixels.
        parameters: Of the job; may have `nms_iou_threshold`. A network that suppresses boxes itself
            leaves those that the job wants to see.
    """
    options: dict[str, Any] = msgspec.to_builtins(_head(spec).fit(spec, profile, size))
    if "nms_iou" in options:
        wanted = float((parameters or {}).get("nms_iou_threshold", 0))
        options["nms_iou"] = max(options["nms_iou"], wanted)
    return options


def _head(spec: ModelSpec) -> _Head:
    return _HEADS[spec.name.partition("_")[0]]
