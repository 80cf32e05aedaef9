"""Classifiers on any timm encoder: pooled features and one linear layer.

Notation for tensor shapes:
    - n: images in a batch
    - h, w: height and width of the network's input, in pixels
    - d: features of an image
    - k: classes
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autofocus.models.base import LoadedWeights, ModelSpec
from autofocus.models.network import Network
from autofocus.models.timm.encoders import create_encoder


class Classifier(Network):
    """A timm encoder and a linear head.

    Attributes:
        num_features: d.
        input_size: Side of the square input that the encoder was built for, in pixels.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear, input_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.num_features = head.in_features
        self.num_classes = head.out_features
        self.input_size = input_size

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features before the head, float32 [n, d], of images [n, 3, h, w]."""
        encoder: Any = self.encoder
        feature_map = encoder.forward_features(images)
        features: Tensor = encoder.forward_head(feature_map, pre_logits=True)  # [n, d]
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 [n, k], of normalised images, float32 [n, 3, h, w]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def set_head(self, weight: Tensor | NDArray[Any], bias: Tensor | NDArray[Any]) -> None:
        """Replace the head's numbers, such as by those of a fitted probe.

        Args:
            weight: [k, d].
            bias: [k].
        """
        assert tuple(weight.shape) == tuple(self.head.weight.shape), "head weight must be [k, d]"
        assert tuple(bias.shape) == tuple(self.head.bias.shape), "head bias must be [k]"
        with torch.no_grad():
            self.head.weight.copy_(torch.as_tensor(weight))
            self.head.bias.copy_(torch.as_tensor(bias))


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
    return Classifier(encoder, head, size).eval()
