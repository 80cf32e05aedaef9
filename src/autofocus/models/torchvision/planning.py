"""Canvas, levels, anchors, scale ranges and limits of a detector, from images and their boxes."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from autofocus.manifest import ResizeFit
from autofocus.models.base import ModelSpec
from autofocus.models.box_profile import BoxProfile
from autofocus.models.catalog import AZURE_DETECTORS, resolve
from autofocus.models.torchvision.options import FcosOptions, RcnnOptions, RetinaNetOptions

# azure.md §1.6, for the published names.
PUBLISHED_MIN_SIZE: Final = 600
PUBLISHED_MAX_SIZE: Final = 1333

# Longer side of the input: usual, largest, and the median object's side that it should reach.
_CPU_SIDES: Final = (416, 640, 24.0)
_GPU_SIDES: Final = (640, 1024, 32.0)
# Images whose shapes differ by more than this get a square canvas.
_MAX_SHAPE_RATIO: Final = 1.5
# Stride of the coarsest map that every encoder has.
_COARSE_STRIDE: Final = 32

SMALL_CHANNELS: Final = 128
LARGE_CHANNELS: Final = 256
# Encoders up to this many parameters are meant for CPUs: their pyramid is half as wide.
_MAX_SMALL_PARAMS: Final = 12_500_000

# No pyramid reaches further than the published ones, and none is a single map.
_MAX_STRIDE: Final = 128
_MIN_LEVELS: Final = 2
# From one anchor size to the next: beyond this a box between them overlaps neither by half.
_MAX_SIZE_STEP: Final = 1.8

# Augmentation makes some objects this much larger than any in the data.
_GROWTH: Final = 2.0
# Factor by which anchors reach beyond the 1st and 99th percentile of the objects' sides.
_REACH: Final = 1.25
_MIN_ASPECT_SPREAD: Final = 1.2

# A box's mask has 28 x 28 cells: below this side, in pixels, bitmaps of half the canvas show less.
_SMALL_MASK_SIDE: Final = 56
# With more objects than this in one image, bitmaps of the whole canvas would fill memory.
_MAX_FINE_MASKS: Final = 50


@dataclass(frozen=True)
class _Objects:
    """Sides of the objects on the canvas, in pixels."""

    p1: float
    p10: float
    p50: float
    p99: float


def canvas_spec(
    spec: ModelSpec, profile: BoxProfile, parameters: Mapping[str, Any], is_cpu: bool
) -> ResizeFit:
    """Return the canvas of the detector `spec`, into which images are scaled and padded.

    Args:
        spec: The detector; its `preprocess` gives the normalisation.
        profile: Profile of the training boxes.
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
    """Return the factor by which the median image is scaled into a canvas of `size`."""
    (height, width), (image_height, image_width) = size, profile.image_size
    return min(height / image_height, width / image_width)


def stride_unit(spec: ModelSpec) -> float:
    """Return the factor between powers of two and the strides of the encoder's maps.

    It is 1 but for plain vision transformers with odd patches: 0.875 for patches of 14 pixels.
    """
    found = re.search(r"patch(\d+)", spec.backbone or spec.name)
    patch = int(found[1]) if found else 16
    return float(patch / 2 ** round(math.log2(patch)))


def fcos_options(spec: ModelSpec, profile: BoxProfile, size: tuple[int, int]) -> FcosOptions:
    """Return FCOS for objects such as `profile`'s on a canvas of `size` (height, width)."""
    objects = _objects(profile, size)
    finest = 4 if objects.p50 < 16 else 16 if objects.p10 >= 64 and objects.p1 >= 48 else 8
    # A level learns distances to a box's sides of 4 to 8 times its stride.
    longest = 0.5 * objects.p99 * _GROWTH * _elongation(profile)
    strides = _strides(spec, finest, coarsest=longest / 4)
    return FcosOptions(
        strides=strides,
        channels=_channels(spec),
        range_ends=[8.0 * stride for stride in strides[:-1]],
        num_candidates=_num_candidates(profile),
    )


def retinanet_options(
    spec: ModelSpec, profile: BoxProfile, size: tuple[int, int]
) -> RetinaNetOptions:
    """Return RetinaNet for objects such as `profile`'s on a canvas of `size` (height, width)."""
    objects = _objects(profile, size)
    # An anchor finds an object anywhere between its points if it is three strides wide.
    finest = 4 if objects.p50 < 24 else 16 if objects.p10 >= 48 and objects.p1 >= 40 else 8
    strides = _strides(spec, finest, coarsest=_REACH * objects.p99 / 4)
    return RetinaNetOptions(
        strides=strides,
        channels=_channels(spec),
        anchor_sizes=_anchor_sizes(objects, strides, sizes_a_level=3),
        aspect_ratios=_aspect_ratios(profile),
        num_candidates=_num_candidates(profile),
        group_norm=spec.weights_enum is None,
    )


