"""The interface of a built network to training, packaging and scoring, the same in all families."""

from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor, nn

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


def to_numpy(output: Tensor) -> NDArray[Any]:
    """Return a network's output as an array: numbers in float32, indices as they are."""
    tensor = output.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array
