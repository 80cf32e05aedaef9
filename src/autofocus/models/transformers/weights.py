"""Loading of pretrained tensors into a transformers detector: names, sizes, heads, misfits.

Files are transformers' own or, through its table of renamings, those of RF-DETR's authors; the
names of DEIMv2's authors are translated here. Heads for another number of classes start random;
position embeddings and queries are fitted to another input size or number of objects.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers.utils.logging
from torch import Tensor, nn

from autofocus.errors import WeightsError
from autofocus.models.transformers.deimv2 import StateDict, complete, deimv2_names

# Prefixes of the tensors in a state dict that `TransformersDetector` itself wrote.
_ENCODER, _DETECTOR = "encoder.", "detector."
_HEADS = re.compile(
    r"(^|\.)(class_embed|enc_score_head|enc_out_class_embed|denoising_class_embed)\."
)
# Tensors that files may lack, for they are not learned: counters, and anchors of one input size.
_OPTIONAL = re.compile(r"(num_batches_tracked|anchors|valid_mask)$")
_QUERIES = re.compile(r"(refpoint_embed|reference_point_embed|query_feat)\.weight$")
_GROUP = re.compile(
    r"(?:enc_output|enc_output_norm|enc_out_bbox_embed|enc_out_class_embed)\.(\d+)\."
)


def load_pretrained(
    model_class: Any,
    config: Any,
    state_dict: Mapping[str, Tensor],
    *,
    name: str,
    encoder_path: str,
) -> nn.Module:
    """Return `model_class(config)` with the tensors of `state_dict`.

    Args:
        model_class: A class of transformers.
        config: Its configuration.
        state_dict: Tensors by name, of transformers, of the authors, or of our own network.
        name: Name of the model in errors.
        encoder_path: Path of the encoder in the model.

    Raises:
        WeightsError: If they are not those of this model.
    """
    tensors = _fit(_own_names(state_dict, encoder_path), config)
    with quiet():
        try:
            model, report = model_class.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except (RuntimeError, KeyError, ValueError) as error:
            raise WeightsError(_not_of_this_model(name, str(error).splitlines()[:1])) from error
    if wrong := _misfits(report):
        raise WeightsError(_not_of_this_model(name, wrong))
    loaded: nn.Module = model
    return loaded


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own log and progress bar away from the user."""
    log: Any = transformers.utils.logging
    level, has_bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if has_bar:
            log.enable_progress_bar()


def _misfits(report: Any) -> list[str]:
    """Return the tensors that transformers could not load, one phrase each."""
    mismatched = [row for row in report["mismatched_keys"] if not _HEADS.search(row[0])]
    return [
        *(f"missing {key}" for key in report["missing_keys"] if not _OPTIONAL.search(key)),
        *(f"unexpected {key}" for key in report["unexpected_keys"] if not _OPTIONAL.search(key)),
        *(f"{key} is {list(got)}, not {list(wanted)}" for key, got, wanted in mismatched),
    ]


def _not_of_this_model(name: str, wrong: list[str]) -> str:
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return (
        f"weights: the tensors are not those of {name} ({'; '.join(sorted(wrong)[:3])}{more})."
        " Name the model that they were saved from in 'model_name'."
    )


def _own_names(state_dict: Mapping[str, Tensor], encoder_path: str) -> StateDict:
    """Return tensors under transformers' names, from any of the known namings."""
    if any(key.startswith(_DETECTOR) for key in state_dict):
        return {
            key.removeprefix(_DETECTOR)
            if key.startswith(_DETECTOR)
            else f"{encoder_path}.{key.removeprefix(_ENCODER)}": tensor
            for key, tensor in state_dict.items()
        }
    if any(".swish_ffn." in key for key in state_dict):
        return deimv2_names(state_dict)
    return dict(state_dict)


def _fit(tensors: StateDict, config: Any) -> StateDict:
    """Fit tensors to the input's size and the number of queries; add those that files lack."""
    if config.model_type == "deimv2":
        return complete(tensors, config)
    num_groups = getattr(config, "group_detr", None)
    if num_groups is None:
        return tensors
    # Groups of queries; each has layers of its own to choose their first boxes.
    groups = {int(found[1]) for key in tensors if (found := _GROUP.search(key))}
    fitted: StateDict = {}
    for key, tensor in tensors.items():
        group = _GROUP.search(key)
        if group and int(group[1]) >= num_groups:
            continue
        if key.endswith("position_embeddings"):
            tensor = _resize_positions(tensor, config.backbone_config)
        elif groups and _QUERIES.search(key):
            trained = tensor.reshape(len(groups), -1, tensor.shape[-1])
            tensor = _resize_queries(trained, num_groups, config.num_queries)
        fitted[key] = tensor
    return fitted


def _resize_positions(embeddings: Tensor, backbone: Any) -> Tensor:
    """Return position embeddings [1, 1 + p, d] for the configured grid, as the model would."""
    side = backbone.image_size // backbone.patch_size
    old_side = round((embeddings.shape[1] - 1) ** 0.5)
    if side == old_side:
        return embeddings
    grid = embeddings[:, 1:].reshape(1, old_side, old_side, -1).permute(0, 3, 1, 2).float()
    grid = nn.functional.interpolate(
        grid, size=(side, side), mode="bicubic", align_corners=False, antialias=True
    )
    return torch.cat([embeddings[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _resize_queries(trained: Tensor, num_groups: int, num_queries: int) -> Tensor:
    """Return queries [groups * q, d] of trained ones [g, q, d]; more repeat the first ones."""
    group = torch.arange(num_groups) % trained.shape[0]
    query = torch.arange(num_queries) % trained.shape[1]
    return trained[group][:, query].flatten(0, 1)
