"""From a catalog entry to a network, whatever its family. A new family is one line in `FAMILIES`.

A family's module is imported when one of its models is built, and not before: classification needs
neither torchvision's detectors nor transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from autofocus.manifest import ResizeFit
from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import BoxProfile

if TYPE_CHECKING:
    from autofocus.models.network import Network
    from autofocus.models.weights.load import LoadedWeights

Size = tuple[int, int]


@dataclass(frozen=True)
class Family:
    """How the models of one family are built; the functions below say what each does."""

    build: "Callable[[ModelSpec, int, LoadedWeights | None, Size, Mapping[str, Any]], Network]"
    network_options: (
        Callable[[ModelSpec, BoxProfile, Size, Mapping[str, Any]], dict[str, Any]] | None
    ) = None
    input_spec: Callable[[ModelSpec, BoxProfile, Mapping[str, Any], bool], ResizeFit] | None = None


def _timm() -> Family:
    from autofocus.models.timm import classifiers as timm_classifiers

    return Family(
        lambda spec, num_classes, weights, size, _: timm_classifiers.build(
            spec, num_classes, weights, size[0]
        )
    )


def _torchvision() -> Family:
    from autofocus.models.torchvision import family as torchvision_detectors
    from autofocus.models.torchvision.canvas import input_spec

    return Family(torchvision_detectors.build, torchvision_detectors.network_options, input_spec)


def _transformers() -> Family:
    from autofocus.models.transformers import family as detectors

    return Family(
        detectors.build,
        lambda spec, profile, size, _: detectors.network_options(spec, profile, size),
        detectors.input_spec,
    )


FAMILIES: Final[dict[str, Callable[[], Family]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}


def build(
    spec: ModelSpec,
    num_classes: int,
    weights: "LoadedWeights | None",
    size: Size,
    options: Mapping[str, Any],
) -> "Network":
    """Build the network of `spec` in evaluation mode.

    Args:
        spec: The model; with weights that stand in for another model, `weights.spec`.
        num_classes: k.
        weights: What `load_weights` returned; None for random numbers.
        size: (height, width) of the input, in pixels.
        options: What `network_options` returned, or a manifest's `network`.

    Raises:
        WeightsError: If the weights are not those of this architecture.
        ModelFolderError: If the options are not this family's.
    """
    return FAMILIES[spec.family]().build(spec, num_classes, weights, size, options)


def network_options(
    spec: ModelSpec, profile: BoxProfile, size: Size, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the network of `spec` needs for the objects of `profile`, as JSON values.

    Args:
        spec: The model.
        profile: Of the training data.
        size: (height, width) of the input, in pixels.
        parameters: Of the job; a network that suppresses boxes reads `nms_iou_threshold`.
    """
    options = FAMILIES[spec.family]().network_options
    return {} if options is None else options(spec, profile, size, parameters or {})


def input_spec(
    spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
) -> ResizeFit:
    """Return how images become input of `spec`, a detector or segmenter.

    Args:
        spec: The model.
        profile: Of the training data.
        parameters: May have `image_size`, or `min_size` and `max_size`, as published.
        is_cpu: Whether it runs without an accelerator.
    """
    chosen = FAMILIES[spec.family]().input_spec
    assert chosen is not None, f"{spec.name} classifies whole images"
    return chosen(spec, profile, parameters, is_cpu)
