"""A checkpoint is the old one or the new one, whole, whatever happens in between."""

import contextlib
import copy
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autofocus.models.network import Classifier
from autofocus.models.weights import save as weights_save
from autofocus.training import checkpoint
from autofocus.training.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    prefixed,
    random_tensors,
    restore_optimizer,
    restore_random,
    save_checkpoint,
    without_prefix,
)
from autofocus.training.optim import build_optimizer
from autofocus.training.recipe import Recipe


class Killed(BaseException):
    """Stands for kill -9."""


def save(folder: Path, number: int) -> None:
    save_checkpoint(folder, {"a": torch.full((100,), float(number))}, {"number": number})


def loaded_number(folder: Path) -> int | None:
    """Return which checkpoint is there, and hold it to be whole."""
    loaded = load_checkpoint(folder)
    if loaded is None:
        return None
    tensors, state = loaded
    assert torch.equal(tensors["a"], torch.full((100,), float(state["number"])))
    return int(state["number"])


def test_round_trip(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "view": torch.arange(10)[::2],
        "empty": torch.empty(0, 3),
        "half": torch.randn(3).to(torch.bfloat16),
        "scalar": torch.tensor(3.0),
        "learnt": torch.nn.Parameter(torch.ones(2)),
    }
    state = {"epoch": 3, "loss_sum": 0.1 + 0.2, "best": float("-inf"), "history": [{"a": None}]}
    save_checkpoint(tmp_path / "last", tensors, state)
    loaded = load_checkpoint(tmp_path / "last")
    assert loaded is not None
    assert loaded[1] == state
    assert loaded[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[0][name], tensor)
        assert loaded[0][name].dtype == tensor.dtype


def test_nothing_there(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "last") is None


def test_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "last", number)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert loaded_number(tmp_path / "last") == 2


# Every call by which a checkpoint reaches the disk, or leaves it.
OPERATIONS: list[tuple[Any, str]] = [
    (Path, "rename"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (os, "replace"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (weights_save, "save_file"),
]


def dying_at(k: int, moment: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Die at the k-th operation; return how many were reached."""
    count = 0
    for owner, name in OPERATIONS:
        original = getattr(owner, name)

        def operation(*args: Any, original: Any = original, **options: Any) -> Any:
            nonlocal count
            count += 1
            # A dead process cleans nothing up: every later call dies as well.
            if count > k or (count == k and moment == "before"):
                raise Killed
            result = original(*args, **options)
            if count == k:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, operation)
    return lambda: count


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    for k in range(1, 100):
        folder = tmp_path / f"{moment}-{k}" / "last"
        save(folder, 1)
        with monkeypatch.context() as patch:
            reached = dying_at(k, moment, patch)
            try:
                save(folder, 2)
                was_killed = False
            except Killed:
                was_killed = True
        assert loaded_number(folder) in (1, 2), f"{reached()} operations"
        # And the next one succeeds, with nothing left behind.
        save(folder, 3)
        assert loaded_number(folder) == 3
        assert [path.name for path in folder.parent.iterdir()] == ["last"]
        if not was_killed:
            assert k > 8, "there are that many operations to die at"
            return
    pytest.fail("never came to the end")


def test_killed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one kill left behind must not spoil what the next one leaves."""
    for first in range(1, 14):
        for second in (1, 2, 4, 9, 10):
            folder = tmp_path / f"{first}-{second}" / "last"
            save(folder, 1)
            for k, number in ((first, 2), (second, 3)):
                before = loaded_number(folder)
                with monkeypatch.context() as patch:
                    dying_at(k, "after", patch)
                    with contextlib.suppress(Killed):
                        save(folder, number)
                assert loaded_number(folder) in (before, number), (first, second)


def test_first_checkpoint_killed_is_none_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(1, 10):
        folder = tmp_path / str(k) / "last"
        with monkeypatch.context() as patch:
            dying_at(k, "after", patch)
            with contextlib.suppress(Killed):
                save(folder, 1)
        assert loaded_number(folder) in (None, 1)


@pytest.mark.parametrize("damage", ["truncate", "empty"])
@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_power_cut_while_renaming_falls_back(tmp_path: Path, damage: str, file: str) -> None:
    """A half-written file beside a whole older checkpoint is passed over."""
    folder = tmp_path / "last"
    save(folder, 2)
    folder.rename(tmp_path / ".last-new")
    save(tmp_path / "earlier", 1)
    (tmp_path / "earlier").rename(tmp_path / ".last-old")
    assert loaded_number(folder) == 2
    path = tmp_path / ".last-new" / file
    path.write_bytes(path.read_bytes()[: 5 if damage == "truncate" else 0])
    assert loaded_number(folder) == 1


def full_disk_write(tensors: Any, path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_full_disk_keeps_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "last"
    save(folder, 1)
    monkeypatch.setattr(checkpoint, "save_tensors", full_disk_write)
    with pytest.raises(OSError, match="No space left"):
        save(folder, 2)
    assert loaded_number(folder) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_says_who_reads_a_checkpoint(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save(tmp_path / "last", 1)
        save(tmp_path / "last", 2)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "last").iterdir()}
    assert modes == {"tensors.safetensors": mode, "state.json": mode}


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_really_full_disk_is_an_os_error_and_keeps_the_earlier_one(tmp_path: Path) -> None:
    import resource

    folder = tmp_path / "last"
    save(folder, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="last"):
            save_checkpoint(folder, {"a": torch.zeros(1_000_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert loaded_number(folder) == 1


def test_prefixes() -> None:
    tensors = {"a": torch.ones(1), "b/c": torch.zeros(1)}
    both = prefixed("network", tensors) | prefixed("networks", {"a": torch.ones(2)})
    assert without_prefix("network", both) == tensors


@pytest.mark.parametrize(
    "recipe",
    [Recipe(optimizer="sgd"), Recipe(optimizer="adam", ams_gradient=True), Recipe()],
    ids=["sgd", "adam", "adamw"],
)
def test_optimiser_goes_on_bit_same(network: Classifier, recipe: Recipe) -> None:
    def step(network: Classifier, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        images = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()

    network = network.to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(network, recipe)
    for seed in range(3):
        step(network, optimizer, seed)
    other = copy.deepcopy(network)
    restored = build_optimizer(other, recipe)
    kept = {
        name: value.clone().contiguous() for name, value in optimizer_tensors(optimizer).items()
    }
    restore_optimizer(restored, kept)
    rates = [group["lr"] for group in build_optimizer(other, recipe).param_groups]
    assert [group["lr"] for group in restored.param_groups] == rates
    for parameter, state in restored.state.items():
        for value in state.values():
            if value.shape == parameter.shape:
                assert value.stride() == parameter.stride(), "the memory order of the parameter"
    for seed in range(3, 6):
        step(network, optimizer, seed)
        step(other, restored, seed)
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_random_state_goes_on() -> None:
    torch.manual_seed(3)
    torch.randn(5)
    kept = {name: value.clone() for name, value in random_tensors().items()}
    expected = torch.randn(5)
    restore_random(kept)
    assert torch.equal(torch.randn(5), expected)
