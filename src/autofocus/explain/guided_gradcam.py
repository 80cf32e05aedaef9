"""Guided Grad-CAM: guided backprop's detail, weighed by where Grad-CAM sees the class.

Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization (Selvaraju et al.,
ICCV 2017). The coarse map is the positive part of the last map's channels, each times the mean of
its gradient; it is enlarged bilinearly, as in the paper (captum's default is nearest neighbour).

The coarse map is the last one of the network that still has positions:

convolutional and hierarchical   the output of timm's `forward_features`, channels first or last
tokens, pooled by their mean     the same, with class tokens left out and patches put on their grid
tokens, read from a class token  the patches that enter the last block's attention: behind it no
                                 patch reaches the answer, and its gradient is zero

Notation: n images; c channels; r × s positions; t tokens.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from autofocus.errors import InputError
from autofocus.explain.base import Attribution, Output
from autofocus.explain.frozen import FrozenClassifier
from autofocus.explain.gradients import BatchMethod, select
from autofocus.explain.guided_backprop import guided


class GuidedGradcam(BatchMethod):
    """Fine detail where the network sees the class.

    Metadata: that of guided backprop, `grid`, the size of the coarse map, and
    `positive_evidence`, false where no position speaks for the class: the map is zero then.
    """

    name: ClassVar[str] = "guided_gradcam"
    output: Output = "logit"

    def explain_batch(
        self, network: FrozenClassifier, images: Tensor, targets: Tensor
    ) -> list[Attribution]:
        """See `BatchMethod.explain_batch`."""
        points = images.requires_grad_()
        with torch.enable_grad():
            run = forward_with_map(network, points)
            scores = select(run.logits, targets, self.output)
        # The coarse map takes plain gradients: before the rule is put on the same graph.
        activation, gradient = run.map_and_gradient(scores)
        coarse = gradcam(activation, gradient)
        with guided(network, scores) as units:
            (detail,) = torch.autograd.grad(scores.sum(), points)
        enlarged = functional.interpolate(
            coarse, size=tuple(images.shape[2:]), mode="bilinear", align_corners=False
        )
        maps = (detail * enlarged).float().cpu().contiguous().numpy()
        found = []
        for k, (array, target) in enumerate(zip(maps, targets.tolist(), strict=True)):
            metadata: dict[str, Any] = {
                **units.metadata(),
                "grid": tuple(coarse.shape[2:]),
                "positive_evidence": bool(coarse[k].any()),
            }
            found.append(Attribution(array, self.name, target, self.output, "size", metadata))
        return found


def gradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return the coarse map [n, 1, r, s] of a map and its gradient, [n, c, r, s] both."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1, keepdim=True).relu()


@dataclass(frozen=True)
class SpatialPass:
    """One forward pass with the maps it went through, all in one graph.

    Attributes:
        logits: [n, k].
        candidates: Activations, the preferred one first, each [n, c, r, s] or its tokens.
        network: The network.
        images: Input of the network.
    """

    logits: Tensor
    candidates: tuple[Tensor, ...]
    network: FrozenClassifier
    images: Tensor

    def map_and_gradient(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map and the gradient of `scores` with respect to it, [n, c, r, s] both.

        Raises:
            InputError: If no map of this network has positions that the scores depend on.
        """
        gradients = torch.autograd.grad(
            scores.sum(), self.candidates, retain_graph=True, allow_unused=True
        )
        used: list[tuple[Tensor, Tensor | None]] = list(
            zip(self.candidates, gradients, strict=True)
        )
        for activation, gradient in used:
            if gradient is None:
                continue
            on_grid = self._on_grid(gradient)
            if on_grid.any():
                return self._on_grid(activation.detach()), on_grid
        raise InputError(
            "guided_gradcam: no place of the network's last map has an influence on this class."
            " Use xai_algorithm xrai or integrated_gradients."
        )

    def _on_grid(self, features: Tensor) -> Tensor:
        encoder: Any = self.network.classifier.encoder
        if features.ndim == 4:
            channels_first = features.shape[1] == encoder.num_features
            return features if channels_first else features.permute(0, 3, 1, 2)
        prefix: int = getattr(encoder, "num_prefix_tokens", 0)
        rows, columns = _token_grid(encoder, self.images)
        if features.ndim != 3 or features.shape[1] != prefix + rows * columns:
            raise InputError(
                f"guided_gradcam: {type(encoder).__name__} ends in {list(features.shape[1:])},"
                " which is no map of places. Use xai_algorithm xrai or integrated_gradients."
            )
        # [n, t, c] -> [n, c, r, s]
        return features[:, prefix:].transpose(1, 2).reshape(len(features), -1, rows, columns)


def forward_with_map(network: FrozenClassifier, images: Tensor) -> SpatialPass:
    """Run the network on images that require gradients, and keep its last maps.

    Raises:
        InputError: If its encoder has no maps of places, as timm's have.
    """
    encoder: Any = network.classifier.encoder
    if not hasattr(encoder, "forward_features") or not hasattr(encoder, "forward_head"):
        raise InputError(
            f"guided_gradcam: {type(encoder).__name__} lacks `forward_features` and `forward_head`,"
            " which timm's encoders have. Use xai_algorithm xrai or integrated_gradients."
        )
    blocks = getattr(encoder, "blocks", None)
    norm = getattr(blocks[-1], "norm1", None) if blocks is not None and len(blocks) else None
    kept: list[Tensor] = []
    handle = norm.register_forward_hook(lambda m, i, output: kept.append(output)) if norm else None
    try:
        features = encoder.forward_features(images)
        pooled = encoder.forward_head(features, pre_logits=True)
        logits = network.classifier.head(pooled)
    finally:
        if handle is not None:
            handle.remove()
    tokens = [output for output in kept if output.ndim == 3]
    return SpatialPass(logits, (features, *tokens), network, images)


def _token_grid(encoder: Any, images: Tensor) -> tuple[int, int]:
    """Return rows and columns of patches, or (0, 0) where the encoder has none."""
    patches = getattr(encoder, "patch_embed", None)
    dynamic = getattr(patches, "dynamic_feat_size", None)
    size = tuple(images.shape[2:])
    rows, columns = dynamic(size) if dynamic else getattr(patches, "grid_size", (0, 0))
    return int(rows), int(columns)
