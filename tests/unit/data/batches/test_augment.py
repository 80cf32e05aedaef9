import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from autofocus.data.batches import warp as warp_module
from autofocus.data.batches.augment.presets import PRESETS, Augmentation
from autofocus.data.batches.augment.tone import grey_mean, sample_tone, tone_table
from autofocus.data.batches.augment.view import draw_view, erase, sample_matrix
from autofocus.data.batches.order import view_rng
from autofocus.data.batches.preprocess import normalize, preprocess, resize_crop
from autofocus.data.batches.warp import transform_points, warp
from autofocus.errors import JobError
from autofocus.manifest import ResizeCrop

SPEC = ResizeCrop(resize_size=256, crop_size=224)
WHOLE = Augmentation(area_range=(1, 1), aspect_range=(1, 1), flip_prob=0)
DRAWN = [params for params in PRESETS.values() if params is not None]


def rng(index: int = 0) -> np.random.Generator:
    return view_rng(0, 0, index)


def scene(height: int, width: int) -> NDArray[np.uint8]:
    """Return a smooth image with a hard edge."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (width // 2, height // 2), min(height, width) // 4, (255, 20, 20), -1)
    return np.asarray(image, np.uint8)


def dots(height: int, width: int, points: NDArray[np.float64], radius: int) -> NDArray[np.uint8]:
    """Return discs centred on points, one level each, antialiased, on black."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y in points:
        # OpenCV draws around the middle of a pixel, at 1/16 of one.
        center = (round((x - 0.5) * 16), round((y - 0.5) * 16))
        cv2.circle(image, center, radius * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return image


def centroid_near(
    image: NDArray[np.uint8], x: float, y: float, reach: float
) -> tuple[float, float]:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    near = np.hypot(columns - x, rows - y) < reach
    weight = np.where(near, image[:, :, 0].astype(float), 0)
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()


@pytest.mark.parametrize("size", [(480, 640), (1500, 1100), (90, 120)])
@pytest.mark.parametrize("params", DRAWN)
def test_drawn_points_land_where_transform_points_says(
    size: tuple[int, int], params: Augmentation
) -> None:
    height, width = size
    spacing = min(size) / 6
    grid = np.mgrid[
        spacing : height - spacing / 2 : spacing, spacing : width - spacing / 2 : spacing
    ]
    points = grid[::-1].reshape(2, -1).T
    image = dots(height, width, points, radius=max(2, round(spacing / 6)))
    num_checked = 0
    for index in range(12):
        matrix = sample_matrix(rng(index), height, width, 224, params)
        view = warp(image, matrix, (224, 224))
        reach = 0.45 * spacing / max(warp_module.steps(matrix))
        for x, y in transform_points(matrix, points):
            # Discs cut by the border, or their reflections, have their middle elsewhere.
            if reach < min(x, y) and max(x, y) < 224 - reach:
                found = centroid_near(view, x, y, reach)
                assert math.dist(found, (x, y)) < 0.5
                num_checked += 1
    assert num_checked > 50


def test_a_box_keeps_its_pixels() -> None:
    """The mask of a rectangle, warped, is the polygon of its warped corners."""
    image = np.zeros((480, 640, 3), np.uint8)
    image[100:300, 200:450] = 255
    corners = np.array([(200, 100), (450, 100), (450, 300), (200, 300)])
    for index in range(20):
        matrix = sample_matrix(rng(index), 480, 640, 224, PRESETS["medium"] or WHOLE)
        warped = warp(image, matrix, (224, 224))[:, :, 0] > 127
        polygon = np.zeros((224 * 8, 224 * 8), np.uint8)
        outline = np.round(transform_points(matrix, corners) * 8 - 0.5).astype(np.int32)
        cv2.fillPoly(polygon, [outline], 1)
        expected = polygon.reshape(224, 8, 224, 8).mean(axis=(1, 3)) > 0.5
        # The reflection of the box at the image's edge is no part of the polygon.
        inside = cv2.dilate(expected.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        overlap = (warped & expected).sum() / ((warped & inside) | expected).sum()
        assert overlap > 0.97


@pytest.mark.parametrize(
    "size", [(480, 640), (224, 224), (300, 250), (448, 448), (1080, 1920), (60, 80)]
)
def test_the_whole_square_is_what_preprocess_sees(size: tuple[int, int]) -> None:
    image, side = scene(*size), min(size)
    expected = resize_crop(image, ResizeCrop(resize_size=224, crop_size=224))
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    square = image[top : top + side, left : left + side]
    view = warp(square, sample_matrix(rng(), side, side, 224, WHOLE), (224, 224))
    assert np.abs(view.astype(float) - expected).mean() < 0.5


def test_a_matrix_of_whole_pixels_copies_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    matrix = np.array([[1.0, 0, -30], [0, 1.0, -20]])
    np.testing.assert_array_equal(warp(image, matrix, (64, 64)), image[20:84, 30:94])
    mirrored = np.array([[-1.0, 0, 94], [0, 1.0, -20]])
    np.testing.assert_array_equal(warp(image, mirrored, (64, 64)), image[20:84, 30:94][:, ::-1])


def test_outside_the_image_is_its_reflection() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    matrix = np.array([[1.0, 0, 12], [0, 1.0, 12]])
    expected = np.pad(image, ((12, 12), (12, 12), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(warp(image, matrix, (64, 64)), expected)


@pytest.mark.parametrize("params", DRAWN)
def test_views_follow_pillow(params: Augmentation) -> None:
    """Pillow samples any box down with the antialiased filter that published weights saw."""
    image = scene(900, 1200)
    upright = Augmentation(area_range=params.area_range, flip_prob=0)
    for index in range(6):
        matrix = sample_matrix(rng(index), 900, 1200, 224, upright)
        left, top = -matrix[:, 2] / matrix.diagonal()
        right, bottom = left + 224 / matrix[0, 0], top + 224 / matrix[1, 1]
        expected = Image.fromarray(image).resize(
            (224, 224), Image.Resampling.BILINEAR, (left, top, right, bottom)
        )
        found = warp(image, matrix, (224, 224)).astype(float)
        assert np.abs(found - np.asarray(expected)).mean() < 1


@pytest.mark.parametrize("step", [1.3, 1.5, 1.7, 1.9, 2.0, 2.6, 3.3, 5.1, 9.7])
@pytest.mark.parametrize("stretch", [1.0, 1.3])
def test_a_fine_checkerboard_becomes_grey_not_a_coarse_pattern(step: float, stretch: float) -> None:
    side = math.ceil(64 * step * stretch) + 8
    board = np.indices((side, side)).sum(axis=0) % 2 * 255
    image = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    for turn in (0.0, 0.1):
        cos, sin = math.cos(turn), math.sin(turn)
        linear = np.array([[cos, -sin], [sin * stretch, cos * stretch]]) / (step * stretch)
        center = np.full(2, side / 2 + 0.3)
        matrix = np.c_[linear, 32 - linear @ center]
        pattern = warp(image, matrix, (64, 64)).astype(float).std() / 127.5
        plain = cv2.warpAffine(image, matrix, (64, 64)).astype(float).std() / 127.5
        assert pattern < 0.15
        assert pattern <= plain / 2


@pytest.mark.parametrize("params", [*DRAWN, Augmentation(aspect_range=(0.2, 5.0))])
@pytest.mark.parametrize("size", [(480, 640), (2000, 3000), (3000, 200), (40, 5000)])
def test_what_is_left_to_the_warp_can_be_smoothed(
    size: tuple[int, int], params: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    draw = cv2.warpAffine

    def watch(image, matrix, *args, **kwargs):
        steps.append(sorted(warp_module.steps(matrix)))
        return draw(image, matrix, *args, **kwargs)

    monkeypatch.setattr(warp_module.cv2, "warpAffine", watch)
    image = np.zeros((*size, 3), np.uint8)
    for index in range(20):
        warp(image, sample_matrix(rng(index), *size, 64, params), (64, 64))
    assert len(steps) == 20
    least, greatest = np.transpose(steps)
    assert least.max() < 2
    assert greatest.max() < warp_module._MAX_SMOOTHED_STEP


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (3, 7000)])
@pytest.mark.parametrize("params", DRAWN)
def test_any_size_gives_a_view(size: tuple[int, int], params: Augmentation) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    for index in range(5):
        view = warp(image, sample_matrix(rng(index), *size, 32, params), (32, 32))
        np.testing.assert_array_equal(view, np.full((32, 32, 3), 77))


def test_what_the_view_does_not_reach_is_not_looked_at() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), dtype=np.uint8)
    scale = 64 / 500
    matrix = np.array([[scale, 0, -600 * scale], [0, scale, -700 * scale]])
    painted = image.copy()
    painted[:650] = painted[1250:] = painted[:, :550] = painted[:, 1150:] = 0
    np.testing.assert_array_equal(warp(painted, matrix, (64, 64)), warp(image, matrix, (64, 64)))


@pytest.mark.parametrize("step", [0.4, 1.0, 1.2, 1.7])
def test_cutting_out_what_is_needed_changes_nothing(
    step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    cos, sin = math.cos(0.2) / step, math.sin(0.2) / step
    matrix = np.array([[cos, -sin, 20 - 150 * cos], [sin, cos, 10 - 150 * cos]])
    cut = warp(image, matrix, (64, 64))
    monkeypatch.setattr(warp_module, "_needed_part", lambda image, matrix, size: (image, matrix))
    # Positions are rounded elsewhere; a level is all that may come of it.
    assert np.abs(cut - warp(image, matrix, (64, 64)).astype(int)).max() <= 1


@pytest.mark.parametrize("step", [1.0, 1.1, 1.4, 1.8, 2.0, 2.4, 3.0])
def test_smoothing_has_the_spread_of_the_antialiased_filter(step: float) -> None:
    taps = warp_module._taps(step).astype(float)
    assert taps.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(taps, taps[::-1])
    spread = (taps * np.arange(-2, 3) ** 2).sum() + 1 / 6  # bilinear sampling's own: 1/6
    assert spread == pytest.approx(step**2 / 6, abs=1e-6)
    finest = (taps * np.array([1, -1, 1, -1, 1])).sum()
    assert finest == pytest.approx(max(0, 2 - step) ** 3, abs=1e-6)


@pytest.mark.parametrize("params", DRAWN)
def test_crops_keep_their_ranges(params: Augmentation) -> None:
    areas, aspects, flips = [], [], 0
    for index in range(400):
        matrix = sample_matrix(rng(index), 480, 640, 224, params)
        inverse = np.linalg.inv(matrix[:, :2])
        width, height = np.linalg.norm(inverse, axis=0) * 224
        areas.append(width * height / (480 * 640))
        aspects.append(width / height)
        flips += np.linalg.det(inverse) < 0
        center = transform_points(np.c_[inverse, -inverse @ matrix[:, 2]], np.array([112.0, 112]))
        assert width / 2 - 1e-6 <= center[0] <= 640 - width / 2 + 1e-6
        assert height / 2 - 1e-6 <= center[1] <= 480 - height / 2 + 1e-6
    assert params.area_range[0] - 1e-9 <= min(areas) < params.area_range[0] + 0.05
    assert max(areas) <= 1 + 1e-9
    assert 3 / 4 - 1e-9 <= min(aspects) < 0.8
    assert 1.25 < max(aspects) <= 4 / 3 + 1e-9
    assert 150 < flips < 250


@pytest.mark.parametrize("size", [(100, 1000), (1000, 100)])
def test_where_no_crop_fits_the_largest_one_that_can_is_taken(size: tuple[int, int]) -> None:
    params = Augmentation(area_range=(0.9, 1.0), flip_prob=0)
    matrix = sample_matrix(rng(), *size, 224, params)
    corners = np.linalg.inv(matrix[:, :2]) @ (np.array([[0, 224], [0, 224]]) - matrix[:, 2:])
    long = corners[0] if size[1] == 1000 else corners[1]
    short = corners[1] if size[1] == 1000 else corners[0]
    np.testing.assert_allclose(short, [0, 100], atol=1e-9)
    assert long[1] - long[0] == pytest.approx(400 / 3)
    assert 0 <= long[0] < long[1] <= 1000


@pytest.mark.parametrize("brightness", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("contrast", [0.6, 1.0, 1.4])
def test_the_tone_table_is_the_formula(brightness: float, contrast: float) -> None:
    pixels = scene(50, 60)
    mean = grey_mean(pixels)
    assert mean == pytest.approx((pixels @ np.array([0.299, 0.587, 0.114])).mean(), abs=1e-3)
    brighter = pixels * brightness
    expected = (brighter - mean * brightness) * contrast + mean * brightness
    found = tone_table(brightness, contrast, mean)[pixels]
    assert np.abs(found - expected.clip(0, 255)).max() <= 0.5


def test_tone_stays_within_its_ranges() -> None:
    params = Augmentation(brightness=0.3, contrast=0.2)
    drawn = np.array([sample_tone(rng(index), params) for index in range(300)])
    assert np.abs(drawn - 1).max(axis=0) == pytest.approx([0.3, 0.2], abs=0.02)
    assert sample_tone(rng(), Augmentation()) == (1, 1)


def test_erasing_sets_one_rectangle_to_the_mean() -> None:
    params = Augmentation(erase_prob=0.25, erase_area_range=(0.05, 0.2))
    shares = []
    for index in range(200):
        view = np.ones((100, 100, 3), np.float32)
        erase(view, rng(index), params)
        gone = np.argwhere(view[:, :, 0] == 0)
        if len(gone):
            height, width = gone.max(axis=0) - gone.min(axis=0) + 1
            assert len(gone) == height * width
            shares.append(len(gone) / 10_000)
    assert 30 < len(shares) < 70
    assert 0.04 < min(shares) < 0.07
    assert 0.17 < max(shares) < 0.21


def test_normalising_is_the_one_of_preprocess() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    out = np.empty((224, 224, 3), np.float32)
    spec = ResizeCrop(resize_size=224, crop_size=224, mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 2.0))
    normalize(pixels, spec, out)
    np.testing.assert_array_equal(out.transpose(2, 0, 1), preprocess(pixels, spec))
    negative = np.arange(256, dtype=np.uint8)[::-1]
    normalize(pixels, spec, out, negative)
    np.testing.assert_array_equal(out.transpose(2, 0, 1), preprocess(255 - pixels, spec))


def test_a_view_is_its_steps_in_order() -> None:
    image, params = scene(480, 640), PRESETS["strong"]
    assert params is not None
    out = np.empty((224, 224, 3), np.float32)
    draw_view(image, rng(3), params, SPEC, out)
    chance = rng(3)
    pixels = warp(image, sample_matrix(chance, 480, 640, 224, params), (224, 224))
    toned = tone_table(*sample_tone(chance, params), grey_mean(pixels))[pixels]
    expected = (
        preprocess(toned, ResizeCrop(resize_size=224, crop_size=224)).transpose(1, 2, 0).copy()
    )
    erase(expected, chance, params)
    np.testing.assert_array_equal(out, expected)


def test_impossible_ranges_are_named_together() -> None:
    with pytest.raises(JobError) as caught:
        Augmentation(area_range=(0.5, 1.5), flip_prob=2, rotation_deg=-1)
    text = str(caught.value)
    assert "augmentation.area_range" in text
    assert "(0.5, 1.5)" in text
    assert "augmentation.flip_prob must be in [0, 1], got 2." in text
    assert "augmentation.rotation_deg" in text
    assert len(caught.value.problems) == 3
