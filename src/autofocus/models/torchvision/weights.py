"""torchvision's own weights of whole detectors, trained on COCO.

torchvision knows the address of each; the file's name ends in the first digits of its SHA-256.

A file of its own: a source of weights, as `weights.hub` and `weights.embedded` are.
"""

import re
from pathlib import Path

from autofocus.models.weights import hub
from autofocus.models.weights.hub import Download, SourceError, Timeouts
from autofocus.runtime import Track

_WHERE = "torchvision's server"


def torch_cache_file(weights_enum: str) -> Path:
    """Return the file that torchvision itself downloaded earlier.

    Args:
        weights_enum: Entry such as `FCOS_ResNet50_FPN_Weights.COCO_V1`.

    Raises:
        SourceError: If it is not there.
    """
    import torch.hub

    path = Path(torch.hub.get_dir()) / "checkpoints" / _address(weights_enum).rpartition("/")[2]
    if not path.is_file():
        raise SourceError(f"torch's cache: there is no {path}")
    return path


def download_coco_weights(
    weights_enum: str, folder: Path, timeouts: Timeouts, track: Track
) -> Download:
    """Download the weights into `folder`.

    Args:
        weights_enum: Entry such as `FCOS_ResNet50_FPN_Weights.COCO_V1`.
        folder: Folder to write into; the file keeps its name.
        timeouts: Timeouts.
        track: Progress display.

    Raises:
        SourceError: If they could not be had whole; nothing is left behind.
    """
    address = _address(weights_enum)
    found = re.search(r"-([0-9a-f]{8,})\.pth$", address)
    assert found, f"{address}: torchvision names files by their hash"
    return hub.download_address(address, found[1], folder, _WHERE, timeouts, track)


def _address(weights_enum: str) -> str:
    from torchvision.models import get_weight

    return str(get_weight(weights_enum).url)
