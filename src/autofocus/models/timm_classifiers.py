"""Classifiers on any timm encoder: pooled features and one linear layer.

Notation for tensor shapes:
    - n: images in a batch
    - h, w: height and width of the network's input, in pixels
    - d: features of an image
    - k: classes
"""

from typing import Any, Final

import timm
import torch
from numpy.typing import NDArray
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from autofocus.errors import WeightsError
from autofocus.models.base import ModelSpec
from autofocus.models.network import Network
from autofocus.models.weights import LoadedWeights

# Prefix of the encoder's tensors in a state dict that `Classifier` itself wrote.
_OWN_PREFIX: Final = "encoder."


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


def build(
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
        weights: What `load_weights` returned; None for random numbers.
        input_size: Side of the input in pixels; None is the size of `spec.preprocess`.

    Raises:
        WeightsError: If the weights are not those of this architecture.
    """
    assert weights is None or weights.spec == spec, "build the model whose weights were loaded"
    size = input_size or spec.preprocess.size[0]
    state_dict = weights.state_dict if weights else None
    if state_dict is None:
        encoder = _create(spec, size)
    elif any(key.startswith(_OWN_PREFIX) for key in state_dict):
        encoder = _create(spec, size)
        _load_own(encoder, spec, state_dict)
    else:
        encoder = _create(spec, size, state_dict)
    num_features = encoder.head_hidden_size
    head = nn.Linear(num_features, num_classes)
    pretrained_head = encoder.get_classifier() if state_dict is not None else None
    if isinstance(pretrained_head, nn.Linear) and pretrained_head.weight.shape == head.weight.shape:
        head = pretrained_head
    encoder.reset_classifier(0)
    return Classifier(encoder, head, size).eval()


def _create(spec: ModelSpec, input_size: int, state_dict: dict[str, Tensor] | None = None) -> Any:
    """Return timm's model with its own pretrained head, from `state_dict` or random.

    timm does the loading, since it knows how each family's files differ from its layers and how to
    resample position embeddings to another input size.
    """
    cfg = get_pretrained_cfg(spec.name)
    assert cfg is not None, f"{spec.name} was resolved by the catalog"
    options: dict[str, Any] = {}
    if cfg.fixed_input_size:
        options["img_size"] = input_size
    if state_dict is None:
        return timm.create_model(spec.name, pretrained=False, **options)
    num_classes = _num_head_classes(cfg, state_dict)
    overlay = {"state_dict": dict(state_dict), "num_classes": num_classes, "custom_load": False}
    try:
        encoder: Any = timm.create_model(
            spec.name,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            num_classes=num_classes,
            **options,
        )
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(_not_of_this_model(spec, str(error))) from error
    # timm keeps the configuration, and with it a second copy of every tensor.
    encoder.pretrained_cfg.pop("state_dict", None)
    return encoder


def _num_head_classes(cfg: Any, state_dict: dict[str, Tensor]) -> int:
    """Return how many classes the head in `state_dict` has: a user's file may have its own."""
    for name in (cfg.classifier,) if isinstance(cfg.classifier, str) else cfg.classifier or ():
        weight = state_dict.get(f"{name}.weight")
        if weight is not None:
            return int(weight.shape[0])
    return int(cfg.num_classes)


def _load_own(encoder: nn.Module, spec: ModelSpec, state_dict: dict[str, Tensor]) -> None:
    """Load the encoder out of a state dict that `Classifier` wrote; its head is another task's."""
    encoder_tensors = {
        key.removeprefix(_OWN_PREFIX): tensor
        for key, tensor in state_dict.items()
        if key.startswith(_OWN_PREFIX)
    }
    own: Any = encoder
    own.reset_classifier(0)
    try:
        own.load_state_dict(encoder_tensors)
    except RuntimeError as error:
        raise WeightsError(_not_of_this_model(spec, str(error))) from error


def _not_of_this_model(spec: ModelSpec, detail: str) -> str:
    """Return one line from torch's page of missing keys."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    first = " ".join(lines[:2])[:200] if lines else "no detail"
    return (
        f"weights: the tensors are not those of {spec.architecture} ({first}…)."
        " Name the model that they were saved from in 'model_name'."
    )
