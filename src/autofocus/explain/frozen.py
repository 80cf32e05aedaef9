"""A copy of a classifier that only explains: batch norm folded, channels last, nothing trainable.

The copy answers as the original does, up to rounding; gradients with respect to the input cost 2 to
3 times less, mostly because no gradient of a weight is computed and no batch norm is left.
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from autofocus.errors import InputError
from autofocus.models.network import Classifier

log = logging.getLogger(__name__)

# Largest difference of a logit, relative to the largest logit, that folding may cause in float32.
_FOLDING_TOLERANCE: Final = 1e-3


class FrozenClassifier(nn.Module):
    """The classifier that is explained.

    Attributes:
        classifier: The folded copy, in evaluation mode; its parameters take no gradient.
        num_folded: Batch norms that were folded into the convolution before them.
    """

    def __init__(self, classifier: Classifier, num_folded: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_folded = num_folded

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 [n, k], of images [n, 3, h, w]."""
        logits: Tensor = self.classifier(images)
        return logits

    @property
    def num_classes(self) -> int:
        """Return k."""
        return self.classifier.head.out_features

    def checked(self, images: Tensor, targets: Sequence[int]) -> Tensor:
        """Return `images` on the network's device, once they and the classes fit it.

        Raises:
            InputError: If they do not.
        """
        weight = self.classifier.head.weight
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise InputError(f"images must be [n, 3, h, w], got {list(images.shape)}.")
        if len(targets) != len(images):
            raise InputError(f"{len(images)} images need as many targets, got {len(targets)}.")
        if bad := [target for target in targets if not 0 <= target < self.num_classes]:
            raise InputError(f"targets must be in 0…{self.num_classes - 1}, got {bad[0]}.")
        if not torch.isfinite(images).all():
            raise InputError("images must be finite, got NaN or infinity.")
        moved = images.detach().to(weight.device, weight.dtype)
        self._check_size(moved)
        return moved.contiguous(memory_format=torch.channels_last)

    def _check_size(self, images: Tensor) -> None:
        """Refuse sizes that the network cannot take; any other failure goes on as it is."""
        height, width = images.shape[2:]
        built_for = self.classifier.input_size
        if height == width == built_for:
            return
        try:
            with torch.inference_mode():
                self(images[:1])
        except (AssertionError, RuntimeError, ValueError) as error:
            first_line = str(error).partition("\n")[0][:120]
            raise InputError(
                f"the network was built for {built_for} × {built_for} pixels and cannot take"
                f" {height} × {width} ({first_line}). Resize or crop the images first."
            ) from error


def freeze(classifier: Classifier) -> FrozenClassifier:
    """Return a folded copy of `classifier` for explaining; the original is not touched.

    Where folding would change the answers, as in a network that uses a convolution twice, the copy
    keeps its batch norms.
    """
    original = copy.deepcopy(classifier).eval().requires_grad_(False)
    folded = copy.deepcopy(original)
    images = _probe_images(original)
    num_folded = _fold(folded, images)
    if num_folded and not _agree(original, folded, images):
        log.info("batch norm is not folded: the answers would differ")
        folded, num_folded = original, 0
    # Not every family has a fast channels-last path, but none is slower for it.
    for parameter in folded.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return FrozenClassifier(folded.to("cpu"), num_folded).eval()


def _probe_images(classifier: Classifier) -> Tensor:
    weight = classifier.head.weight
    size = classifier.input_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, size, size, generator=generator)
    return images.to(weight.device, weight.dtype)


def _agree(original: nn.Module, folded: nn.Module, images: Tensor) -> bool:
    with torch.inference_mode():
        expected, got = original(images), folded(images)
    return float((expected - got).abs().max()) <= _FOLDING_TOLERANCE * float(
        expected.abs().max().clamp(min=1e-12)
    )


def _fold(network: nn.Module, images: Tensor) -> int:
    """Fold each batch norm whose input is, in a real pass, the output of one convolution."""
    pairs = _conv_norm_pairs(network, images)
    for conv_name, norm_name in pairs.items():
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        network.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        network.set_submodule(norm_name, _after_norm(norm))
    return len(pairs)


def _after_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what timm's fused layers do after the norm itself."""
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    steps = [m for m in (drop, act) if m is not None and not isinstance(m, nn.Identity)]
    return steps[0] if len(steps) == 1 else nn.Sequential(*steps)


def _conv_norm_pairs(network: nn.Module, images: Tensor) -> dict[str, str]:
    """Return convolution names and the batch norm that consumes each, as one pass shows them."""
    produced: dict[int, tuple[str, Tensor]] = {}
    calls: dict[str, int] = {}
    pairs: dict[str, str] = {}

    def record(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(module, nn.Conv2d):
            # The tensor is kept, so that no later one can have its id.
            produced[id(output)] = (name, output)
        elif found := produced.get(id(inputs[0])):
            pairs[found[0]] = name

    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: record(name, m, i, o))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return {c: n for c, n in pairs.items() if calls[c] == calls[n] == 1}
