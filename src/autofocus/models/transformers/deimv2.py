"""DEIMv2 as its authors trained it, where transformers 5.23 differs from them.

Tensor names are translated; the layer that transformers puts before the choice of queries is
taken out, the heads' activation is SiLU, and all decoder layers share one embedding of the boxes
that the queries start from. Checked against an independent port of the authors' code: same numbers.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]

# The small networks of linear layers that predict boxes, qualities and positions.
_PERCEPTRONS: Final = ("enc_bbox_head", "pre_bbox_head", "bbox_embed", "query_pos_head", "reg_conf")


def follow_authors(detector: nn.Module) -> None:
    """Change a `Deimv2ForObjectDetection` to what its authors trained, in place."""
    model: Any = detector.get_submodule("model")
    model.enc_output = nn.Identity()
    for name, module in detector.named_modules():
        if hasattr(module, "act") and any(part in name for part in _PERCEPTRONS):
            module.act = nn.SiLU()
    model.decoder.query_pos_head = SharedPositions(model.decoder.query_pos_head)
    model.decoder.register_forward_pre_hook(_forget_positions)
    model.decoder.register_forward_hook(_forget_positions)


class SharedPositions(nn.Module):
    """Embeds the boxes that the first decoder layer starts from, for all layers."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.layers: nn.ModuleList = head.layers
        self.act: nn.Module = head.act
        self.embedding: Tensor | None = None

    def forward(self, boxes: Tensor) -> Tensor:
        """Return the embedding [n, q, d] of the first boxes [n, q, 4] since the last `forget`."""
        if self.embedding is None:
            for layer in self.layers[:-1]:
                boxes = self.act(layer(boxes))
            self.embedding = self.layers[-1](boxes)
        return self.embedding


def _forget_positions(decoder: Any, *_unused: Any) -> None:
    decoder.query_pos_head.embedding = None


def complete(tensors: StateDict, config: Any) -> StateDict:
    """Return tensors with those that a file may lack.

    Args:
        tensors: Under transformers' names.
        config: A `Deimv2Config`.
    """
    completed = _without_projection(config.d_model) | tensors
    if config.share_bbox_head:
        # One head under several names: files keep one of them, and not all the same.
        for key, tensor in tensors.items():
            for layer in range(config.decoder_layers):
                completed[re.sub(r"\bbbox_embed\.\d+\.", f"bbox_embed.{layer}.", key)] = tensor
    return completed


def _without_projection(width: int) -> StateDict:
    """Return an identity for a layer that transformers has and DEIMv2's authors do not.

    `follow_authors` removes the layer again.
    """
    return {
        "model.enc_output.0.weight": torch.eye(width),
        "model.enc_output.0.bias": torch.zeros(width),
        "model.enc_output.1.weight": torch.ones(width),
        "model.enc_output.1.bias": torch.zeros(width),
    }


