"""Outputs of a network that does not learn: ONNX Runtime on a CPU where it pays, else torch.

On two cores a classifier's forward pass takes ONNX Runtime half of what torch takes. Its graph is
written by the older tracer for one number of images: a second's work, after which every shape is
known and folded; it runs faster than the graph that packages carry, whose batch may vary and whose
export takes six seconds.
"""

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autofocus.errors import AutofocusError
from autofocus.runtime import num_cores

log = logging.getLogger(__name__)

# Images computed at once.
BATCH_SIZE = 16
# Images below which writing the graph takes longer than it saves.
MIN_ONNX_IMAGES = 200
# Largest difference from torch, relative to the largest output: rounding, and nothing else.
_TOLERANCE = 1e-3

Backend = Literal["onnx", "torch"]
Arrays = list[NDArray[np.float32]]


class Frozen:
    """A module in eval mode that turns images into arrays.

    Attributes:
        backend: What it was decided to compute with, by the number of images and not by a clock:
            the same job has the same rounding. Part of the key of whatever is kept.

    Args:
        module: From images [n, 3, h, w] to a tensor or several, each [n, ...]; stays as it is.
        device: Device to compute on.
        num_images: Images that it will be called with in all, 1 or more.
    """

    def __init__(self, module: nn.Module, device: torch.device, num_images: int) -> None:
        pays = device.type == "cpu" and num_images >= MIN_ONNX_IMAGES
        self.backend: Backend = "onnx" if pays else "torch"
        own: Any = copy.deepcopy(module).eval()
        self._module: nn.Module = own.to(device, memory_format=torch.channels_last)
        self._device = device
        self._run: Callable[[NDArray[np.float32]], Arrays] | None = None

    def __call__(self, images: NDArray[np.float32]) -> Arrays:
        """Return the outputs for normalised images, float32 [n, 3, h, w]; n is 1 or more."""
        if self._run is None:
            self._run = self._prepared(images)
        parts = []
        for start in range(0, len(images), BATCH_SIZE):
            part = images[start : start + BATCH_SIZE]
            parts.append([array[: len(part)] for array in self._run(part)])
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _prepared(self, images: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], Arrays]:
        """Return ONNX Runtime where it pays and says what torch says, else torch."""
        if self.backend == "torch":
            return self._torch
        example = _filled(images[:BATCH_SIZE])
        try:
            run = _in_onnx(self._module, example)
        except AutofocusError as error:
            log.info("frozen features: torch, since %s", error)
            return self._torch
        for ours, theirs in zip(run(example), self._torch(example), strict=True):
            if np.abs(ours - theirs).max() > _TOLERANCE * max(1.0, np.abs(theirs).max()):
                log.warning("frozen features: torch, because ONNX Runtime computes other numbers")
                return self._torch

        return run

    def _torch(self, images: NDArray[np.float32]) -> Arrays:
        batch = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode():
            outputs = self._module(batch)
        tensors = (outputs,) if isinstance(outputs, Tensor) else outputs
        return [tensor.float().cpu().contiguous().numpy() for tensor in tensors]


def _filled(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a batch of `BATCH_SIZE`: what is missing repeats the first image."""
    missing = BATCH_SIZE - len(images)
    filled = np.concatenate([images, np.repeat(images[:1], missing, axis=0)])
    return np.ascontiguousarray(filled)


def _in_onnx(
    module: nn.Module, example: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], Arrays]:
    """Return a function that computes batches of at most the example's size in ONNX Runtime.

    Raises:
        AutofocusError: If the tracer cannot write the module, or ONNX Runtime not run it.
    """
    try:
        session = _session(module, example.shape)
        name = session.get_inputs()[0].name
        session.run(None, {name: example})
    # The tracer's and ONNX Runtime's errors have no common base.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise AutofocusError(f"ONNX cannot have this network: {reason}") from error

    def run(images: NDArray[np.float32]) -> Arrays:
        outputs: Arrays = session.run(None, {name: _filled(images)})
        return outputs

    return run


def _session(module: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return an ONNX Runtime session of a module for inputs of one shape."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_cores()
    # Threads that wait for work would take the cores from those that decode images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frozen.onnx"
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (torch.zeros(shape),), str(path), dynamo=False)
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
