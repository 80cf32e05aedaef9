"""What every transformer detector must do: the contract of `models.base`, on tiny networks."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from timm.models import group_parameters
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from autofocus.models.box_profile import TYPICAL
from autofocus.models.families import family_of
from autofocus.models.transformers.build import build_transformers
from autofocus.models.transformers.network import TransformersDetector
from autofocus.package.onnx import export_onnx
from support.tiny_transformers import (
    NUM_CLASSES,
    SIDES,
    TINY,
    build_tiny,
    patches,
    spec_of,
    target,
    train_briefly,
)

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = sorted(TINY)
each_family = pytest.mark.parametrize("name", NAMES)


def _images(name: str, num: int = 2) -> Tensor:
    return patches(num, SIDES[name])


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


@pytest.mark.parametrize("name", ["deimv2_atto"])
def test_losses_fall_on_one_image(name: str) -> None:
    """The others learn a whole picture: `unit/models/test_transformers_overfit.py`."""
    network = build_tiny(name).train()
    images, targets = _images(name, 1), _targets(network, name, 3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    history = []
    for _ in range(15):
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
def test_boxes_without_area_do_not_count(name: str) -> None:
    network = build_tiny(name).train()
    (kept,) = _targets(network, name, 2)
    flat = {key: torch.cat([value, value[:1]]) for key, value in kept.items()}
    flat["boxes"][2, 2] = flat["boxes"][2, 0]
    losses = []
    for targets in ([kept], [flat]):
        torch.manual_seed(0)
        losses.append(_total(network(_images(name, 1), targets)))
    torch.testing.assert_close(losses[0], losses[1])


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
    spec = spec_of(name)
    options = family_of(spec).network_options(spec, profile, (side, side))
    assert options["num_queries"] == 465
    tiny = {**TINY[name], "num_queries": options["num_queries"]}
    network = build_transformers(spec_of(name), NUM_CLASSES, None, (side, side), tiny).train()
    stride = network.stride if "masks" in network.output_names else None
    losses = network(torch.rand(1, 3, side, side), [target(side, 320, mask_stride=stride)])
    assert torch.isfinite(_total(losses))
    assert network.num_candidates == 465


@each_family
def test_state_dict_survives_safetensors_and_a_second_build(name: str, tmp_path: Path) -> None:
    network = build_tiny(name)
    train_briefly(network, SIDES[name])
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    again = build_tiny(name)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        for first, second in zip(network(_images(name)), again(_images(name)), strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=0)


@each_family
def test_a_copy_is_of_its_own(name: str) -> None:
    network = build_tiny(name)
    average = copy.deepcopy(network)
    before = {key: value.clone() for key, value in average.state_dict().items()}
    train_briefly(network, SIDES[name])
    assert set(before) == set(network.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in average.state_dict().items())
    with torch.no_grad():
        average.load_state_dict(network.state_dict())
        for first, second in zip(network(_images(name)), average(_images(name)), strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=0)


@each_family
def test_inference_before_training_does_no_harm(name: str) -> None:
    network = build_tiny(name)
    unused = copy.deepcopy(network)
    with torch.inference_mode():
        network(_images(name))
    for trained in (network, unused):
        torch.manual_seed(0)
        _total(trained.train()(_images(name), _targets(trained, name, 1, 2))).backward()
    for (key, one), other in zip(network.named_parameters(), unused.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=key)


@each_family
def test_channels_last_changes_nothing(name: str) -> None:
    network = build_tiny(name)
    images = _images(name)
    with torch.no_grad():
        before = network(images)
        network.to(memory_format=torch.channels_last)
        after = network(images.contiguous(memory_format=torch.channels_last))
    for first, second in zip(before, after, strict=True):
        torch.testing.assert_close(first, second)
    images = images.contiguous(memory_format=torch.channels_last)
    _total(network.train()(images, _targets(network, name, 2, 1))).backward()


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
    # torch's fused attention packs bfloat16 for the AMX it finds, which ATen's AVX2 cannot.
    with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        losses = network(_images(name), _targets(network, name, 3, 0))
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert torch.isfinite(_total(losses))
    _total(losses).backward()


# Segmentation's graph has all of detection's; the newer exporter takes its time.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "rf_detr_n" else []) for name in NAMES],
)
def test_onnx_gives_the_same_candidates_for_any_batch(name: str, tmp_path: Path) -> None:
    # Queries at all positions: untrained scores are so alike that rounding would choose others.
    # RF-DETR's differ more, and there the order matters.
    options = {"decoder_layers": 1} if name.startswith("rf_") else {"num_queries": 999}
    network = build_tiny(name, **options)
    train_briefly(network, SIDES[name])
    path = tmp_path / "model.onnx"
    export_onnx(network, path, (SIDES[name], SIDES[name]))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for num in (1, 2, 3):
        images = _images(name, num)
        with torch.no_grad():
            expected = network(images)
        got = session.run(None, {"input1": images.numpy()})
        for index in range(num):
            assert _same_candidates(
                [array[index] for array in got], [output[index].numpy() for output in expected]
            )
    # The exporters must not leave their tensors in transformers' caches.
    with torch.no_grad():
        again = network(images)
    torch.testing.assert_close(again[0], expected[0])


def _same_candidates(got: list[NDArray[Any]], wanted: list[NDArray[Any]]) -> bool:
    """Return whether each candidate of one is in the other; rounding may swap equal scores."""
    rows, others = (
        np.concatenate([array.reshape(len(array), -1).astype(float) for array in arrays], axis=1)
        for arrays in (got, wanted)
    )
    near = np.abs(rows[:, None] - others[None]).max(axis=2) < 1e-3
    return bool(near.any(axis=0).all() and near.any(axis=1).all())