# DEIMv2's authors' names, to transformers'; applied in order.
_DEIMV2_NAMES: Final[tuple[tuple[str, str], ...]] = (
    (r"^backbone\.stem\.", "model.conv_encoder.model.embedder."),
    (r"^backbone\.stages\.", "model.conv_encoder.model.encoder.stages."),
    (r"^(model\.conv_encoder\.model\..*)\.conv\.weight$", r"\1.convolution.weight"),
    (r"^(model\.conv_encoder\.model\..*)\.bn\.", r"\1.normalization."),
    (r"^encoder\.encoder\.(\d+)\.", r"encoder.aifi.\1."),
    (r"\.linear([12])\.", lambda found: f".mlp.layers.{int(found[1]) - 1}."),
    (r"^(encoder\.aifi\..*)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"^(encoder\.aifi\..*)\.norm2\.", r"\1.final_layer_norm."),
    (r"^encoder\.down_sample([12])\.1\.", r"encoder.down_conv\1.conv."),
    (r"^encoder\.down_sample([12])\.2\.", r"encoder.down_conv\1.norm."),
    (r"^encoder\.downsample_convs\.(\d+)\.0\.cv(\d)\.", r"encoder.downsample_convs.\1.conv\2."),
    (r"^encoder\.bi_fusion\.cv\.", "encoder.bi_fusion_conv."),
    (r"^(encoder\.[fp][pa]n_block.*?)\.cv1\.", r"\1.conv1."),
    (r"^(encoder\.[fp][pa]n_block.*?)\.cv4\.", r"\1.conv2."),
    (r"^(encoder\.[fp][pa]n_block.*?)\.cv2\.0\.", r"\1.csp_rep1."),
    (r"^(encoder\.[fp][pa]n_block.*?)\.cv3\.0\.", r"\1.csp_rep2."),
    (r"^(encoder\.[fp][pa]n_block.*?)\.cv2\.1\.", r"\1.csp_rep1.conv2."),
    (r"^(encoder\.[fp][pa]n_block.*?)\.cv3\.1\.", r"\1.csp_rep2.conv2."),
    (r"^encoder\.", "model.encoder."),
    (r"^decoder\.enc_output\.proj\.", "model.enc_output.0."),
    (r"^decoder\.enc_output\.norm\.", "model.enc_output.1."),
    (r"^decoder\.(enc_score_head|enc_bbox_head|denoising_class_embed)\.", r"model.\1."),
    (r"^decoder\.input_proj\.(\d+)\.0\.", r"model.decoder_input_proj.\1.conv."),
    (r"^decoder\.input_proj\.(\d+)\.1\.", r"model.decoder_input_proj.\1.norm."),
    (r"^decoder\.decoder\.", "decoder."),
    (r"^decoder\.dec_score_head\.", "decoder.class_embed."),
    (r"^decoder\.dec_bbox_head\.", "decoder.bbox_embed."),
    (r"^(decoder\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"^(decoder\.layers\.\d+)\.swish_ffn\.w3\.", r"\1.mlp.down_proj."),
    (r"^(decoder\.layers\.\d+)\.norm1\.scale$", r"\1.self_attn_layer_norm.weight"),
    (r"^(decoder\.layers\.\d+)\.norm2\.scale$", r"\1.encoder_attn_layer_norm.weight"),
    (r"^(decoder\.layers\.\d+)\.norm3\.scale$", r"\1.final_layer_norm.weight"),
    (r"^(decoder\.layers\.\d+)\.gateway\.norm\.scale$", r"\1.gateway.norm.weight"),
    (r"^decoder\.", "model.decoder."),
    (r"\.self_attn\.out_proj\.", ".self_attn.o_proj."),
)  # type: ignore[assignment]
_DEIMV2_PROJECTION: Final = (r"^encoder\.input_proj\.", "model.conv_encoder.encoder_input_proj.")
# One tensor of theirs holds several of transformers', one below the other.
_DEIMV2_STACKED: Final = {
    ".self_attn.in_proj_": (".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."),
    ".swish_ffn.w12.": (".mlp.gate_proj.", ".mlp.up_proj."),
}


def deimv2_names(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Return DEIMv2's tensors under transformers' names.

    Args:
        state_dict: As its authors' training code saves it.
    """
    tensors: StateDict = {}
    # The sizes below N project the backbone's one level within the encoder.
    is_lite = any(key.startswith("encoder.bi_fusion.") for key in state_dict)
    for key, tensor in state_dict.items():
        if key in {"decoder.up", "decoder.reg_scale"}:
            continue  # `decoder.decoder.*` again
        name = key if is_lite else re.sub(*_DEIMV2_PROJECTION, key)
        for pattern, replacement in _DEIMV2_NAMES:
            name = re.sub(pattern, replacement, name)
        for stacked, parts in _DEIMV2_STACKED.items():
            if stacked in name:
                pieces = tensor.chunk(len(parts))
                tensors |= {name.replace(stacked, p): t for p, t in zip(parts, pieces, strict=True)}
                break
        else:
            tensors[name] = tensor
    return tensors
