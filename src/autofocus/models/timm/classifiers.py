"""Classifiers on any timm encoder: pooled features and one linear layer.

A file of its own: it imports torch, its family does not.
"""

from typing import Any

from torch import Tensor, nn

from autofocus.models.base import LoadedWeights, ModelSpec
from autofocus.models.network import Classifier
from autofocus.models.timm.encoders import create_encoder


class TimmClassifier(Classifier):
    """A timm encoder and a linear head."""

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier.features`."""
        encoder: Any = self.encoder
        feature_map = encoder.forward_features(images)
        features: Tensor = encoder.forward_head(feature_map, pre_logits=True)  # [n, d]
        return features


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
