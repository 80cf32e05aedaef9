"""torchvision's FCOS, RetinaNet, Faster R-CNN and Mask R-CNN on any timm encoder."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import BoxProfile
from autofocus.models.catalog import resolve
from autofocus.models.detection import planning
from autofocus.models.detection.detector import Detector
from autofocus.models.detection.fcos import Fcos
from autofocus.models.detection.options import FcosOptions, read_options
from autofocus.models.detection.pyramid import create_feature_encoder
from autofocus.models.weights import LoadedWeights

_FITTED: Final[dict[str, Callable[..., msgspec.Struct]]] = {"fcos": planning.fcos_options}


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
    head = spec.name.partition("_")[0]
    assert head == "fcos"
    network = Fcos(encoder, num_classes, read_options(options, FcosOptions))
    return network.eval()


def network_options(spec: ModelSpec, profile: BoxProfile, size: tuple[int, int]) -> dict[str, Any]:
    """Return what `build` needs for objects such as `profile`'s, as JSON values.

    Args:
        spec: The detector.
        profile: Of the training boxes.
        size: (height, width) of the input, in pixels.
    """
    options = _FITTED[spec.name.partition("_")[0]](spec, profile, size)
    built: dict[str, Any] = msgspec.to_builtins(options)
    return built
