"""The device that a job names is the one that is used."""

import os

import pytest
import torch

from autofocus.errors import JobError
from autofocus.training import device as device_module
from autofocus.training.device import choose_device, make_accelerator, prepare_torch


@pytest.mark.parametrize("name", ["cuda:7", "nonsense", "cpu:x"])
def test_a_device_that_is_not_here_is_one_error(name: str) -> None:
    with pytest.raises(JobError, match=rf"device: '{name}' cannot be used here .*Use auto, cpu"):
        choose_device(name)


def test_accelerate_takes_the_device_with_its_number() -> None:
    """There is no second GPU here: a device without memory stands in for it."""
    assert make_accelerator(torch.device("meta:1")).device == torch.device("meta:1")
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ
    accelerator = make_accelerator(torch.device("cpu"))
    assert accelerator.device == torch.device("cpu")
    assert accelerator.mixed_precision == "no"


def test_a_gpu_with_a_number_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    told = {}

    def accelerator(**options: object) -> str:
        told.update(options, device=os.environ.get("ACCELERATE_TORCH_DEVICE"))
        return "made"

    monkeypatch.setattr(device_module, "Accelerator", accelerator)
    assert make_accelerator(torch.device("cuda:1")) == "made"
    assert told == {"mixed_precision": "bf16", "cpu": False, "device": "cuda:1"}
    assert current == [torch.device("cuda:1")]
    make_accelerator(torch.device("cuda"))
    assert told["device"] is None
    assert len(current) == 1


def test_several_processes_take_their_own_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(JobError, match=r"one device for 4 processes\. Use meta"):
        choose_device("meta:1")


def test_processes_share_the_cores_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "num_cores", lambda: 8)
    monkeypatch.setattr(device_module, "keep_big_blocks", lambda: None)
    prepare_torch()
    assert torch.get_num_threads() == 8
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    for here, threads in ((4, 2), (2, 4), (16, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
        prepare_torch()
        assert torch.get_num_threads() == threads
