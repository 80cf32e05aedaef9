"""Things in a scene: objects of four classes, distractors without a label, the prints on them.

Each is drawn anew: proportions, colours, print, view and light vary. Some distractors are made to
be mistaken for objects. Prints are the same for every class, so that only shape tells them apart.
Lengths are fractions of the thing's height.
"""

from collections.abc import Callable

import cv2
import numpy as np

from autofocus.demo.drawing import (
    MARGIN,
    Plane,
    Point,
    Rgb,
    Sprite,
    as_bytes,
    as_floats,
    ellipse_points,
    fill,
    mix,
    random_colour,
    smooth_noise,
)
from autofocus.demo.solids import Skin, draw_block, draw_gable_top, random_view, turn

Draw = Callable[[np.random.Generator, int], Sprite]


def draw_can(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a drinks can, `height` pixels tall: straight sides, tapered metal ends."""
    radius = rng.uniform(0.2, 0.31)
    neck = rng.uniform(0.72, 0.86) * radius
    metal = np.full(3, rng.uniform(150, 215), dtype=np.float32)
    skin = Skin.plain(metal)
    skin.cover(rng.uniform(0.05, 0.1), rng.uniform(0.92, 0.96), draw_print(rng))
    foot = rng.uniform(0.78, 0.9) * radius
    profile = [(0, neck), (0.03, neck), (0.11, radius), (0.93, radius), (1, foot)]
    return turn(profile, skin, random_view(rng, height, (0.3, 1.0)), metal)


def draw_carton(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a carton, `height` pixels tall: flat sides, most with a gable, some a flat brick."""
    draw = draw_gable_top if rng.random() < 0.85 else draw_block
    return draw(rng, height, draw_print(rng), rng.uniform(0.3, 0.46))


def draw_milk_bottle(rng: np.random.Generator, height: int) -> Sprite:
    """Draw an opaque bottle, `height` pixels tall: wide cap, round shoulder, often a waist."""
    body = rng.uniform(0.17, 0.22)
    neck = rng.uniform(0.55, 0.68) * body
    waist = rng.uniform(0.82, 1.0) * body
    skin = Skin.plain(_opaque_plastic(rng))
    skin.cover(rng.uniform(0.36, 0.45), rng.uniform(0.72, 0.95), draw_print(rng))
    cap = random_colour(rng)
    skin.cover(0, 0.12, _flat(cap))
    profile = [(0, neck), (0.12, neck), (0.125, 0.9 * neck), (0.17, 0.95 * neck)]
    profile += [(0.25, 0.8 * body), (0.33, body), (0.55, waist), (0.75, body)]
    profile += [(0.96, body), (1, 0.88 * body)]
    return turn(profile, skin, random_view(rng, height, (0.1, 0.5)), cap)


def draw_water_bottle(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a see-through bottle, `height` pixels tall: thin neck, long shoulder, ribs."""
    body = rng.uniform(0.13, 0.18)
    neck = rng.uniform(0.36, 0.5) * body
    skin = Skin.plain(random_colour(rng, (0, 0.5), (0.6, 1.0)), rng.uniform(0.2, 0.55))
    label_top = rng.uniform(0.38, 0.5)
    skin.cover(label_top, label_top + rng.uniform(0.16, 0.32), draw_print(rng))
    cap = random_colour(rng)
    skin.cover(0, 0.07, _flat(cap))
    profile = [(0, neck), (0.07, neck), (0.075, 0.85 * neck), (0.14, 0.9 * neck)]
    profile += [(0.24, 0.62 * body), (0.34, body), (label_top + 0.3, body)]
    profile += _ribs(label_top + 0.33, body)
    return turn(profile, skin, random_view(rng, height, (0.3, 0.8)), cap)


def _ribs(first: float, radius: float) -> list[tuple[float, float]]:
    grooves = np.linspace(first, 0.94, 9)
    ribs = [(float(y), radius * (0.95 if i % 2 else 1.0)) for i, y in enumerate(grooves)]
    return [*ribs, (1.0, 0.85 * radius)]


def _opaque_plastic(rng: np.random.Generator) -> Plane:
    if rng.random() < 0.75:
        return random_colour(rng, saturation=(0, 0.1), value=(0.85, 1.0))
    return random_colour(rng)


def _flat(colour: Plane) -> Rgb:
    return as_bytes(colour).reshape(1, 1, 3)


OBJECTS: dict[str, Draw] = {
    "can": draw_can,
    "carton": draw_carton,
    "milk_bottle": draw_milk_bottle,
    "water_bottle": draw_water_bottle,
}
LABELS: tuple[str, ...] = tuple(OBJECTS)


def draw_apple(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a round fruit with a dent, a stalk and some leaves."""
    size = height + 2 * MARGIN
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
    shape = (height + 2 * MARGIN, int((bend + 2 * thick) * height) + 2 * MARGIN)
    points = [
        (float(x + thick) * height + MARGIN, float(y) * height + MARGIN)
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
    shape = (height + 2 * MARGIN, int(width) + 2 * MARGIN)
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


PRINT_HEIGHT, PRINT_WIDTH = 128, 128
_WORDS = ("fresh", "Nova", "PURE", "zest", "Hill", "OAT", "brew", "Lumo", "PEAK", "mint", "sol")
_FONTS = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)


def draw_print(rng: np.random.Generator) -> Rgb:
    """Return a printed picture, uint8 [PRINT_HEIGHT, PRINT_WIDTH, 3]."""
    paper, ink, accent = (random_colour(rng) for _ in range(3))
    if rng.random() < 0.35:
        paper = random_colour(rng, saturation=(0, 0.12), value=(0.8, 1.0))
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    picture = as_bytes(mix(paper, ink, pattern(rng)))
    if rng.random() < 0.8:
        _stamp_logo(rng, picture, accent, paper)
    if rng.random() < 0.7:
        _write_small_lines(rng, picture, accent)
    return picture


def _stamp_logo(rng: np.random.Generator, picture: Rgb, plate: Plane, ink: Plane) -> None:
    centre = (int(rng.integers(48, 80)), int(rng.integers(28, 72)))
    radii = (int(rng.integers(24, 48)), int(rng.integers(14, 26)))
    cv2.ellipse(picture, centre, radii, rng.uniform(-20, 20), 0, 360, plate.tolist(), -1)
    word = _WORDS[rng.integers(len(_WORDS))]
    font, scale = _FONTS[rng.integers(len(_FONTS))], rng.uniform(0.7, 1.1)
    (width, height), _ = cv2.getTextSize(word, font, scale, 2)
    corner = (centre[0] - width // 2, centre[1] + height // 2)
    cv2.putText(picture, word, corner, font, scale, ink.tolist(), 2, cv2.LINE_AA)


def _write_small_lines(rng: np.random.Generator, picture: Rgb, ink: Plane) -> None:
    top, left = int(rng.integers(76, 96)), int(rng.integers(8, 60))
    for row in range(top, min(top + 4 * int(rng.integers(3, 8)), PRINT_HEIGHT - 4), 4):
        right = left + int(rng.integers(20, 60))
        cv2.line(picture, (left, row), (min(right, PRINT_WIDTH - 4), row), ink.tolist(), 1)


def _axes(rng: np.random.Generator, upright: float) -> Plane:
    """Return distance along a direction in prints, float32 [PRINT_HEIGHT, PRINT_WIDTH]."""
    angle = np.deg2rad(upright + rng.uniform(-25, 25))
    x, y = np.meshgrid(np.arange(PRINT_WIDTH), np.arange(PRINT_HEIGHT))
    return as_floats((x * np.sin(angle) + y * np.cos(angle)) / PRINT_HEIGHT)


def _stripes(rng: np.random.Generator) -> Plane:
    phase = _axes(rng, rng.choice([0.0, 90.0])) * rng.uniform(2, 7) + rng.random()
    return as_floats(phase % 1 < rng.uniform(0.2, 0.6))


def _halves(rng: np.random.Generator) -> Plane:
    along = _axes(rng, rng.choice([0.0, 0.0, 90.0]))
    return as_floats(along > rng.uniform(0.3, 0.8))


def _fade(rng: np.random.Generator) -> Plane:
    return np.clip(_axes(rng, rng.choice([0.0, 90.0])), 0, 1)


def _waves(rng: np.random.Generator) -> Plane:
    x, y = _axes(rng, 90), _axes(rng, 0)
    crest = rng.uniform(0.3, 0.7) + rng.uniform(0.05, 0.2) * np.sin(x * rng.uniform(4, 16))
    return as_floats(y > crest)


def _dots(rng: np.random.Generator) -> Plane:
    count = rng.uniform(4, 9)
    x, y = _axes(rng, 90) * count, _axes(rng, 0) * count
    return as_floats((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < rng.uniform(0.03, 0.12))


def _blots(rng: np.random.Generator) -> Plane:
    nodes = int(rng.integers(3, 9))
    return as_floats(smooth_noise(rng, PRINT_HEIGHT, PRINT_WIDTH, nodes, nodes) > 0.55)


_PATTERNS: tuple[Callable[[np.random.Generator], Plane], ...] = (
    _stripes,
    _halves,
    _fade,
    _waves,
    _dots,
    _blots,
)
