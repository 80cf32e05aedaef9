"""The algorithms by their published names. A new one is one row of `ALGORITHMS` and one file.

One from outside is a row that a script adds, or an entry point (docs/extending.md).

Imports neither torch nor numpy before one is used: command line and requests read names here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from autofocus.errors import AutofocusError
from autofocus.plugins import with_plugins

if TYPE_CHECKING:
    from torch import Tensor

    from autofocus.explain.base import Attribution, AttributionMethod, BoxMethod
    from autofocus.explain.frozen import FrozenClassifier
    from autofocus.explain.parameters import Parameters


# Classes of whole images, by gradients of a torch network; boxes, by the outputs of any network.
Explains = Literal["classes", "boxes"]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm that explains.

    Attributes:
        explains: Kind of predictions it explains.
        title: Name on pictures.
        method: Loads an `AttributionMethod`, and torch with it, or a `BoxMethod`.
        parameters: Request parameters besides those of every algorithm.
    """

    explains: Explains
    title: str
    method: "Callable[[], AttributionMethod | BoxMethod]"
    parameters: tuple[str, ...] = ()


def _xrai() -> "AttributionMethod":
    from autofocus.explain.xrai import Xrai

    return Xrai()


def _integrated_gradients() -> "AttributionMethod":
    from autofocus.explain.integrated_gradients import IntegratedGradients

    return IntegratedGradients()


def _guided_gradcam() -> "AttributionMethod":
    from autofocus.explain.guided_gradcam import GuidedGradcam

    return GuidedGradcam()


def _d_rise() -> "BoxMethod":
    from autofocus.explain.d_rise import DRise

    return DRise()


def _guided_backprop() -> "AttributionMethod":
    from autofocus.explain.guided_backprop import GuidedBackprop

    return GuidedBackprop()


_PATH: Final = ("n_steps", "approximation_method")

# The first that explains a kind is its default.
ALGORITHMS: Final[dict[str, Algorithm]] = {
    "xrai": Algorithm("classes", "XRAI", _xrai, (*_PATH, "xrai_fast")),
    "integrated_gradients": Algorithm(
        "classes", "Integrated gradients", _integrated_gradients, _PATH
    ),
    "guided_gradcam": Algorithm("classes", "Guided Grad-CAM", _guided_gradcam),
    "guided_backprop": Algorithm("classes", "Guided backprop", _guided_backprop),
    "d_rise": Algorithm("boxes", "D-RISE", _d_rise, ("num_masks", "grid", "seed", "max_boxes")),
}


def names_of(explains: Explains) -> tuple[str, ...]:
    """Return the names of the algorithms that explain one kind of predictions, default first."""
    return tuple(name for name, one in known_algorithms().items() if one.explains == explains)


def known_algorithms() -> dict[str, Algorithm]:
    """Return the algorithms by name, those of other distributions too."""
    return with_plugins(ALGORITHMS, "autofocus.explainers", _problem)


def _problem(entry: object) -> str | None:
    return None if isinstance(entry, Algorithm) else f"{entry!r} is no Algorithm object"


def attribution_method(name: str) -> "AttributionMethod":
    """Load the algorithm of a name that explains classes.

    Raises:
        AutofocusError: If it calls itself by another name.
    """
    method: AttributionMethod = _loaded(name, "classes")
    return method


def box_method(name: str) -> "BoxMethod":
    """Load the algorithm of a name that explains boxes.

    Raises:
        AutofocusError: If it calls itself by another name.
    """
    method: BoxMethod = _loaded(name, "boxes")
    return method


def _loaded(name: str, explains: Explains) -> Any:
    algorithm = known_algorithms()[name]
    assert algorithm.explains == explains, f"{name} explains {algorithm.explains}"
    method = algorithm.method()
    if method.name != name:
        raise AutofocusError(
            f"ALGORITHMS['{name}']: {type(method).__name__}.name must be '{name}', got "
            f"'{method.name}'. Maps are named by it."
        )
    return method


def explain(
    network: "FrozenClassifier",
    images: "Tensor",
    targets: Sequence[int],
    parameters: "Parameters",
) -> "list[Attribution]":
    """Explain one class of each image by the algorithm that `parameters` names.

    Args:
        network: A network from `frozen.freeze`.
        images: Normalised as the network expects, float32 [n, 3, h, w].
        targets: Class index of each image.
        parameters: Parameters from `parameters.parse_parameters`.

    Raises:
        InputError: If the images do not fit the network, or the algorithm cannot explain it.
    """
    method = attribution_method(parameters.xai_algorithm)
    return method.attribute(network, images, targets, parameters)


def caption_of(attribution: "Attribution", parameters: "Parameters") -> str:
    """Return the algorithm, its main choices and what a reader must know, for a picture."""
    algorithm, metadata = known_algorithms()[attribution.algorithm], attribution.metadata
    parts = [algorithm.title]
    if "fast" in metadata:
        parts.append("fast" if metadata["fast"] else "full")
    if "n_steps" in algorithm.parameters:
        parts.append(f"{parameters.n_steps} steps")
    if "half_agreement" in metadata:
        parts.append(f"{metadata['num_masks']} masks")
        agreement = metadata["half_agreement"]
        parts.append(
            "no mask changes anything" if agreement is None else f"halves agree {agreement:.2f}"
        )
    if "completeness_error" in metadata:
        explained = metadata["value"] - metadata["baseline_value"]
        error = metadata["completeness_error"]
        parts.append(f"explains {explained + error:.2f} of {explained:.2f}")
    if metadata.get("guided_extension"):
        parts.append("rule extended to " + " and ".join(metadata["guided_extension"]))
    if metadata.get("constant_image") or not metadata.get("positive_evidence", True):
        parts.append("nothing in this image speaks for the class")
    return ", ".join(parts)
