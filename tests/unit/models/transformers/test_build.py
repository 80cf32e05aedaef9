"""What is chosen from the data for a transformer detector, and what its builder refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from autofocus.errors import ModelFolderError
from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import TYPICAL, BoxProfile
from autofocus.models.transformers.build import build_transformers
from autofocus.models.transformers.catalog import TRANSFORMERS
from autofocus.models.transformers.family import TransformersFamily
from autofocus.models.transformers.network import num_candidates, to_corners
from autofocus.models.transformers.sizes import SIZES
from support.tiny_transformers import SIDES, TINY, build_tiny, options_of, spec_of

FAMILY = TransformersFamily()


def crowded(objects_p99: float) -> BoxProfile:
    return replace(TYPICAL, objects_p99=objects_p99)


@pytest.mark.parametrize(
    ("name", "objects_p99", "side", "options"),
    [
        ("d_fine_n", 31.0, 640, {"num_queries": 300}),
        ("d_fine_n", 300.5, 640, {"num_queries": 451}),
        ("d_fine_n", 10.0, 320, {"num_queries": 300}),
        ("d_fine_n", 10.0, 128, {"num_queries": 80}),
        ("deimv2_atto", 31.0, 320, {"num_queries": 100}),
        ("rf_detr_seg_n", 31.0, 312, {"num_queries": 100}),
        ("rf_detr_seg_n", 300.0, 312, {"num_queries": 450, "group_detr": 2}),
        ("rf_detr_n", 300.0, 384, {"num_queries": 450}),
    ],
)
def test_queries_follow_the_data(
    name: str, objects_p99: float, side: int, options: dict[str, Any]
) -> None:
    assert FAMILY.network_options(spec_of(name), crowded(objects_p99), (side, side)) == options


def test_too_small_an_input_for_its_objects_is_said(caplog: pytest.LogCaptureFixture) -> None:
    options = FAMILY.network_options(spec_of("rf_detr_n"), crowded(500.0), (384, 384))
    assert options == {"num_queries": 576}
    (record,) = caplog.records
    assert "576 objects" in record.getMessage()
    assert "384x384" in record.getMessage()
    assert "tile_grid_size" in record.getMessage()


@pytest.mark.parametrize("spec", TRANSFORMERS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("is_cpu", [False, True])
def test_input_suits_every_size(spec, is_cpu: bool) -> None:  # type: ignore[no-untyped-def]
    size = SIZES[spec.architecture]
    chosen = FAMILY.input_spec(spec, TYPICAL, {}, is_cpu)
    assert chosen.height == chosen.width
    assert chosen.height % size.multiple == 0
    assert chosen.height == size.side if not is_cpu else chosen.height <= size.side
    assert (chosen.mean, chosen.std) == (spec.preprocess.mean, spec.preprocess.std)
    assert not chosen.keep_aspect


@pytest.mark.parametrize(
    ("name", "profile", "parameters", "is_cpu", "side"),
    [
        ("d_fine_s", TYPICAL, {"image_size": 500}, True, 512),
        ("rf_detr_seg_s", TYPICAL, {"image_size": 300}, False, 312),
        ("d_fine_s", replace(TYPICAL, side_frac=(0.1, 0.2, 0.3, 0.4, 0.5)), {}, True, 320),
        ("d_fine_s", replace(TYPICAL, side_frac=(0.001, 0.002, 0.01, 0.4, 0.5)), {}, True, 640),
        ("rf_detr_n", crowded(400.0), {}, False, 416),  # 26 x 26 positions for 600 queries
        ("rf_detr_n", crowded(400.0), {"image_size": 384}, False, 384),
        ("rf_detr_n", crowded(10_000.0), {}, False, 1024),
    ],
)
def test_input_follows_the_data_and_the_job(
    name: str, profile: BoxProfile, parameters: dict[str, Any], is_cpu: bool, side: int
) -> None:
    assert FAMILY.input_spec(spec_of(name), profile, parameters, is_cpu).size == (side, side)


@pytest.mark.parametrize(
    "options", [{"torch_dtype": "float16"}, {"backbone": {"pretrained": True}}]
)
def test_options_of_a_manifest_are_shapes_only(options: dict[str, Any]) -> None:
    unknown = "torch_dtype" if "torch_dtype" in options else "pretrained"
    with pytest.raises(ModelFolderError, match=f"network.{unknown} is no option of a d_fine model"):
        build_transformers(
            spec_of("d_fine_n"), 3, None, (128, 128), {**options_of("d_fine_n"), **options}
        )


def test_candidates_are_as_many_as_the_authors_look_at() -> None:
    assert num_candidates(300, 80, has_masks=False) == 300
    assert num_candidates(450, 80, has_masks=False) == 450
    assert num_candidates(100, 80, has_masks=False) == 300
    assert num_candidates(100, 2, has_masks=False) == 200
    assert num_candidates(100, 80, has_masks=True) == 100


def test_corners_are_half_a_side_from_the_centre() -> None:
    boxes = torch.tensor([[[0.5, 0.4, 0.2, 0.6]]])
    torch.testing.assert_close(to_corners(boxes), torch.tensor([[[0.4, 0.1, 0.6, 0.7]]]))


def test_pretrained_norms_of_the_encoder_keep_their_statistics() -> None:
    network = build_tiny("d_fine_n")
    network.freezes_norms = True
    norms = {
        name: module.training
        for name, module in network.train().named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    assert not any(training for name, training in norms.items() if name.startswith("encoder."))
    assert all(training for name, training in norms.items() if not name.startswith("encoder."))
    assert not any(module.training for module in network.eval().modules())


@pytest.mark.parametrize("name", TINY)
def test_norms_of_random_networks_let_all_through(name: str) -> None:
    norms = [m for m in build_tiny(name).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert name.startswith("rf_") or norms
    for norm in norms:
        torch.testing.assert_close(norm.weight, torch.ones_like(norm.weight), rtol=0, atol=0)
        assert not norm.bias.any()


def test_a_targets_boxes_reach_the_loss_as_centres_and_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = build_tiny("d_fine_n").train()
    side = SIDES["d_fine_n"]
    seen: dict[str, torch.Tensor] = {}
    forward = network.detector.forward

    def spy(images: torch.Tensor, labels: list[dict[str, torch.Tensor]]) -> Any:
        seen.update(labels[0])
        return forward(images, labels=labels)

    monkeypatch.setattr(network.detector, "forward", spy)
    network(
        torch.rand(1, 3, side, side),
        [
            {
                "boxes": torch.tensor([[0.0, 32.0, 64.0, 96.0], [96.0, 0.0, 160.0, 64.0]]),
                "classes": torch.tensor([2, 0]),
            }
        ],
    )
    expected = torch.tensor([[0.25, 0.5, 0.5, 0.5], [0.875, 0.25, 0.25, 0.5]])
    torch.testing.assert_close(seen["boxes"], expected)
    assert seen["class_labels"].tolist() == [2, 0]


@pytest.mark.parametrize("spec", TRANSFORMERS, ids=lambda spec: spec.name)
def test_parameters_are_those_of_the_published_size(spec: ModelSpec) -> None:
    num_classes = 91 if spec.name.startswith("rf_") else 80
    with torch.device("meta"):
        network = build_transformers(spec, num_classes, None, spec.preprocess.size, {})
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.num_params
