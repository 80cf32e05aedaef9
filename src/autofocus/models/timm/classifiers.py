"""Classifiers on any timm encoder: pooled features and one linear layer.

A file of its own: it imports torch, its family does not.
"""

import copy
import re
from typing import Any, Final

from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.metaformer import MetaFormer
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from autofocus.models.base import LoadedWeights, ModelSpec
from autofocus.models.network import Classifier, Cut
from autofocus.models.timm.encoders import create_encoder

# Encoders that are a chain of layers, each called on the output of the one before: the layers
# before the stages, the names of the stages, and how many of them a tail has at least. The last of
# the seven small stages of an EfficientNet are cheap, and one alone changes little.
_CHAINS: Final[dict[type[nn.Module], tuple[tuple[str, ...], str, int]]] = {
    EfficientNet: (("conv_stem", "bn1"), r"blocks\.\d+", 2),
    MobileNetV3: (("conv_stem", "bn1"), r"blocks\.\d+", 2),
    ConvNeXt: (("stem",), r"stages\.\d+", 1),
    MetaFormer: (("stem",), r"stages\.\d+", 1),
    TinyVit: (("patch_embed",), r"stages\.\d+", 1),
    ResNet: (("conv1", "bn1", "act1", "maxpool"), r"layer\d+", 1),
}


class TimmClassifier(Classifier):
    """A timm encoder and a linear head; it can be cut between the stages of an encoder."""

    def __init__(self, encoder: nn.Module, head: nn.Linear, input_size: int) -> None:
        super().__init__(encoder, head, input_size)
        self._before: tuple[str, ...] = ()
        self._stages: tuple[str, ...] = ()
        if chain := _CHAINS.get(type(encoder)):
            self._before, pattern, at_least = chain
            names = (name for name, _ in encoder.named_modules())
            self._stages = tuple(name for name in names if re.fullmatch(pattern, name))
            preferred = len(self._stages) - at_least
            self.cuts = (preferred, preferred - 1)

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier.features`."""
        encoder: Any = self.encoder
        feature_map = encoder.forward_features(images)
        features: Tensor = encoder.forward_head(feature_map, pre_logits=True)  # [n, d]
        return features

    def cut_at(self, position: int) -> Cut:
        """See `Classifier.cut_at`; `position` is the number of stages in the stem."""
        assert position in self.cuts, f"position must be one of {self.cuts}, got {position}"
        names = [*self._before, *self._stages[:position]]
        stem = nn.Sequential(*(self.encoder.get_submodule(name) for name in names))
        tail = copy.deepcopy(self)
        for name in names:
            tail.encoder.set_submodule(name, nn.Identity())
        tail.cuts = ()
        return Cut(stem.eval(), tail)


def build_classifier(
    spec: ModelSpec,
    num_classes: int,
    weights: LoadedWeights | None = None,
    input_size: int | None = None,
) -> Classifier:
    """Build the network of `spec` in evaluation mode.

    The pretrained head is kept when it has `num_classes` classes; any other head starts random.

    Args:
        spec: The model; with weights that stand in for another model, `weights.spec`.
        num_classes: k.
        weights: Result of `load_weights`; None for random numbers.
        input_size: Side of the input in pixels; None is the size of `spec.preprocess`.

    Raises:
        WeightsError: If the weights are not those of this architecture.
    """
    assert weights is None or weights.spec == spec, "build the model whose weights were loaded"
    size = input_size or spec.preprocess.size[0]
    state_dict = weights.state_dict if weights else None
    encoder = create_encoder(spec, (size, size), state_dict)
    num_features = encoder.head_hidden_size
    head = nn.Linear(num_features, num_classes)
    pretrained_head = encoder.get_classifier() if state_dict is not None else None
    if isinstance(pretrained_head, nn.Linear) and pretrained_head.weight.shape == head.weight.shape:
        head = pretrained_head
    encoder.reset_classifier(0)
    return TimmClassifier(encoder, head, size).eval()
