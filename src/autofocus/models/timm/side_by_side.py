"""Classifiers that see an image through several timm encoders, whose features lie side by side.

Notation: n images; d features of an image; m members.

A file of its own: it imports torch, its family does not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from autofocus.errors import InputError, WeightsError
from autofocus.models.base import LoadedWeights, ModelSpec, StateDict
from autofocus.models.catalog import resolve
from autofocus.models.network import OWN_PREFIX, Classifier, not_of_this_model
from autofocus.models.timm.encoders import create_encoder


class SideBySide(nn.Module):
    """Encoders in one, with the methods that training and explanations use of timm's.

    Args:
        members: timm's encoders without their heads.

    Attributes:
        num_features: Channels of the members' last maps together.
        head_hidden_size: d, of the members together.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._num_channels: list[int] = [member.num_features for member in members]
        self.num_features = sum(self._num_channels)
        self.head_hidden_size: int = sum(member.head_hidden_size for member in members)

    def forward(self, images: Tensor) -> Tensor:
        """Return the members' pooled features one after another, float32 [n, d]."""
        members: Any = self.members
        return torch.cat(
            [m.forward_head(m.forward_features(images), pre_logits=True) for m in members], dim=1
        )

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the members' last maps as one, float32 [n, num_features, r, s].

        Raises:
            InputError: If they are not maps of one size.
        """
        members: Any = self.members
        maps = [member.forward_features(images) for member in members]
        sizes = [tuple(one.shape[2:]) for one in maps]
        if len(set(sizes)) > 1 or [one.shape[1] for one in maps] != self._num_channels:
            raise InputError(
                f"the encoders side by side end in maps of {sizes} positions, which are no one map."
                " Use xai_algorithm xrai or integrated_gradients."
            )
        return torch.cat(maps, dim=1)

    def forward_head(self, maps: Tensor, pre_logits: bool = True) -> Tensor:
        """Return pooled features, float32 [n, d], of the maps of `forward_features`."""
        members: Any = self.members
        parts = torch.split(maps, self._num_channels, dim=1)
        return torch.cat(
            [m.forward_head(part, pre_logits=True) for m, part in zip(members, parts, strict=True)],
            dim=1,
        )

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return a function from a parameter's name to its layer; members count from the input."""
        members: Any = self.members
        return {
            f"members.{index}.{name}": layer
            for index, member in enumerate(members)
            for name, layer in group_parameters(
                member, member.group_matcher(coarse=coarse), reverse=True
            ).items()
        }.__getitem__


def build_side_by_side(
    spec: ModelSpec, num_classes: int, weights: LoadedWeights | None, size: tuple[int, int]
) -> Classifier:
    """Build the network of a model with members in evaluation mode; its head starts random.

    Args:
        spec: The model.
        num_classes: k.
        weights: Result of `load_weights`; None for random numbers.
        size: (height, width) of the input, in pixels.

    Raises:
        WeightsError: If the weights are not those of the members.
    """
    state_dict = weights.state_dict if weights else None
    encoders = []
    for index, name in enumerate(spec.members):
        tensors = None if state_dict is None else _of_member(spec, index, state_dict)
        encoder = create_encoder(resolve(name), size, tensors)
        encoder.reset_classifier(0)
        encoders.append(encoder)
    encoder = SideBySide(encoders)
    head = nn.Linear(encoder.head_hidden_size, num_classes)
    return Classifier(encoder, head, size[0]).eval()


def _of_member(spec: ModelSpec, index: int, state_dict: StateDict) -> StateDict:
    """Return the tensors of one member, whose names start as in `SideBySide` or a network of it."""
    prefix = f"members.{index}."
    starts = (prefix, OWN_PREFIX + prefix)
    tensors = {
        name.replace(prefix, "", 1): tensor
        for name, tensor in state_dict.items()
        if name.startswith(starts)
    }
    if not tensors:
        raise WeightsError(not_of_this_model(spec, f"none of them starts with {prefix}"))
    return tensors
