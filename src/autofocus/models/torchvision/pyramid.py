"""Feature maps at several strides from any timm encoder.

Notation for tensor shapes:
    - n: images in a batch
    - h, w: height and width of the network's input, in pixels
    - f: channels of the pyramid
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from autofocus.errors import JobError, WeightsError
from autofocus.models.base import ModelSpec
from autofocus.models.network import OWN_PREFIX, not_of_this_model
from autofocus.models.timm.encoders import create_encoder
from autofocus.models.torchvision.options import PyramidOptions


class Pyramid(nn.Module):
    """torchvision's feature pyramid on maps of an encoder, with levels for the objects of the data.

    Args:
        encoder: timm's network; not kept.
        options: Strides of the levels, and their channels.
        pool_coarse: Whether levels beyond the encoder are subsampled (as in R-CNNs) or convolved.

    Attributes:
        indices: Maps of the encoder that are used; for its `forward_intermediates`.
        normalize: Whether those maps pass the encoder's last norm.
    """

    def __init__(
        self,
        encoder: Any,
        options: PyramidOptions,
        *,
        pool_coarse: bool = False,
    ) -> None:
        super().__init__()
        infos = _map_infos(encoder)
        self.normalize = len({info["reduction"] for info in infos}) == 1
        self.num_levels = len(options.strides)
        if self.normalize:
            base, channels = infos[-1]["reduction"], infos[-1]["num_chs"]
            self.indices = [len(infos) - 1]
            strides = _encoder_strides(options.strides, last=2 * base)
            self.rescale = nn.ModuleList(_rescaled(channels, base, stride) for stride in strides)
            in_channels = [channels] * len(strides)
        else:
            by_stride = {info["reduction"]: index for index, info in enumerate(infos)}
            strides = _encoder_strides(options.strides, last=max(by_stride))
            if missing := [stride for stride in strides if stride not in by_stride]:
                raise JobError(
                    f"model_name: a detector needs feature maps of strides {strides}, and"
                    f" {type(encoder).__name__} has none of {missing}. Take another backbone"
                    " (docs/reference/models.md)."
                )
            self.indices = [by_stride[stride] for stride in strides]
            self.rescale = nn.ModuleList(nn.Identity() for _ in strides)
            in_channels = [infos[index]["num_chs"] for index in self.indices]
        self.fpn = FeaturePyramidNetwork(
            in_channels,
            options.channels,
            _coarse_levels(
                self.num_levels - len(strides),
                options.channels,
                pool=pool_coarse,
            ),
        )
        # Coarser maps than the levels only feed these from above.
        for position in range(self.num_levels, len(strides)):
            self.fpn.layer_blocks[position] = nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return one map a level, finest first, [n, f, h / stride, w / stride].

        Args:
            maps: Maps of the encoder at `indices`.
        """
        if self.normalize:
            maps = [maps[0]] * len(self.rescale)
        named = OrderedDict(
            (str(level), scale(level_map))
            for level, (scale, level_map) in enumerate(zip(self.rescale, maps, strict=True))
        )
        levels: list[Tensor] = list(self.fpn(named).values())
        return levels[: self.num_levels]


class CoarseLevels(ExtraFPNBlock):  # type: ignore[misc]  # torchvision is not typed
    """Levels beyond the encoder's, each a convolution of stride 2 on the one before.

    torchvision's `LastLevelP6P7` for any number of them; its names, so that its weights load.
    """

    def __init__(self, num_levels: int, channels: int) -> None:
        super().__init__()
        self.names = [f"p{6 + level}" for level in range(num_levels)]
        for name in self.names:
            convolution = nn.Conv2d(channels, channels, 3, 2, 1)
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            self.add_module(name, convolution)

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        """Append the levels and their names."""
        level = results[-1]
        for position, name in enumerate(self.names):
            level = self.get_submodule(name)(level if position == 0 else torch.relu(level))
            results.append(level)
        return results, names + self.names


class PooledLevels(ExtraFPNBlock):  # type: ignore[misc]  # torchvision is not typed
    """Levels beyond the encoder's, each torchvision's subsampling of the one before."""

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        self.pool = LastLevelMaxPool()
        self.num_levels = num_levels

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        """Append the levels and their names."""
        for level in range(self.num_levels):
            results, names = self.pool(results, x, names)
            names[-1] += str(level)
        return results, names


def create_feature_encoder(
    spec: ModelSpec,
    size: tuple[int, int],
    state_dict: dict[str, Tensor] | None,
) -> Any:
    """Return timm's network without the layers after its last feature map.

    Args:
        spec: A timm model that the catalog resolved.
        size: (height, width) of the input, in pixels.
        state_dict: As for `create_encoder`; also one of a detector of ours.

    Raises:
        WeightsError: If the weights are not those of this architecture.
    """
    own = {
        key.removeprefix(OWN_PREFIX): tensor
        for key, tensor in (state_dict or {}).items()
        if key.startswith(OWN_PREFIX)
    }
    encoder = create_encoder(spec, size, None if own else state_dict)
    encoder.reset_classifier(0)
    whole = set(encoder.state_dict())
    infos = _map_infos(encoder)
    is_plain = len({info["reduction"] for info in infos}) == 1
    encoder.prune_intermediate_layers([len(infos) - 1], prune_norm=not is_plain, prune_head=True)
    needed = set(encoder.state_dict())
    if own:
        if set(own) not in (whole, needed):
            odd = sorted(set(own) ^ whole)
            raise WeightsError(not_of_this_model(spec, f"differs in {', '.join(odd)}"))
        try:
            encoder.load_state_dict({key: own[key] for key in needed})
        except RuntimeError as error:
            raise WeightsError(not_of_this_model(spec, str(error))) from error
    return encoder


def _map_infos(encoder: Any) -> list[dict[str, Any]]:
    """Return timm's description of each feature map: `num_chs`, `reduction`."""
    infos = encoder.feature_info
    return list(infos if isinstance(infos, list) else infos.info)


def _encoder_strides(strides: Sequence[int], last: int) -> list[int]:
    """Return the strides, from the finest level's on, at which the encoder has a map."""
    finest, found = strides[0], []
    while finest <= last:
        found.append(finest)
        finest *= 2
    return found


def _rescaled(channels: int, base: int, stride: int) -> nn.Module:
    """Return the layers from a map of stride `base` to one of `stride`."""
    if stride > base:
        return nn.MaxPool2d(stride // base)
    layers: list[nn.Module] = []
    while stride < base:
        layers += [nn.ConvTranspose2d(channels, channels, 2, 2), nn.GELU()]
        stride *= 2
    return nn.Sequential(*layers[:-1]) if layers else nn.Identity()


def _coarse_levels(num_levels: int, channels: int, *, pool: bool) -> ExtraFPNBlock | None:
    if num_levels <= 0:
        return None
    return PooledLevels(num_levels) if pool else CoarseLevels(num_levels, channels)
