"""Find before the first step how many images of the worst batch fit into memory.

On a GPU the worst batch goes forward and back, halved until it fits. On a CPU the system would
kill a process that takes too much: there the activations of a few images are counted and the rest
is predicted. Weights, buffers, random state and gradients stay as they are.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from autofocus.data.batches.cache.budget import MIB, free_memory_bytes
from autofocus.data.batches.loader import Batch, Loader
from autofocus.training.losses import Objective
from autofocus.training.step import is_out_of_memory

log = logging.getLogger(__name__)

# Share of the free memory; the image cache, the loader's batches and other programs need some too.
_MEMORY_SHARE = 0.6
# Backward holds gradients of activations beside them, and operators have scratch memory.
_BACKWARD_FACTOR = 2.0
# Batch norms of a network that has shrunk its input to one pixel need two images.
_NUM_MEASURED = 2

# Function from a number of images to a batch of them.
MakeBatch = Callable[[int], Batch]


@dataclass(frozen=True)
class DryStep:
    """An optimiser step without the optimiser's update.

    Attributes:
        network: Network in training mode; not wrapped for several processes.
        optimizer: Optimiser, whose state takes memory from the first step on.
        objective: The loss.
        accelerator: Device and processes.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    accelerator: Accelerator

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; no process waits for another."""
        device = self.accelerator.device
        images = torch.from_numpy(batch.images).to(device)
        targets = self.objective.collate(batch.targets, device)
        images, targets = self.objective.vary(images, targets)
        with self.accelerator.autocast():
            return self.objective.loss(self.network, images, targets)


def fitting_batch(step: DryStep, training: Loader, num_images: int) -> int:
    """Return the number of images of the worst batch that every process can compute at once.

    Args:
        step: Dry step to run.
        training: Loader of the worst batch.
        num_images: Images wanted at once; the maximum of the result.
    """
    accelerator = step.accelerator
    find = safe_batch if accelerator.device.type == "cpu" else largest_batch
    with _untouched(step.network, accelerator.device):
        num_fitting = find(step, training.worst_batch, num_images)
    if accelerator.num_processes > 1:
        own = torch.tensor([num_fitting], device=accelerator.device)
        num_fitting = int(accelerator.gather(own).min())
    return num_fitting


def largest_batch(step: DryStep, worst: MakeBatch, num_images: int) -> int:
    """Halve the batch until it goes forward and back; a single image is not tried.

    Args:
        step: Dry step to run.
        worst: Function from a number of images to the worst batch of so many.
        num_images: Images wanted at once; the maximum of the result.
    """
    batch, size = worst(num_images), num_images
    while size > 1 and not _goes_through(step, _first(batch, size)):
        size //= 2
    if size < num_images:
        log.warning(
            "memory: %d images of the worst batch do not fit: computing %d at once",
            num_images,
            size,
        )
    return size


def _goes_through(step: DryStep, batch: Batch) -> bool:
    """Return whether there is memory for a batch to go forward and back."""
    device = step.accelerator.device
    try:
        # Stands in for the optimiser's state, which is not there yet.
        reserved = torch.empty(_state_bytes(step.optimizer), dtype=torch.uint8, device=device)
        step.loss(batch).backward()  # type: ignore[no-untyped-call]
        del reserved
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        step.network.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def safe_batch(step: DryStep, worst: MakeBatch, num_images: int) -> int:
    """Return the number of images that fit, predicted from the activations of a few.

    Args:
        step: Dry step to run.
        worst: Function from a number of images to the worst batch of so many.
        num_images: Images wanted at once; the maximum of the result.
    """
    num_measured = min(_NUM_MEASURED, num_images)
    batch = worst(num_measured)
    image_bytes = _BACKWARD_FACTOR * _saved_bytes(step, batch) / num_measured
    free_bytes = free_memory_bytes() / step.accelerator.num_processes
    fixed_bytes = _state_bytes(step.optimizer) + _gradient_bytes(step.optimizer)
    usable_bytes = _MEMORY_SHARE * free_bytes - fixed_bytes
    size = min(num_images, max(1, int(usable_bytes / max(1.0, image_bytes))))
    if size < num_images:
        log.warning(
            "memory: %d images take about %d MiB and %d MiB are free: computing %d at once",
            num_images,
            (image_bytes * num_images + fixed_bytes) / MIB,
            free_bytes / MIB,
            size,
        )
    return size


def _saved_bytes(step: DryStep, batch: Batch) -> int:
    """Return the bytes that forward keeps for backward, without weights."""
    known = {tensor.untyped_storage().data_ptr() for tensor in step.network.state_dict().values()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    # The graph keeps every tensor alive until the loss is freed, so no address is used twice.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step.loss(batch)
    del loss
    return sum(sizes.values())


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of the optimiser's state: means of gradients and of their squares."""
    total = 0
    for group in optimizer.param_groups:
        if "betas" in group:
            num_states = 3 if group["amsgrad"] else 2
        else:
            num_states = int(group["momentum"] > 0)
        total += num_states * sum(p.nbytes for p in group["params"])
    return total


def _gradient_bytes(optimizer: torch.optim.Optimizer) -> int:
    return sum(p.nbytes for group in optimizer.param_groups for p in group["params"])


def _first(batch: Batch, num_images: int) -> Batch:
    return Batch(
        batch.images[:num_images],
        batch.index[:num_images],
        batch.targets[:num_images],
        batch.frames[:num_images],
    )


@contextmanager
def _untouched(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore random state and buffers, and leave no gradients."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    devices: list[Any] = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            network.zero_grad(set_to_none=True)
            with torch.no_grad():
                now = dict(network.named_buffers())
                for name, buffer in buffers.items():
                    now[name].copy_(buffer)
