"""Mixup: pairs of images and of their targets, blended (Zhang et al. 2018)."""

import torch
from torch import Tensor


def mix(images: Tensor, shares: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return images and targets blended with those of a random order of the same batch.

    Args:
        images: float32 [n, 3, h, w].
        shares: Targets as class shares, float [n, k].
        alpha: Above 0; the share of the first image is drawn from Beta(alpha, alpha).
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(images)).to(images.device)
    return torch.lerp(images[order], images, share), torch.lerp(shares[order], shares, share)
