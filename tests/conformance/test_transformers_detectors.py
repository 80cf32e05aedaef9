"""What every transformer detector must do: the contract of `models.base`, on tiny networks."""

import contextlib
import copy
import io
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from timm.models import group_parameters
from torch import Tensor

from autofocus.models.box_profile import TYPICAL
from autofocus.models.transformers_detectors import build, network_options
from autofocus.models.transformers_network import TransformersDetector
from tiny_transformers import (
    NUM_CLASSES,
    SIDES,
    TINY,
    break_ties,
    build_tiny,
    spec_of,
    target,
)

NAMES = sorted(TINY)
each_family = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _images(name: str, num: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num, 3, SIDES[name], SIDES[name], generator=generator)


def _targets(network: TransformersDetector, name: str, *nums: int) -> list[dict[str, Tensor]]:
    stride = network.stride if "masks" in network.output_names else None
    return [target(SIDES[name], num, mask_stride=stride) for num in nums]


def _total(losses: dict[str, Tensor]) -> Tensor:
    assert all(loss.shape == () for loss in losses.values())
    return torch.stack(list(losses.values())).sum()


@each_family
@torch.no_grad()
def test_eval_gives_candidates_of_a_fixed_number_best_first(name: str) -> None:
    network = build_tiny(name)
    boxes, scores, classes, *masks = network(_images(name))
    assert len(network.output_names) == 3 + len(masks)
    assert scores.shape == classes.shape == boxes.shape[:2] == (2, network.num_candidates)
    assert (boxes.dtype, scores.dtype, classes.dtype) == (torch.float32, torch.float32, torch.int64)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert classes.min() >= 0
    assert classes.max() < NUM_CLASSES
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    for mask in masks:
        side = SIDES[name] // network.stride
        assert mask.shape == (2, network.num_candidates, side, side)
        assert mask.min() >= 0
        assert mask.max() <= 1


@each_family
def test_losses_fall_on_one_image(name: str) -> None:
    network = build_tiny(name).train()
    images, targets = _images(name, 1), _targets(network, name, 3)
    # The transformer encoders, from random numbers, start slowly.
    num_steps = {"rf_detr_n": 50, "rf_detr_seg_n": 100}.get(name, 15)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    history = []
    for _ in range(num_steps):
        loss = _total(network(images, targets))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        history.append(loss.item())
    assert np.isfinite(history).all()
    assert np.mean(history[-5:]) < 0.9 * np.mean(history[:5])


@each_family
def test_losses_sum_to_the_loss_of_transformers(name: str) -> None:
    network = build_tiny(name).train()
    images, targets = _images(name), _targets(network, name, 3, 1)
    width = height = SIDES[name]
    labels = [
        {
            "class_labels": one["classes"],
            "boxes": torch.cat(
                [
                    (one["boxes"][:, :2] + one["boxes"][:, 2:]) / 2,
                    one["boxes"][:, 2:] - one["boxes"][:, :2],
                ],
                dim=1,
            )
            / torch.tensor([width, height, width, height]),
        }
        | ({"masks": one["masks"]} if "masks" in one else {})
        for one in targets
    ]
    torch.manual_seed(0)
    ours = _total(network(images, targets))
    torch.manual_seed(0)
    theirs = network.detector(images, labels=labels).loss
    torch.testing.assert_close(ours, theirs)


@each_family
@pytest.mark.parametrize("nums", [(0,), (0, 2)])
def test_images_without_objects_train(name: str, nums: tuple[int, ...]) -> None:
    network = build_tiny(name).train()
    loss = _total(network(_images(name, len(nums)), _targets(network, name, *nums)))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@each_family
def test_every_parameter_that_learns_gets_a_gradient(name: str) -> None:
    network = build_tiny(name).train()
    _total(network(_images(name), _targets(network, name, 3, 2))).backward()
    idle = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


