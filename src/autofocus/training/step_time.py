"""How long training takes on this machine, measured before it begins."""

import time
from typing import Final

import torch

from autofocus.models.network import Network

# Backward costs twice what forward does (Kaplan et al. 2020, arXiv 2001.08361, table 1).
_TRAINING_FACTOR: Final = 3.0
_NUM_IMAGES: Final = 4
_NUM_TIMED: Final = 2


def training_image_s(network: Network, size: tuple[int, int], device: torch.device) -> float:
    """Return about how many seconds training takes an image.

    A few images go forward; decoding and drawing views happens beside it. Nothing that training
    depends on is changed.

    Args:
        network: Of any kind; left in eval mode, on the device.
        size: (height, width) of its input, in pixels.
        device: Where it is going to train.
    """
    # Not from torch's generator: what is drawn from it later must not depend on this.
    images = torch.linspace(-1, 1, _NUM_IMAGES * 3 * size[0] * size[1])
    images = images.reshape(_NUM_IMAGES, 3, *size).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    # The first one sets up kernels and memory.
    times = [_forward_s(network, images) for _ in range(1 + _NUM_TIMED)][1:]
    return _TRAINING_FACTOR * min(times) / _NUM_IMAGES


def _forward_s(network: Network, images: torch.Tensor) -> float:
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    started_s = time.monotonic()
    with torch.inference_mode():
        network(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - started_s
