"""Parameter groups, optimisers, learning-rate schedules and frozen layers."""

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from timm.models import group_parameters
from torch import nn

from autofocus.errors import JobError
from autofocus.models.network import Network
from autofocus.training.recipe import Recipe

# Families whose published freezing groups are whole stages; the others count single blocks.
_STAGE_GROUPS = ("ResNet", "ResNeSt")
# timm's names of the layers between the last block and the pooling.
_TRAILING = ("conv_head", "bn2", "norm.", "fc_norm.", "head.norm", "norm_head")
# A block in a parameter's name: `stages.2.blocks.1`, `stages.2` (its downsampling), `stem`.
_BLOCK = re.compile(r"\w+(?:\.\d+(?:\.[a-z_]+\.\d+)?)?")


def freeze_layers(network: Network, num_groups: int, frac: float = 0.0) -> int:
    """Freeze the first groups of the encoder and let all others learn.

    Groups as published (`reference/azure.md` §1.6): ResNets have a stem and four stages,
    MobileNetV2 its 19 feature blocks, vision transformers an embedding and their blocks.

    Args:
        network: Network whose encoder has the groups.
        num_groups: Groups to freeze.
        frac: Minimum share of the groups to freeze, in [0, 1]; rounded.

    Returns:
        Number of groups.

    Raises:
        JobError: If there are fewer groups than `num_groups`.
    """
    groups = _freezing_groups(network.encoder)
    num_groups = max(num_groups, round(frac * len(groups)))
    if num_groups > len(groups):
        raise JobError(
            f"training_parameters.layers_to_freeze: must be at most {len(groups)} for "
            f"{type(network.encoder).__name__}, got {num_groups}."
        )
    frozen = {name for group in groups[:num_groups] for name in group}
    for name, parameter in network.encoder.named_parameters():
        parameter.requires_grad = name not in frozen
    return len(groups)


def _freezing_groups(encoder: nn.Module) -> list[list[str]]:
    """Return the parameter names of each group, from the input on."""
    by_depth = group_parameters(encoder, _matcher(encoder, type(encoder).__name__ in _STAGE_GROUPS))
    groups = [by_depth[depth] for depth in sorted(by_depth)]
    # timm adds the layers after the last block to that block; as published a convolution there
    # (MobileNet's) is a group of its own, and a norm (a transformer's) always learns.
    trailing = [name for name in groups[-1] if name.startswith(_TRAILING)]
    groups[-1] = [name for name in groups[-1] if name not in trailing]
    if any(name.startswith("conv_head") for name in trailing):
        groups.append(trailing)
    return [group for group in groups if group]


def _matcher(encoder: nn.Module, coarse: bool) -> Any:
    """Return timm's group matcher of the encoder, or one by parameter names where it has none."""
    own: Any = getattr(encoder, "group_matcher", None)
    if own is not None:
        return own(coarse=coarse)
    blocks: dict[str, int] = {}
    for name, _ in encoder.named_parameters():
        blocks.setdefault(_BLOCK.match(name)[0], len(blocks))  # type: ignore[index]
    return lambda name: blocks[_BLOCK.match(name)[0]]  # type: ignore[index]


def norms_to_freeze(network: Network, recipe: Recipe) -> list[nn.Module]:
    """Return the batch norms that must stay in eval mode: all, or those of frozen layers."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if recipe.freeze_norm_stats:
        return list(norms)
    return [m for m in norms if not any(p.requires_grad for p in m.parameters(recurse=False))]


def build_optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimiser of the parameters that learn.

    Norms and biases do not decay; earlier blocks learn slower by `layer_decay` a block.
    """
    groups = list(_groups(network, recipe))
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=nesterov)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    betas = (recipe.beta1, recipe.beta2)
    return kind(groups, betas=betas, amsgrad=recipe.ams_gradient)


def _groups(network: Network, recipe: Recipe) -> Iterator[dict[str, object]]:
    scales = _rate_scales(network, recipe)
    collected: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if parameter.ndim <= 1 else recipe.weight_decay
            collected.setdefault((scales.get(name, 1.0), decay), []).append(parameter)
    for (scale, decay), parameters in collected.items():
        yield {"params": parameters, "lr": recipe.learning_rate * scale, "weight_decay": decay}


def _rate_scales(network: Network, recipe: Recipe) -> dict[str, float]:
    encoder = network.encoder
    depth = group_parameters(encoder, _matcher(encoder, coarse=False), reverse=True)
    last = max(depth.values(), default=0)
    return {
        f"encoder.{name}": recipe.backbone_scale * recipe.layer_decay ** (last - layer)
        for name, layer in depth.items()
    }


def rate_factor(recipe: Recipe, step: int, num_steps: int, steps_an_epoch: int) -> float:
    """Return the factor of all learning rates at an optimiser step.

    The warm-up's first step is not zero: it is transformers' `get_cosine_schedule_with_warmup`
    without its first step, which would teach nothing.

    Args:
        recipe: Recipe with the schedule.
        step: Optimiser step, 0, 1, 2, …
        num_steps: Steps of the whole run.
        steps_an_epoch: Steps of an epoch.
    """
    if recipe.schedule == "flat":
        return 1.0
    if recipe.schedule == "step":
        return float(recipe.step_gamma ** (step // max(1, recipe.step_size * steps_an_epoch)))
    warmup = recipe.warmup_epochs * steps_an_epoch
    if recipe.max_warmup_frac is not None:
        warmup = min(warmup, recipe.max_warmup_frac * num_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1.0, num_steps - warmup)
    return max(0.0, 0.5 * (1 + math.cos(2 * math.pi * recipe.cosine_cycles * progress)))


def set_rates(optimizer: torch.optim.Optimizer, base_rates: list[float], factor: float) -> None:
    """Set each group's learning rate to its base times `factor`."""
    for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
        group["lr"] = rate * factor
