"""The device of training, and torch's settings for it."""

import os

import cv2
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import patch_environment

from autofocus.errors import JobError
from autofocus.runtime import keep_big_blocks, num_cores, process_count

_DEVICE_VARIABLE = "ACCELERATE_TORCH_DEVICE"


def choose_device(name: str) -> torch.device:
    """Return the device of the job's `device:`; `auto` takes a GPU where there is one.

    Raises:
        JobError: If the device does not exist, or is one GPU for several processes.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise JobError(
            f"device: {name!r} cannot be used here ({reason}). Use auto, cpu, cuda or cuda:0."
        ) from error
    if process_count() > 1 and device.index is not None:
        raise JobError(
            f"device: {name!r} is one device for {process_count()} processes. "
            f"Use {device.type}: each process takes its own."
        )
    return device


def make_accelerator(device: torch.device) -> Accelerator:
    """Return an accelerator: bf16 where a GPU has it, else fp16; fp32 on CPUs."""
    precision = "no"
    if device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    # accelerate has one state a process; a second run in it may need another.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Unless told, accelerate takes the first GPU, or one for each process.
    named = {} if device.index is None else {_DEVICE_VARIABLE: str(device)}
    if device.type == "cuda" and named:
        torch.cuda.set_device(device)
    with patch_environment(**named):
        return Accelerator(mixed_precision=precision, cpu=device.type == "cpu")


def prepare_torch() -> None:
    """Set allocator and threads; call once, before the first big tensor."""
    keep_big_blocks()
    # Loader threads work on images in parallel; OpenCV's own would only slow them down.
    cv2.setNumThreads(1)
    # Processes that train as one share the cores of their machine.
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if process_count() > 1 else 1
    torch.set_num_threads(max(1, num_cores() // here))