def rcnn_options(spec: ModelSpec, profile: BoxProfile, size: tuple[int, int]) -> RcnnOptions:
    """Return Faster or Mask R-CNN for objects such as `profile`'s on a canvas of `size`."""
    objects = _objects(profile, size)
    # Regions are pooled from the finest level too: it must resolve an object's inside.
    finest = 8 if objects.p10 >= 64 and objects.p1 >= 48 else 4
    strides = _strides(spec, finest, coarsest=_REACH * objects.p99 / 4)
    sizes = _anchor_sizes(objects, strides, sizes_a_level=1)
    if spec.weights_enum is None and sizes[1][0] / sizes[0][0] > _MAX_SIZE_STEP:
        sizes = _anchor_sizes(objects, strides, sizes_a_level=2)
    is_small = _channels(spec) == SMALL_CHANNELS
    most = max_detections(profile)
    return RcnnOptions(
        strides=strides,
        channels=_channels(spec),
        anchor_sizes=sizes,
        aspect_ratios=_aspect_ratios(profile),
        num_proposals=min(max(300 if is_small else 1000, 3 * most), 3000),
        num_candidates=_num_candidates(profile),
        num_masks=most,
        num_samples=min(max(128 if is_small else 512, 2 * math.ceil(profile.objects_p99)), 1024),
        head_width=512 if is_small else 1024,
        num_mask_layers=2 if is_small else 4,
        mask_stride=_mask_stride(profile, objects),
    )


def max_detections(profile: BoxProfile) -> int:
    """Return the most detections of an image: well above the objects of training images."""
    return min(max(100, math.ceil(1.5 * profile.objects_p99)), 3000)


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


def _objects(profile: BoxProfile, size: tuple[int, int]) -> _Objects:
    height, width = profile.image_size
    side = fit_scale(profile, size) * math.sqrt(height * width)
    p1, p10, p50, _, p99 = (side * frac for frac in profile.side_frac)
    return _Objects(p1, p10, p50, p99)


def _elongation(profile: BoxProfile) -> float:
    """Return the longer side of elongated boxes relative to the root of their area."""
    _, low, _, high, _ = profile.aspect
    return math.sqrt(max(high, 1 / low, 1.0))


def _strides(spec: ModelSpec, finest: int, coarsest: float) -> list[int]:
    """Return the strides from `finest` to the last not above `coarsest`."""
    unit = stride_unit(spec)
    if not (unit * finest).is_integer():
        finest = 8
    last = min(max(coarsest, finest), _MAX_STRIDE)
    num = max(math.floor(math.log2(last / finest)) + 1, _MIN_LEVELS)
    return [round(unit * finest * 2**level) for level in range(num)]


def _channels(spec: ModelSpec) -> int:
    if spec.weights_enum is not None:
        return LARGE_CHANNELS
    num_params = resolve(spec.backbone).num_params if spec.backbone else None
    is_small = num_params is not None and num_params <= _MAX_SMALL_PARAMS
    return SMALL_CHANNELS if is_small else LARGE_CHANNELS


def _num_candidates(profile: BoxProfile) -> int:
    """Return candidates before suppression: several an object, and room for wrong ones."""
    return min(max(300, 10 * math.ceil(1.5 * profile.objects_p99)), 3000)


def _anchor_sizes(
    objects: _Objects, strides: Sequence[int], sizes_a_level: int
) -> list[list[float]]:
    """Return sizes that grow by one factor from the smallest objects to the largest."""
    # Anchors narrower than the distance between them overlap with next to nothing.
    low = max(objects.p1 / _REACH, strides[0])
    high = max(objects.p99 * _REACH, 2 * low)
    sizes = np.geomspace(low, high, len(strides) * sizes_a_level)
    return _rounded(sizes.reshape(len(strides), sizes_a_level).tolist())


def _mask_stride(profile: BoxProfile, objects: _Objects) -> Literal[1, 2, 4]:
    """Return the coarsest masks that still show the usual object, if they fit in memory."""
    if objects.p50 < _SMALL_MASK_SIDE and profile.objects_p99 <= _MAX_FINE_MASKS:
        return 1
    return 2 if objects.p50 < 2 * _SMALL_MASK_SIDE else 4


def _rounded(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[round(value, 1) for value in row] for row in rows]


def _aspect_ratios(profile: BoxProfile) -> list[float]:
    """Return three shapes, heights / widths: a wide, the usual and a tall one."""
    _, low, median, high, _ = profile.aspect
    wide, tall = min(low, median / _MIN_ASPECT_SPREAD), max(high, median * _MIN_ASPECT_SPREAD)
    return [round(float(np.clip(ratio, 0.1, 10.0)), 3) for ratio in (wide, median, tall)]
