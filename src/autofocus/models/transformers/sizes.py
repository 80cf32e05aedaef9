"""Shapes of the transformer detectors by size name, as transformers' configurations take them.

The numbers are the papers' and their authors' (D-FINE, DEIMv2, RT-DETRv2, RF-DETR). They stand here
rather than in a downloaded `config.json`, so that a packaged model needs nothing but its tensors.
Imports no torch and no transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

D_FINE: Final = "d_fine"
DEIMV2: Final = "deimv2"
RT_DETR_V2: Final = "rt_detr_v2"
RF_DETR: Final = "rf_detr"
RF_DETR_SEG: Final = "rf_detr_seg"


@dataclass(frozen=True)
class Size:
    """One size of one family.

    Attributes:
        family: One of the names above.
        side: Side of the square input that its weights were trained with, in pixels.
        multiple: Divisor of the side, in pixels.
        strides: Strides of the feature maps from whose positions the queries are taken.
        num_queries: Most objects that it can find in an image, as published.
        config: Fields of the family's configuration that differ from the library's defaults.
        backbone: Fields of the backbone's configuration.
    """

    family: str
    side: int
    multiple: int
    strides: tuple[int, ...]
    num_queries: int
    config: Mapping[str, Any]
    backbone: Mapping[str, Any]

    def num_positions(self, size: tuple[int, int]) -> int:
        """Return the most queries that an input of (height, width) pixels can give."""
        height, width = size
        return sum((height // stride) * (width // stride) for stride in self.strides)


def _hgnet(stem: int, widths: list[int], num_blocks: list[int], **other: Any) -> dict[str, Any]:
    """Return an HGNetv2 whose stages narrow to a quarter of `widths` at their start."""
    num_stages = len(widths)
    middle = other.pop("middle")
    return {
        "model_type": "hgnet_v2",
        "stem_channels": [3, other.pop("stem_middle"), stem],
        "stage_in_channels": [stem, *widths[:-1]],
        "stage_mid_channels": middle,
        "stage_out_channels": widths,
        "hidden_sizes": widths,
        "stage_num_blocks": num_blocks,
        "depths": [other["layers"]] * num_stages,
        "stage_numb_of_layers": [other.pop("layers")] * num_stages,
        "stage_downsample": [False] + [True] * (num_stages - 1),
        "stage_downsample_strides": [2] * num_stages,
        "stage_light_block": [False, False, True, True][:num_stages],
        "stage_kernel_size": other.pop("kernels", [3, 3, 5, 5]),
        "use_learnable_affine_block": other.pop("affine", True),
        "out_indices": other.pop("out_indices", [2, 3, 4]),
    }


_B0 = _hgnet(
    16, [64, 256, 512, 1024], [1, 1, 2, 1], stem_middle=16, middle=[16, 32, 64, 128], layers=3
)
_B2 = _hgnet(
    32, [96, 384, 768, 1536], [1, 1, 3, 1], stem_middle=24, middle=[32, 64, 128, 256], layers=4
)
_B4 = _hgnet(
    48,
    [128, 512, 1024, 2048],
    [1, 1, 3, 1],
    stem_middle=32,
    middle=[48, 96, 192, 384],
    layers=6,
    affine=False,
)
_B5 = _hgnet(
    64,
    [128, 512, 1024, 2048],
    [1, 2, 5, 2],
    stem_middle=32,
    middle=[64, 128, 256, 512],
    layers=6,
    affine=False,
)


# Configuration of D-FINE-N and DEIMv2-N: two feature levels, narrow throughout.
_NANO: Final = {
    "num_feature_levels": 2,
    "feat_strides": [16, 32],
    "encoder_in_channels": [512, 1024],
    "encoder_hidden_dim": 128,
    "encoder_ffn_dim": 512,
    "encode_proj_layers": [1],
    "d_model": 128,
    "decoder_in_channels": [128, 128],
    "decoder_ffn_dim": 512,
    "decoder_n_points": [6, 6],
    "decoder_layers": 3,
    "depth_mult": 0.5,
    "hidden_expansion": 0.34,
}


def _three_levels(family: str, backbone: Mapping[str, Any], **config: Any) -> Size:
    return Size(family, 640, 32, (8, 16, 32), 300, config, backbone)


def _d_fine(backbone: Mapping[str, Any], **config: Any) -> Size:
    channels = list(backbone["stage_out_channels"][1:])
    return _three_levels(
        D_FINE, backbone, encoder_in_channels=channels, decoder_n_points=[3, 6, 3], **config
    )


def _deimv2_lite(
    side: int, num_queries: int, width: int, ffn: int, backbone: Mapping[str, Any]
) -> Size:
    """Return one of the sizes below N: one backbone level, no attention in the encoder."""
    config = {
        "encoder_type": "lite",
        "encoder_layers": 0,
        "encoder_in_channels": [backbone["stage_out_channels"][-1]],
        "encoder_hidden_dim": width,
        "feat_strides": [16],
        "num_feature_levels": 2,
        "d_model": width,
        "decoder_in_channels": [width, width],
        "decoder_ffn_dim": ffn,
        "decoder_n_points": [4, 2],
        "decoder_layers": 3,
        "decoder_activation_function": "silu",
        "depth_mult": 0.5,
        "hidden_expansion": 0.34,
        "share_bbox_head": True,
        "use_gateway": False,
    }
    return Size(DEIMV2, side, 32, (16, 32), num_queries, config, backbone)


def _hgnet_lite(widths: list[int], num_blocks: list[int], last_kernel: int) -> dict[str, Any]:
    return _hgnet(
        16,
        widths,
        num_blocks,
        stem_middle=16,
        middle=[16, 32, 64],
        layers=3,
        kernels=[3, 3, last_kernel],
        out_indices=[3],
    )


def _rt_detr_v2(depths: list[int], *, basic: bool, **config: Any) -> Size:
    widths = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
    backbone = {
        "model_type": "rt_detr_resnet",
        "embedding_size": 64,
        "hidden_sizes": widths,
        "depths": depths,
        "layer_type": "basic" if basic else "bottleneck",
        "out_indices": [2, 3, 4],
    }
    return _three_levels(RT_DETR_V2, backbone, encoder_in_channels=widths[1:], **config)


def _rf_detr(
    family: str,
    side: int,
    num_layers: int,
    *,
    patch: int = 16,
    num_windows: int = 2,
    num_queries: int = 300,
) -> Size:
    """Return a size: a DINOv2-S in windows, and a decoder on its patches."""
    backbone = {
        "model_type": "rf_detr_dinov2",
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "patch_size": patch,
        "num_windows": num_windows,
        "out_features": ["stage3", "stage6", "stage9", "stage12"],
    }
    config = {
        "d_model": 256,
        "decoder_layers": num_layers,
        "decoder_n_points": 2,
        "decoder_self_attention_heads": 8,
        "decoder_cross_attention_heads": 16,
        "decoder_ffn_dim": 2048,
        "dropout": 0.0,
        "group_detr": 13,
        "class_loss_coefficient": 5.0 if family == RF_DETR_SEG else 1.0,
    }
    return Size(family, side, patch * num_windows, (patch,), num_queries, config, backbone)


def _rf_detr_seg(
    side: int, num_layers: int, *, num_queries: int = 300, num_windows: int = 2
) -> Size:
    return _rf_detr(
        RF_DETR_SEG,
        side,
        num_layers,
        patch=12,
        num_windows=num_windows,
        num_queries=num_queries,
    )


SIZES: Final[dict[str, Size]] = {
    "d_fine_n": Size(D_FINE, 640, 32, (16, 32), 300, _NANO, {**_B0, "out_indices": [3, 4]}),
    "d_fine_s": _d_fine(_B0, decoder_layers=3, hidden_expansion=0.5, depth_mult=0.34),
    "d_fine_m": _d_fine(_B2, decoder_layers=4, depth_mult=0.67),
    "d_fine_l": _d_fine(_B4),
    "d_fine_x": _d_fine(
        _B5,
        encoder_hidden_dim=384,
        encoder_ffn_dim=2048,
        decoder_in_channels=[384, 384, 384],
        reg_scale=8.0,
    ),
    "deimv2_atto": _deimv2_lite(
        320, 100, 64, 160, _hgnet_lite([64, 256, 256], [1, 1, 1], last_kernel=3)
    ),
    "deimv2_femto": _deimv2_lite(
        416, 150, 96, 256, _hgnet_lite([64, 256, 512], [1, 1, 1], last_kernel=5)
    ),
    "deimv2_pico": _deimv2_lite(
        640, 200, 112, 320, _hgnet_lite([64, 256, 512], [1, 1, 2], last_kernel=5)
    ),
    "deimv2_n": Size(
        DEIMV2,
        640,
        32,
        (16, 32),
        300,
        {**_NANO, "decoder_activation_function": "silu"},
        {**_B0, "out_indices": [3, 4]},
    ),
    "rt_detr_v2_r18": _rt_detr_v2([2, 2, 2, 2], basic=True, hidden_expansion=0.5, decoder_layers=3),
    "rt_detr_v2_r34": _rt_detr_v2([3, 4, 6, 3], basic=True, hidden_expansion=0.5, decoder_layers=4),
    "rt_detr_v2_r50": _rt_detr_v2([3, 4, 6, 3], basic=False),
    "rt_detr_v2_r101": _rt_detr_v2(
        [3, 4, 23, 3],
        basic=False,
        encoder_ffn_dim=2048,
        encoder_hidden_dim=384,
        decoder_in_channels=[384, 384, 384],
    ),
    "rf_detr_n": _rf_detr(RF_DETR, 384, 2),
    "rf_detr_s": _rf_detr(RF_DETR, 512, 3),
    "rf_detr_m": _rf_detr(RF_DETR, 576, 4),
    "rf_detr_l": _rf_detr(RF_DETR, 704, 4),
    "rf_detr_seg_n": _rf_detr_seg(312, 4, num_queries=100, num_windows=1),
    "rf_detr_seg_s": _rf_detr_seg(384, 4, num_queries=100),
    "rf_detr_seg_m": _rf_detr_seg(432, 5, num_queries=200),
    "rf_detr_seg_l": _rf_detr_seg(504, 5),
    "rf_detr_seg_xl": _rf_detr_seg(624, 6),
    "rf_detr_seg_2xl": _rf_detr_seg(768, 6),
}
