"""Checkpoints that a kill at any moment cannot spoil: safetensors and JSON, swapped as a folder."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from autofocus.models.weights.save import save_tensors
from autofocus.runtime import write_atomically

_TENSORS = "tensors.safetensors"
_STATE = "state.json"


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Replace the checkpoint in `folder`.

    The new one is complete on disk before the old one is removed; a kill in between leaves one of
    them under a name that `load_checkpoint` finds.

    Raises:
        OSError: If the disk is full; the old checkpoint stays.
    """
    new, old = _beside(folder, "new"), _beside(folder, "old")
    if old.exists() and new.exists() and not folder.exists():
        # A kill between the two renames below: `new` is the checkpoint.
        new.rename(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        save_tensors({k: v.detach().cpu() for k, v in tensors.items()}, new / _TENSORS)
        (new / _STATE).write_text(json.dumps(state), encoding="utf-8")
        for path in (new / _TENSORS, new / _STATE, new):
            _sync(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the newest complete checkpoint's tensors and state, or None without one."""
    # `folder` first: when it is there, `new` may be half written.
    for path in (folder, _beside(folder, "new"), _beside(folder, "old")):
        try:
            state: dict[str, Any] = json.loads((path / _STATE).read_text(encoding="utf-8"))
            return load_file(path / _TENSORS), state
        except (OSError, ValueError, SafetensorError):
            continue
    return None


def change_state(folder: Path, **changed: Any) -> None:
    """Change values of a checkpoint's state."""
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    write_atomically(folder / _STATE, json.dumps(state | changed).encode())


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `prefix/` before each name."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under `prefix/`, without it."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors under `<parameter>/<name>`."""
    return dict(_flat(optimizer.state_dict()["state"]))


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state that `optimizer_tensors` returned; the groups come from the recipe."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # In the parameter's memory order, as the optimiser made it: other kernels round
            # differently.
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def scaler_state(scaler: GradScaler | None) -> dict[str, float]:
    """Return the state of fp16's loss scaling; empty in other precisions."""
    return {} if scaler is None else scaler.state_dict()


def restore_scaler(scaler: GradScaler | None, state: Mapping[str, float]) -> None:
    """Restore the state that `scaler_state` returned; do nothing in other precisions."""
    if scaler is not None and state:
        scaler.load_state_dict(dict(state))


def random_tensors() -> dict[str, Tensor]:
    """Return torch's random state: the CPU's and, where there is one, the current GPU's."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def restore_random(tensors: Mapping[str, Tensor]) -> None:
    """Restore the state that `random_tensors` returned."""
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def _flat(state: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    for index, values in state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                yield f"{index}/{name}", value


def _beside(folder: Path, role: str) -> Path:
    return folder.with_name(f".{folder.name}-{role}")


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handles on folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
