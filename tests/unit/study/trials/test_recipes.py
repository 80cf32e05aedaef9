"""Sizes of the network's input: published for Azure's names, the weights' own for others."""

from typing import Any

import pytest

from autofocus.errors import JobError
from autofocus.manifest import ResizeCrop
from autofocus.study.resolve import resolve
from autofocus.study.trials.recipes import preprocess_for

OWN = ResizeCrop(252, 240, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def sizes(model: str | None, **parameters: Any) -> tuple[int, int]:
    if model is not None:
        parameters["model_name"] = model
    plan = resolve(
        {"task": "image_classification", "training_data": "x", "training_parameters": parameters}
    )
    spec = preprocess_for(plan, OWN)
    assert (spec.mean, spec.std) == (OWN.mean, OWN.std), "the weights' normalisation always holds"
    return spec.resize_size, spec.crop_size


def test_defaults() -> None:
    assert sizes("resnet18") == sizes("ViTB16R224") == (256, 224)
    assert sizes(None) == sizes("convnext_tiny") == (252, 240)


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("resnet18", {"validation_crop_size": 64}, (256, 64)),
        ("resnet18", {"validation_crop_size": 320}, (320, 320)),
        ("resnet18", {"validation_resize_size": 300}, (300, 224)),
        # What the weights' own crop keeps of an image, it keeps at every size.
        ("convnext_tiny", {"validation_crop_size": 80}, (84, 80)),
        (None, {"valid_resize_size": "288.0", "valid_crop_size": "224"}, (288, 224)),
    ],
)
def test_the_job_wins(
    model: str | None, parameters: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert sizes(model, **parameters) == expected


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(JobError, match=r"validation_resize_size: must be at least the crop of 224"):
        sizes("resnet18", validation_resize_size=100)
