"""Things that carry no label: some like nothing on the list, some made to be mistaken for it."""

import cv2
import numpy as np

from autofocus.demo.drawing import (
    Point,
    Sprite,
    as_bytes,
    ellipse_points,
    fill,
    random_colour,
)
from autofocus.demo.faces import draw_block
from autofocus.demo.lathe import Skin, random_view, turn
from autofocus.demo.objects import Draw
from autofocus.demo.prints import draw_print

_MARGIN = 3


def draw_apple(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a round fruit with a dent, a stalk and some leaves."""
    size = height + 2 * _MARGIN
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radii = 0.42 * height * (1 - rng.uniform(0, 0.25) * np.exp(-((angles - 1.5 * np.pi) ** 2) * 6))
    xs, ys = size / 2 + radii * np.cos(angles), size * 0.55 + radii * np.sin(angles)
    coverage = np.zeros((size, size), dtype=np.uint8)
    fill(coverage, list(zip(xs.tolist(), ys.tolist(), strict=True)), (255,))

    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    lit = np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.5))
    colour = random_colour(rng, (0.6, 1), (0.5, 1))
    rgb = as_bytes(
        colour * (1.15 - 1.1 * lit)[..., None] + 120 * np.exp(-((lit / 0.08) ** 2))[..., None]
    )
    stalk = [(0.49, 0.22), (0.47 + rng.uniform(-0.06, 0.06), 0.04), (0.53, 0.03), (0.53, 0.22)]
    corners = [(a * size, b * size) for a, b in stalk]
    fill(rgb, corners, (80, 55, 30))
    fill(coverage, corners, (255,))
    return Sprite(rgb, coverage, coverage)


def draw_banana(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a crescent."""
    bend, thick = rng.uniform(0.25, 0.45), rng.uniform(0.1, 0.16)
    along = np.linspace(-1, 1, 24)
    spine_x, spine_y = bend * (1 - along**2), 0.5 + 0.47 * along
    width = thick * np.sqrt(np.clip(1 - along**4, 0.05, 1))
    left = list(zip(spine_x - width, spine_y, strict=True))
    right = list(zip(spine_x + width, spine_y, strict=True))
    shape = (height + 2 * _MARGIN, int((bend + 2 * thick) * height) + 2 * _MARGIN)
    points = [
        (float(x + thick) * height + _MARGIN, float(y) * height + _MARGIN)
        for x, y in left + right[::-1]
    ]
    coverage = np.zeros(shape, dtype=np.uint8)
    fill(coverage, points, (255,))
    depth = cv2.distanceTransform((coverage > 127).astype(np.uint8), cv2.DIST_L2, 3)
    shade = 0.6 + 0.45 * np.clip(depth / (thick * height), 0, 1)
    colour = np.array([rng.uniform(170, 245), rng.uniform(160, 220), rng.uniform(20, 90)])
    rgb = as_bytes((shade[..., None] * colour).astype(np.float32))
    return Sprite(rgb, coverage, coverage)


def draw_box(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a printed box, wider than a carton."""
    return draw_block(rng, height, draw_print(rng), rng.uniform(0.55, 1.1))


def draw_jar(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a stout jar with a lid; empty ones are see-through."""
    radius = rng.uniform(0.32, 0.45)
    lid = random_colour(rng)
    skin = Skin.plain(random_colour(rng), rng.uniform(0.5, 1.0))
    skin.cover(rng.uniform(0.35, 0.45), rng.uniform(0.75, 0.9), draw_print(rng))
    skin.cover(0, 0.16, as_bytes(lid).reshape(1, 1, 3))
    profile: list[tuple[float, float]] = [(0, 0.85 * radius), (0.16, 0.85 * radius)]
    profile += [(0.18, 0.78 * radius), (0.28, radius), (0.95, radius), (1, 0.9 * radius)]
    return turn(profile, skin, random_view(rng, height, (0.2, 0.7)), lid)


def draw_mug(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a mug with a handle on one side."""
    radius = rng.uniform(0.36, 0.48)
    glaze = random_colour(rng)
    skin = Skin.plain(glaze)
    if rng.random() < 0.5:
        skin.cover(rng.uniform(0.1, 0.3), rng.uniform(0.6, 0.9), draw_print(rng))
    foot = radius * rng.uniform(0.75, 1)
    body = turn([(0, radius), (1, foot)], skin, random_view(rng, height, (0.1, 0.5)), glaze * 0.6)

    grip = round(0.3 * height)
    widths = ((0, 0), (grip, grip), (0, 0))
    rgb = np.pad(body.rgb, widths, mode="edge")
    handle = np.pad(np.zeros_like(body.coverage), widths[:2])
    centre: Point = (rgb.shape[1] - grip - 0.05 * height, rgb.shape[0] * 0.5)
    fill(handle, ellipse_points(centre, (0.26 * height, 0.3 * height)), (255,))
    fill(handle, ellipse_points(centre, (0.16 * height, 0.2 * height)), (0,))
    coverage = np.pad(body.coverage, widths[:2])
    rgb[(handle > 0) & (coverage == 0)] = as_bytes(glaze * 0.8)
    coverage = np.maximum(coverage, handle)
    sprite = Sprite(rgb, coverage, coverage)
    return sprite.mirrored() if rng.random() < 0.5 else sprite


def draw_plate(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a plate or bowl seen at a slant: rings of an ellipse."""
    width = height * rng.uniform(1.2, 2.6)
    shape = (height + 2 * _MARGIN, int(width) + 2 * _MARGIN)
    china, rim = random_colour(rng, (0, 0.5), (0.6, 1)), random_colour(rng)
    rgb = np.zeros((*shape, 3), dtype=np.uint8)
    rgb[:] = as_bytes(china)
    coverage = np.zeros(shape, dtype=np.uint8)
    centre: Point = (shape[1] / 2, shape[0] / 2)
    fill(coverage, ellipse_points(centre, (width / 2, height / 2)), (255,))
    for size, colour in ((0.97, china), (0.9, rim), (0.84, china), (0.62, china * 0.85)):
        fill(rgb, ellipse_points(centre, (size * width / 2, size * height / 2)), colour.tolist())
    return Sprite(rgb, coverage, coverage)


DISTRACTORS: tuple[Draw, ...] = (
    draw_apple,
    draw_banana,
    draw_box,
    draw_jar,
    draw_mug,
    draw_plate,
)