@each_family
def test_images_of_more_than_300_objects_get_more_queries(name: str) -> None:
    side = {"rf_detr_seg_n": 312}.get(name, 384)
    profile = type(TYPICAL)(**{**vars(TYPICAL), "objects_p99": 310.0})
    options = network_options(spec_of(name), profile, (side, side))
    assert options["num_queries"] == 465
    tiny = {**TINY[name], "num_queries": options["num_queries"]}
    network = build(spec_of(name), NUM_CLASSES, None, (side, side), tiny).train()
    stride = network.stride if "masks" in network.output_names else None
    losses = network(torch.rand(1, 3, side, side), [target(side, 320, mask_stride=stride)])
    assert torch.isfinite(_total(losses))
    assert network.num_candidates == 465


@each_family
@torch.no_grad()
def test_state_dict_survives_safetensors_and_a_second_build(name: str, tmp_path: Path) -> None:
    network = build_tiny(name)
    break_ties(network)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    again = build_tiny(name)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for first, second in zip(network(_images(name)), again(_images(name)), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@each_family
def test_a_copy_is_of_its_own(name: str) -> None:
    network = build_tiny(name)
    average = copy.deepcopy(network)
    before = {key: value.clone() for key, value in average.state_dict().items()}
    break_ties(network)
    assert set(before) == set(network.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in average.state_dict().items())
    with torch.no_grad():
        average.load_state_dict(network.state_dict())
        for first, second in zip(network(_images(name)), average(_images(name)), strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=0)


@each_family
def test_inference_before_training_does_no_harm(name: str) -> None:
    network = build_tiny(name)
    with torch.inference_mode():
        network(_images(name))
    network.train()
    _total(network(_images(name), _targets(network, name, 1, 2))).backward()


@each_family
def test_blocks_of_the_encoder_have_depths(name: str) -> None:
    network = build_tiny(name)
    own = {n for n, _ in network.named_parameters() if n.startswith("encoder.")}
    assert own == {f"encoder.{n}" for n, _ in network.encoder.named_parameters()}
    groups = group_parameters(network.encoder, network.encoder.group_matcher())
    assert len(groups) >= 3
    assert sum(map(len, groups.values())) == len(own)


@each_family
def test_autocast_computes_losses_in_float32(name: str) -> None:
    network = build_tiny(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = network(_images(name), _targets(network, name, 3, 0))
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert torch.isfinite(_total(losses))
    _total(losses).backward()


# Segmentation's graph has all of detection's; the newer exporter takes its time.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "rf_detr_n" else []) for name in NAMES],
)
@torch.no_grad()
def test_onnx_gives_the_same_candidates_for_any_batch(name: str, tmp_path: Path) -> None:
    network = build_tiny(name, **({"decoder_layers": 1} if name.startswith("rf_") else {}))
    break_ties(network)
    path = tmp_path / "model.onnx"
    _export(network, path, SIDES[name])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for num in (1, 2, 3):
        images = _images(name, num)
        expected = network(images)
        got = session.run(None, {"input1": images.numpy()})
        certain = _certain(expected[1])
        assert certain.mean() > 0.25
        for wanted, array in zip(expected, got, strict=True):
            np.testing.assert_allclose(array[certain], wanted.numpy()[certain], atol=1e-3)
    # The exporters must not leave their tensors in transformers' caches.
    again = network(images)
    torch.testing.assert_close(again[0], expected[0])


def _certain(scores: Tensor) -> NDArray[np.bool_]:
    """Return which candidates [n, c] differ so much in score that rounding cannot swap them."""
    gaps = -np.diff(scores.numpy(), axis=1, prepend=2.0, append=-1.0)
    certain: NDArray[np.bool_] = (gaps[:, :-1] > 3e-6) & (gaps[:, 1:] > 3e-6)
    return certain


def _export(network: TransformersDetector, path: Path, side: int) -> None:
    example = torch.rand(2, 3, side, side)
    batch = torch.export.Dim("batch")
    by_exporter = {
        "dynamo": {"dynamo": True, "dynamic_shapes": ({0: batch},), "external_data": False},
        "torchscript": {
            "dynamo": False,
            "opset_version": 17,
            "dynamic_axes": {name: {0: "n"} for name in ("input1", *network.output_names)},
        },
    }
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=["input1"],
            output_names=list(network.output_names),
            **by_exporter[network.exporter],
        )
