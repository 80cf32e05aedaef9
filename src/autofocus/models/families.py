"""The families of models by name. A new family is one line here. Imports no torch.

One from outside is an entry that a script adds, or an entry point (docs/extending.md).
"""

from typing import TYPE_CHECKING, Final

from autofocus.errors import WeightsError
from autofocus.manifest import Manifest
from autofocus.models.base import Family, ModelSpec
from autofocus.models.catalog import resolve
from autofocus.models.timm.family import SideBySideFamily, TimmFamily
from autofocus.models.torchvision.family import TorchvisionFamily
from autofocus.models.transformers.family import TransformersFamily
from autofocus.plugins import with_plugins

if TYPE_CHECKING:
    from autofocus.models.network import Network

FAMILIES: Final[dict[str, Family]] = {
    "timm": TimmFamily(),
    "torchvision": TorchvisionFamily(),
    "transformers": TransformersFamily(),
    "side_by_side": SideBySideFamily(),
}


def family_of(spec: ModelSpec) -> Family:
    """Return the family of a model.

    Raises:
        WeightsError: If there is none of that name in this process.
    """
    families = with_plugins(FAMILIES, "autofocus.families", _problem)
    if spec.family not in families:
        raise WeightsError(
            f"model '{spec.name}': its family must be one of {', '.join(families)}, got "
            f"'{spec.family}'. What a script adds to FAMILIES is in its own process only; trials "
            "in parallel and other commands need an entry point (docs/extending.md)."
        )
    return families[spec.family]


def build_described(manifest: Manifest) -> "Network":
    """Build the network that a manifest describes, with random weights, in evaluation mode.

    Raises:
        InputError: If it describes none that can be built here.
    """
    spec = resolve(manifest.model_name)
    size, num_classes = manifest.preprocess.size, len(manifest.labels)
    return family_of(spec).build(spec, num_classes, None, size, manifest.network)


def _problem(entry: object) -> str | None:
    return None if isinstance(entry, Family) else f"{entry!r} is no Family object"
