"""Gradients of several processes added up, once a step, after all of them are there.

Not within backward, as DistributedDataParallel does: that waits for ever where processes compute
different numbers of pieces, or where the images of one of them do not reach some layer.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed, nn

# Sent at once; large enough that starting costs nothing, small beside any network's gradients.
_BUCKET_BYTES = 64 << 20


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by the sum over all processes.

    A parameter that no image of any process reached stays without one.

    Args:
        parameters: The same on every process, on one device.
    """
    if not parameters:
        return
    device = parameters[0].device
    num_reached = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    distributed.all_reduce(num_reached)
    gradients = []
    for parameter, num in zip(parameters, num_reached.tolist(), strict=True):
        if num:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the gradients in order, as many at a time as fit, of one type."""
    bucket: list[Tensor] = []
    num_bytes = 0
    for gradient in gradients:
        is_full = num_bytes + gradient.nbytes > _BUCKET_BYTES
        if bucket and (is_full or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(gradient)
        num_bytes += gradient.nbytes
    if bucket:
        yield bucket
