"""The pictures printed on packages: the same for every kind, so that only shape tells them apart.

Palette, pattern, logo and words are drawn anew for every object.
"""

from collections.abc import Callable

import cv2
import numpy as np

from autofocus.demo.drawing import (
    Plane,
    Rgb,
    as_bytes,
    as_floats,
    mix,
    random_colour,
    smooth_noise,
)

HEIGHT, WIDTH = 128, 128
_WORDS = ("fresh", "Nova", "PURE", "zest", "Hill", "OAT", "brew", "Lumo", "PEAK", "mint", "sol")
_FONTS = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)


def draw_print(rng: np.random.Generator) -> Rgb:
    """Return a printed picture, uint8 [HEIGHT, WIDTH, 3]."""
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
    for row in range(top, min(top + 4 * int(rng.integers(3, 8)), HEIGHT - 4), 4):
        right = left + int(rng.integers(20, 60))
        cv2.line(picture, (left, row), (min(right, WIDTH - 4), row), ink.tolist(), 1)


def _axes(rng: np.random.Generator, upright: float) -> Plane:
    """Return distance along a direction, float32 [HEIGHT, WIDTH], one print across is 1."""
    angle = np.deg2rad(upright + rng.uniform(-25, 25))
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return as_floats((x * np.sin(angle) + y * np.cos(angle)) / HEIGHT)


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
    return as_floats(smooth_noise(rng, HEIGHT, WIDTH, nodes, nodes) > 0.55)


_PATTERNS: tuple[Callable[[np.random.Generator], Plane], ...] = (
    _stripes,
    _halves,
    _fade,
    _waves,
    _dots,
    _blots,
)
