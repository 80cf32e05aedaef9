"""The network in torch: evaluation right after training, explanations, the reference for ONNX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autofocus.errors import InputError, ModelFolderError
from autofocus.manifest import Manifest
from autofocus.models.families import build_described
from autofocus.models.network import Network, to_numpy
from autofocus.scoring.explain.needs import WEIGHTS_NAME


class TorchBackend:
    """Runs a network that returns one tensor or several."""

    def __init__(self, network: nn.Module, output_names: Sequence[str]) -> None:
        self.network = network
        self._output_names = output_names

    @torch.inference_mode()
    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for normalised images [n, 3, h, w]."""
        device = next(self.network.parameters()).device
        outputs = self.network(torch.from_numpy(images).to(device))
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        return dict(zip(self._output_names, map(to_numpy, outputs), strict=True))


def load_network(folder: Path, manifest: Manifest) -> Network:
    """Return the network of a model folder in evaluation mode. Downloads nothing.

    Raises:
        ModelFolderError: If its weights are missing, damaged or not those of its model.
    """
    path = folder / WEIGHTS_NAME
    try:
        network = build_described(manifest)
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError, InputError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelFolderError(
            f"{path}: not the weights of {manifest.model_name} that manifest.json names: {reason}"
        ) from error
    return network.eval()
