"""torchvision's FCOS, RetinaNet, Faster R-CNN and Mask R-CNN on any timm encoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import BoxProfile
from autofocus.models.catalog import resolve
from autofocus.models.detection import planning
from autofocus.models.detection.detector import Detector
from autofocus.models.detection.fcos import Fcos
from autofocus.models.detection.mask_rcnn import MaskRcnn
from autofocus.models.detection.options import (
    FcosOptions,
    PyramidOptions,
    RcnnOptions,
    RetinaNetOptions,
    read_options,
)
from autofocus.models.detection.pyramid import create_feature_encoder
from autofocus.models.detection.rcnn import FasterRcnn
from autofocus.models.detection.retinanet import RetinaNet
from autofocus.models.weights import LoadedWeights


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
    encoder = create_feature_encoder(resolve(spec.backbone), size, state_dict)
    head = _head(spec)
    return head.network(encoder, num_classes, read_options(options, head.options)).eval()


def network_options(spec: ModelSpec, profile: BoxProfile, size: tuple[int, int]) -> dict[str, Any]:
    """Return what `build` needs for objects such as `profile`'s, as JSON values.

    Args:
        spec: The detector.
        profile: Of the training boxes.
        size: (height, width) of the input, in pixels.
    """
    options: dict[str, Any] = msgspec.to_builtins(_head(spec).fit(spec, profile, size))
    return options


def _head(spec: ModelSpec) -> _Head:
    return _HEADS[spec.name.partition("_")[0]]
