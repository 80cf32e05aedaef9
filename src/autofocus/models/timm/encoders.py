"""timm's networks with their pretrained weights: encoders of classifiers and of detectors."""

from typing import Any

import timm
from timm.models import get_pretrained_cfg
from torch import Tensor

from autofocus.errors import WeightsError
from autofocus.models.base import ModelSpec
from autofocus.models.network import OWN_PREFIX, load_encoder, not_of_this_model


def create_encoder(
    spec: ModelSpec, size: tuple[int, int], state_dict: dict[str, Tensor] | None
) -> Any:
    """Return timm's model, its own head on it, from `state_dict` or random.

    A state dict of one of our networks gives only its encoder; then there is no head.

    Args:
        spec: A timm model that the catalog resolved.
        size: (height, width) of the input, in pixels; transformers are built for one.
        state_dict: Under timm's names, or under those of one of our networks; None is random.

    Raises:
        WeightsError: If the weights are not those of this architecture.
    """
    if state_dict is None or not any(key.startswith(OWN_PREFIX) for key in state_dict):
        return _create(spec, size, state_dict)
    encoder = _create(spec, size, None)
    encoder.reset_classifier(0)
    load_encoder(encoder, spec, state_dict)
    return encoder


def _create(spec: ModelSpec, size: tuple[int, int], state_dict: dict[str, Tensor] | None) -> Any:
    """Return timm's model.

    timm does the loading, since it knows how each family's files differ from its layers and how to
    resample position embeddings to another input size.
    """
    cfg = get_pretrained_cfg(spec.name)
    assert cfg is not None, f"{spec.name} was resolved by the catalog"
    options: dict[str, Any] = {"img_size": size} if cfg.fixed_input_size else {}
    if state_dict is None:
        return timm.create_model(spec.name, pretrained=False, **options)
    num_classes = _num_head_classes(cfg, state_dict)
    overlay = {"state_dict": dict(state_dict), "num_classes": num_classes, "custom_load": False}
    try:
        encoder: Any = timm.create_model(
            spec.name,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            num_classes=num_classes,
            **options,
        )
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(not_of_this_model(spec, str(error))) from error
    # timm keeps the configuration, and with it a second copy of every tensor.
    encoder.pretrained_cfg.pop("state_dict", None)
    return encoder


def _num_head_classes(cfg: Any, state_dict: dict[str, Tensor]) -> int:
    """Return the number of classes of the head in `state_dict`: a user's file may have its own."""
    for name in (cfg.classifier,) if isinstance(cfg.classifier, str) else cfg.classifier or ():
        weight = state_dict.get(f"{name}.weight")
        if weight is not None:
            return int(weight.shape[0])
    return int(cfg.num_classes)
