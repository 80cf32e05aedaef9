"""The interface of a built network to training, packaging and scoring, the same in all families.

Notation for tensor shapes:
    - n: images in a batch
    - h, w: height and width of the network's input, in pixels
    - d: features of an image
    - k: classes
"""

import copy
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autofocus.errors import WeightsError
from autofocus.models.base import ModelSpec, StateDict

# Prefix of the encoder's tensors in a state dict of a whole network of ours.
OWN_PREFIX: Final = "encoder."

Exporter = Literal["dynamo", "torchscript"]


class Network(nn.Module):
    """A network as `models.base` describes it for its kind.

    Attributes:
        encoder: The pretrained part; it learns slower, and its first layers can be frozen.
        num_classes: k.
        output_names: Names of the outputs in eval mode, in order.
        exporter: The one of torch's two ONNX exporters that can write it.
        dynamic_batch: Whether its ONNX graph takes any number of images, or one.
        takes_any_size: Whether images may have another size than the one it was built for.
        size_multiple: Sides of the input are multiples of it, in pixels.
        stride: Pixels of the canvas along one cell of a training mask, for segmenters.
    """

    encoder: nn.Module
    num_classes: int
    output_names: tuple[str, ...] = ("logits",)
    exporter: Exporter = "dynamo"
    dynamic_batch: bool = True
    takes_any_size: bool = False
    size_multiple: int = 32
    stride: int = 4


class Classifier(Network):
    """An encoder and a linear head; the classifiers of all families are this or a subclass.

    Args:
        encoder: Maps images [n, 3, h, w] to pooled features [n, d], unless `features` is another.
        head: From d features to k classes.
        input_size: Side of the square input that the encoder was built for, in pixels.

    Attributes:
        num_features: d.
        cuts: Positions where `cut_at` can cut, the one that trains best in little time first; ()
            for a network that cannot be cut.
    """

    cuts: tuple[int, ...] = ()

    def __init__(self, encoder: nn.Module, head: nn.Linear, input_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.num_features = head.in_features
        self.num_classes = head.out_features
        self.input_size = input_size

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features before the head, float32 [n, d], of images [n, 3, h, w]."""
        features: Tensor = self.encoder(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 [n, k], of normalised images, float32 [n, 3, h, w]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def cut_at(self, position: int) -> "Cut":
        """Cut the network in two, so that its later layers can train on stored activations.

        Args:
            position: One of `cuts`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no cuts, got position {position}")

    def with_tail(self, tail: "Classifier") -> "Classifier":
        """Return a copy of the network with the layers of a tail.

        Args:
            tail: Tail of this network or of another one of its architecture, trained or not.
        """
        network = copy.deepcopy(self)
        tensors = tail.state_dict()
        names = list(network.state_dict())[-len(tensors) :]
        assert names == list(tensors), "the tail must be of the network's architecture"
        network.load_state_dict(tensors, strict=False)
        return network

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


@dataclass(frozen=True)
class Cut:
    """A classifier in two parts: `tail(stem(images))` are its logits.

    Attributes:
        stem: The network's own first layers: from images, float32 [n, 3, h, w], to activations,
            float32 [n, c, h', w'].
        tail: A copy of the others with their names in the network; its `features` and `forward`
            take activations instead of images.
    """

    stem: nn.Module
    tail: Classifier


def load_encoder(encoder: nn.Module, spec: ModelSpec, state_dict: StateDict) -> None:
    """Load an encoder from its own weights, or from those of a whole network of ours.

    Args:
        encoder: The encoder of a network.
        spec: Its model, for errors.
        state_dict: Tensors under the encoder's names, or all of a network's.

    Raises:
        WeightsError: If the weights are not those of this architecture.
    """
    own = {
        name.removeprefix(OWN_PREFIX): tensor
        for name, tensor in state_dict.items()
        if name.startswith(OWN_PREFIX)
    }
    try:
        encoder.load_state_dict(own or state_dict)
    except RuntimeError as error:
        raise WeightsError(not_of_this_model(spec, str(error))) from error


def not_of_this_model(spec: ModelSpec, detail: str) -> str:
    """Return one line from torch's page of missing keys."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    first = " ".join(lines[:2])[:200] if lines else "no detail"
    return (
        f"weights: the tensors are not those of {spec.architecture} ({first}…)."
        " Name the model that they were saved from in 'model_name'."
    )


def to_numpy(output: Tensor) -> NDArray[Any]:
    """Return a network's output as an array: numbers in float32, indices as they are."""
    tensor = output.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array
