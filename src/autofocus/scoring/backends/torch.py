"""The network in torch: evaluation right after training, and the reference for ONNX."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class TorchBackend:
    """Runs a network that returns one tensor, or one a name.

    Args:
        network: In eval mode.
        output_names: Names of its outputs, in order.
    """

    def __init__(self, network: nn.Module, output_names: Sequence[str]) -> None:
        self._network = network
        self._output_names = output_names

    @torch.inference_mode()
    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the outputs by name for normalised images [n, 3, h, w]."""
        device = next(self._network.parameters()).device
        outputs = self._network(torch.from_numpy(images).to(device))
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        arrays = (output.float().cpu().numpy() for output in outputs)
        return dict(zip(self._output_names, arrays, strict=True))
