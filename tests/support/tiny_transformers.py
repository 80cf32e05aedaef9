"""Transformer detectors small enough for tests: every part is there, each as small as it goes."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from autofocus.models.base import ModelSpec
from autofocus.models.transformers.build import build_transformers
from autofocus.models.transformers.catalog import TRANSFORMERS
from autofocus.models.transformers.network import TransformersDetector

NUM_CLASSES: Final = 3
_STAGES: Final = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 16, 32],
    "stage_mid_channels": [8, 8, 16, 16],
    "stage_out_channels": [16, 16, 32, 32],
    "hidden_sizes": [16, 16, 32, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
}
_HGNET: Final = {
    "d_model": 32,
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 32,
    "encoder_in_channels": [32, 32],
    "decoder_in_channels": [32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "num_denoising": 10,
    "backbone": _STAGES,
}
_DINO: Final = {
    "d_model": 32,
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "group_detr": 2,
    "backbone": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "out_features": ["stage1", "stage2"],
    },
}
TINY: Final[dict[str, Mapping[str, Any]]] = {
    "d_fine_n": _HGNET,
    "deimv2_n": _HGNET,
    "deimv2_atto": {
        "d_model": 32,
        "encoder_hidden_dim": 32,
        "encoder_in_channels": [32],
        "decoder_in_channels": [32, 32],
        "decoder_ffn_dim": 32,
        "decoder_layers": 2,
        "num_denoising": 10,
        "backbone": {key: value[:3] for key, value in _STAGES.items()}
        | {"stage_out_channels": [16, 16, 32], "hidden_sizes": [16, 16, 32]},
    },
    "rt_detr_v2_r18": {
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 32,
        "encoder_in_channels": [16, 24, 32],
        "d_model": 32,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_layers": 2,
        "num_denoising": 10,
        "backbone": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    },
    "rf_detr_n": _DINO,
    "rf_detr_seg_n": _DINO,
}
# Two windows of two patches and more; 12 px patches for segmentation.
SIDES: Final = {name: 96 if name == "rf_detr_seg_n" else 128 for name in TINY}


def spec_of(name: str) -> ModelSpec:
    """Return the first row of the catalog with this architecture."""
    return next(spec for spec in TRANSFORMERS if spec.architecture == name)


def options_of(name: str, **other: Any) -> dict[str, Any]:
    """Return the options of a tiny network with 20 queries."""
    return {"num_queries": 20, **TINY[name], **other}


def build_tiny(
    name: str, *, num_classes: int = NUM_CLASSES, side: int | None = None, **other: Any
) -> TransformersDetector:
    """Return a tiny network of random numbers, the same in each call."""
    side = side or SIDES[name]
    torch.manual_seed(0)
    return build_transformers(
        spec_of(name), num_classes, None, (side, side), options_of(name, **other)
    )


def target(side: int, num_objects: int, *, mask_stride: int | None = None) -> dict[str, Tensor]:
    """Return a training target of boxes on a grid, filled with their masks."""
    columns = max(1, round(num_objects**0.5 + 0.5))
    cell = side / columns
    index = torch.arange(num_objects)
    left, top = (index % columns) * cell, (index // columns) * cell
    boxes = torch.stack([left, top, left + 0.8 * cell, top + 0.7 * cell], dim=1)
    one = {"boxes": boxes, "classes": index % NUM_CLASSES}
    if mask_stride:
        grid = (torch.arange(side // mask_stride) + 0.5) * mask_stride
        x, y = grid[None, None], grid[None, :, None]
        low, high = boxes[:, None, :2, None], boxes[:, None, 2:, None]
        inside = (
            (x >= low[:, :, 0]) & (x < high[:, :, 0]) & (y >= low[:, :, 1]) & (y < high[:, :, 1])
        )
        one["masks"] = inside.to(torch.uint8)
    return one


def patches(num: int, side: int, seed: int = 0) -> Tensor:
    """Return images [num, 3, side, side] of coloured squares; noise looks alike everywhere."""
    coarse = torch.rand(num, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(side, side))


def train_briefly(network: TransformersDetector, side: int, num_steps: int = 15) -> None:
    """Train on two images, so that queries differ and their order is no accident."""
    stride = network.stride if "masks" in network.output_names else None
    targets = [target(side, num, mask_stride=stride) for num in (2, 5)]
    images = patches(2, side)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    torch.manual_seed(1)
    network.train()
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.stack(list(network(images, targets).values())).sum().backward()
        optimizer.step()
    network.eval()
