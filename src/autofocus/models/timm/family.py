"""The families of classifiers on timm's encoders, one or several. Imports no torch.

A file of its own: the door of its folder, as each family has one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from autofocus.models.base import Family, LoadedWeights, ModelSpec, Size

if TYPE_CHECKING:
    from autofocus.models.network import Network

# Attention layers are torn up by rates that convolutions need (competitors.md §5.2: 5e-5).
_ATTENTION: Final = (
    "vit",
    "deit",
    "beit",
    "eva",
    "swin",
    "caformer",
    "tiny_vit",
    "maxvit",
    "test_vit",
)
_ATTENTION_RECIPE: Final = {"learning_rate": 5e-4, "backbone_scale": 0.1, "layer_decay": 0.8}


class TimmFamily(Family):
    """Classifiers on any timm encoder."""

    weight_names: ClassVar[str] = "timm's names"

    def build(
        self,
        spec: ModelSpec,
        num_classes: int,
        weights: LoadedWeights | None,
        size: Size,
        options: Mapping[str, Any],
    ) -> "Network":
        """Build a classifier; it takes no options."""
        from autofocus.models.timm.classifiers import build_classifier

        return build_classifier(spec, num_classes, weights, size[0])

    def recipe_defaults(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Return the rates of networks with attention; the others keep the recipe's own."""
        return _ATTENTION_RECIPE if spec.architecture.startswith(_ATTENTION) else {}


class SideBySideFamily(Family):
    """Classifiers on several timm encoders side by side."""

    weight_names: ClassVar[str] = "timm's names, after 'members.0.', 'members.1.' and so on"

    def build(
        self,
        spec: ModelSpec,
        num_classes: int,
        weights: LoadedWeights | None,
        size: Size,
        options: Mapping[str, Any],
    ) -> "Network":
        """Build a classifier; it takes no options."""
        from autofocus.models.timm.side_by_side import build_side_by_side

        return build_side_by_side(spec, num_classes, weights, size)
