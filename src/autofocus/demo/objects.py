"""The four classes. Each is drawn anew: proportions, colours, print, view and light vary.

Lengths are fractions of the object's height.
"""

from collections.abc import Callable

import numpy as np

from autofocus.demo.drawing import Plane, Rgb, Sprite, as_bytes, random_colour
from autofocus.demo.faces import draw_block, draw_gable_top
from autofocus.demo.lathe import Skin, random_view, turn
from autofocus.demo.prints import draw_print

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
