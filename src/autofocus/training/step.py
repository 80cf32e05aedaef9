"""One optimiser step, in as many pieces as memory asks for."""

import errno
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn

from autofocus.errors import AutofocusError
from autofocus.training.recipe import Recipe

log = logging.getLogger(__name__)

# Function from a model, images and targets to their mean loss.
Loss = Callable[[nn.Module, Tensor, Any], Tensor]


class DivergedError(AutofocusError):
    """The loss is not a number, or exploded; the last good weights stay."""


class Stepper:
    """Takes optimiser steps; when memory runs out, halves the images computed at once.

    Attributes:
        micro_batch: Images computed at once; 0 is all of a step's.

    Args:
        model: Model that accelerate prepared.
        optimizer: Optimiser that accelerate prepared.
        accelerator: Device and processes.
        recipe: Recipe with the clipping of gradients and their accumulation.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        recipe: Recipe,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._accelerator = accelerator
        self._recipe = recipe
        own_batch = math.ceil(recipe.batch_size / accelerator.num_processes)
        # A job that accumulates has no memory for more than a batch.
        self.micro_batch = own_batch if recipe.accumulation > 1 else 0

    def step(self, images: Tensor, targets: Any, loss: Loss) -> float:
        """Take one step and return its mean loss, over the images of all processes.

        Args:
            images: float32 [n, 3, h, w], this process's share of the step.
            targets: n targets; can be sliced.
            loss: Mean loss of a model on images and targets.

        Raises:
            DivergedError: If the loss is not finite or above the recipe's `max_loss`.
            torch.OutOfMemoryError: If a single image does not fit.
        """
        num_all = self._sum(float(len(images)))
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            try:
                share = self._gradients(images, targets, loss, num_all)
                break
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(len(images), error)
        value = self._sum(share)
        if not value <= self._recipe.max_loss:
            limit = f", above {self._recipe.max_loss:g}" if value > self._recipe.max_loss else ""
            raise DivergedError(
                f"the loss is {value:.3g}{limit}: it exploded. Try a smaller learning_rate."
            )
        if self._accelerator.num_processes > 1:
            add_gradients([p for group in self._optimizer.param_groups for p in group["params"]])
        self._clip()
        self._optimizer.step()
        return value

    def _gradients(self, images: Tensor, targets: Any, loss: Loss, num_all: float) -> float:
        """Add these images' gradients; return their part of the mean loss over `num_all`."""
        size = self.micro_batch or len(images)
        total = 0.0
        for start in range(0, len(images), size):
            part = images[start : start + size]
            with self._accelerator.autocast():
                value = loss(self._model, part, targets[start : start + size])
            value = value * (len(part) / num_all)
            total += float(value.detach())
            self._accelerator.backward(value)
        return total

    def _sum(self, value: float) -> float:
        """Return the sum over all processes."""
        if self._accelerator.num_processes == 1:
            return value
        # float32: not every device has float64.
        own = torch.tensor(value, device=self._accelerator.device)
        return float(self._accelerator.reduce(own, "sum"))

    def _shrink(self, num_images: int, error: Exception) -> None:
        size = (self.micro_batch or num_images) // 2
        if size < 1:
            raise error
        # The exception's frames hold the memory of the failed attempt.
        error.__traceback__ = None
        self._optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.micro_batch = size
        log.warning("out of memory: computing %d images at once from now on", size)

    def _clip(self) -> None:
        parameters = [p for p in self._model.parameters() if p.grad is not None]
        if self._recipe.clip_norm is not None:
            self._accelerator.clip_grad_norm_(parameters, self._recipe.clip_norm)
        if self._recipe.clip_value is not None:
            self._accelerator.clip_grad_value_(parameters, self._recipe.clip_value)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the machine or the GPU ran out of memory: fewer images might fit."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # The allocators of CPUs and of Apple's GPUs raise a plain RuntimeError.
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


# Bytes sent at once: enough to make latency negligible, few beside a network's gradients.
_BUCKET_BYTES = 64 << 20


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by the sum over all processes.

    A parameter that no process has a gradient of stays without one.

    Args:
        parameters: Parameters on one device, the same on every process.
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
    """Yield the gradients in order, in groups of one type and at most `_BUCKET_BYTES`."""
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
