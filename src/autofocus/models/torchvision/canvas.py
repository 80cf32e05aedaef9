"""The network's input size, from the training images and their boxes."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from autofocus.manifest import ResizeFit
from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import BoxProfile
from autofocus.models.catalog import AZURE_DETECTORS

# azure.md §1.6, for the published names.
PUBLISHED_MIN_SIZE: Final = 600
PUBLISHED_MAX_SIZE: Final = 1333

# Longer side of the input: usual, largest, and the median object's side that it should reach.
_CPU_SIDES: Final = (416, 640, 24.0)
_GPU_SIDES: Final = (640, 1024, 32.0)
# Images whose shapes differ by more than this get a square canvas.
_MAX_SHAPE_RATIO: Final = 1.5
# Of the coarsest map that every encoder has.
_COARSE_STRIDE: Final = 32


def input_spec(
    spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
) -> ResizeFit:
    """Return how images become input of the detector `spec`.

    Args:
        spec: Its `preprocess` gives the normalisation.
        profile: Of the training data.
        parameters: May have `image_size`, the longer side; or `min_size` and `max_size`, bounds of
            the shorter and the longer side, which the published names have by default.
        is_cpu: Whether it runs without an accelerator: then input is smaller.
    """
    long_side = _long_side(spec, profile, parameters, is_cpu)
    low, _, median, _, high = profile.image_aspect
    aspect = median if high / low <= _MAX_SHAPE_RATIO else 1.0
    multiple = round(_COARSE_STRIDE * stride_unit(spec))
    height = _rounded_up(long_side * min(1.0, aspect), multiple)
    width = _rounded_up(long_side / max(1.0, aspect), multiple)
    normal = spec.preprocess
    return ResizeFit(height, width, True, normal.mean, normal.std)


def fit_scale(profile: BoxProfile, size: tuple[int, int]) -> float:
    """Return by how much the median image is scaled into a canvas of `size`."""
    (height, width), (image_height, image_width) = size, profile.image_size
    return min(height / image_height, width / image_width)


def stride_unit(spec: ModelSpec) -> float:
    """Return what powers of two are multiplied by to give the strides of the encoder's maps.

    It is 1 but for plain vision transformers with odd patches: 0.875 for patches of 14 pixels.
    """
    found = re.search(r"patch(\d+)", spec.backbone or spec.name)
    patch = int(found[1]) if found else 16
    return float(patch / 2 ** round(math.log2(patch)))


def _long_side(
    spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
) -> float:
    height, width = profile.image_size
    if "image_size" in parameters:
        return float(parameters["image_size"])
    if spec.name in AZURE_DETECTORS or {"min_size", "max_size"} & parameters.keys():
        shorter = float(parameters.get("min_size", PUBLISHED_MIN_SIZE))
        longer = float(parameters.get("max_size", PUBLISHED_MAX_SIZE))
        scale = min(shorter / min(height, width), longer / max(height, width))
        return scale * max(height, width)
    usual, largest, object_side = _CPU_SIDES if is_cpu else _GPU_SIDES
    # The median object's side on a canvas whose longer side is 1.
    median = profile.side_frac[2] * math.sqrt(min(height, width) / max(height, width))
    return min(max(usual, object_side / median), largest)


def _rounded_up(side: float, multiple: int) -> int:
    return multiple * max(2, math.ceil(round(side) / multiple))
