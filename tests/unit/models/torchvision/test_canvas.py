from dataclasses import replace

import pytest

from autofocus.models.box_profile import TYPICAL, BoxProfile
from autofocus.models.catalog import AZURE_DETECTORS, resolve
from autofocus.models.torchvision.canvas import fit_scale, input_spec, stride_unit

LITE0 = resolve("fcos_tf_efficientnet_lite0_fpn")


def profile(
    size: tuple[int, int] = (480, 640),
    side: float = 0.2,
    aspects: tuple[float, float] | None = None,
) -> BoxProfile:
    aspect = size[0] / size[1]
    low, high = aspects or (aspect, aspect)
    return replace(
        TYPICAL,
        image_size=size,
        image_aspect=(low, low, aspect, high, high),
        side_frac=(side / 3, side / 2, side, 1.5 * side, 2 * side),
    )


def test_default_on_a_cpu_keeps_the_images_shape() -> None:
    spec = input_spec(LITE0, profile(), {}, is_cpu=True)
    assert spec.size == (320, 416)
    assert spec.keep_aspect
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)


def test_tall_images_get_tall_input() -> None:
    assert input_spec(LITE0, profile((640, 480)), {}, is_cpu=True).size == (416, 320)


def test_images_of_many_shapes_get_square_input() -> None:
    mixed = profile(aspects=(0.6, 1.6))
    assert input_spec(LITE0, mixed, {}, is_cpu=True).size == (416, 416)


def test_accelerator_takes_larger_input() -> None:
    assert input_spec(LITE0, profile(), {}, is_cpu=False).size == (480, 640)


@pytest.mark.parametrize(("is_cpu", "largest"), [(True, 640), (False, 1024)])
def test_small_objects_enlarge_the_input_up_to_a_limit(is_cpu: bool, largest: int) -> None:
    sides = [
        input_spec(LITE0, profile((1000, 1000), side), {}, is_cpu).width
        for side in (0.2, 0.055, 0.045, 0.035, 0.02, 0.001)
    ]
    assert sides == sorted(sides)
    assert sides[0] < sides[3]
    assert sides[-1] == largest


def test_image_size_is_the_longer_side() -> None:
    assert input_spec(LITE0, profile(), {"image_size": 640}, is_cpu=True).size == (480, 640)
    assert input_spec(LITE0, profile(), {"image_size": 250}, is_cpu=True).size == (192, 256)


@pytest.mark.parametrize("name", AZURE_DETECTORS)
def test_published_names_have_published_sizes(name: str) -> None:
    # 480 x 640 scaled by 600 / 480.
    assert input_spec(resolve(name), profile(), {}, is_cpu=True).size == (608, 800)


def test_min_and_max_size_bound_both_sides() -> None:
    wide = profile((200, 1000))
    assert input_spec(LITE0, wide, {"min_size": 300}, is_cpu=True).size == (288, 1344)
    assert input_spec(LITE0, wide, {"min_size": 300, "max_size": 640}, True).size == (128, 640)
    assert input_spec(LITE0, profile(), {"max_size": 320}, is_cpu=True).size == (256, 320)


def test_patches_decide_the_multiple() -> None:
    dinov2 = resolve("fcos_vit_small_patch14_dinov2_fpn")
    height, width = input_spec(dinov2, profile(), {}, is_cpu=True).size
    assert height % 28 == width % 28 == 0
    assert stride_unit(dinov2) == 0.875
    assert stride_unit(resolve("fcos_swinv2_base_window12_192_fpn")) == 1
    assert stride_unit(LITE0) == 1


def test_extreme_shapes_stay_inside_the_limits_of_a_manifest() -> None:
    for size in [(1, 10_000), (10_000, 1), (1, 1)]:
        height, width = input_spec(LITE0, profile(size, 0.0001), {}, is_cpu=False).size
        assert 64 <= height <= 1024
        assert 64 <= width <= 1024


def test_scale_into_the_canvas() -> None:
    assert fit_scale(profile(), (320, 416)) == pytest.approx(0.65)
