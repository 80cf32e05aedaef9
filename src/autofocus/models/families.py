"""The families of models by name. A new family is one line here. Imports no torch."""

from typing import Final

from autofocus.models.base import Family, ModelSpec
from autofocus.models.timm.family import TimmFamily
from autofocus.models.torchvision.family import TorchvisionFamily
from autofocus.models.transformers.family import TransformersFamily

FAMILIES: Final[dict[str, Family]] = {
    "timm": TimmFamily(),
    "torchvision": TorchvisionFamily(),
    "transformers": TransformersFamily(),
}


def family_of(spec: ModelSpec) -> Family:
    """Return the family of a model."""
    return FAMILIES[spec.family]
