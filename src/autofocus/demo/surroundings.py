"""Surroundings of the things: the background behind them, and the camera that takes the photograph.

Backgrounds are float32 [height, width, 3] in [0, 255].
"""

from collections.abc import Callable

import cv2
import numpy as np

from autofocus.demo.drawing import Plane, Rgb, as_bytes, as_floats, mix, random_colour, smooth_noise

Background = Callable[[np.random.Generator, int, int], Plane]


def paint_background(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Return a new background of a random kind."""
    return BACKGROUNDS[rng.integers(len(BACKGROUNDS))](rng, height, width)


def paint_fridge(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Paint the inside of a fridge: ribbed wall, glass shelves with a lit edge."""
    wall = random_colour(rng, (0, 0.12), (0.6, 0.95))
    y, x = _grid(height, width)
    rib = 0.94 + 0.06 * np.sin(x * rng.uniform(20, 70))
    image: Plane = wall * (rib * rng.uniform(0.8, 1) * (1.05 - 0.3 * y))[..., None]
    edge = random_colour(rng, (0, 0.3), (0.5, 1))
    gap = rng.uniform(0.3, 0.55)
    for row in np.arange(rng.uniform(0.05, 0.4), 1, gap):
        top, thick = int(row * height), int(rng.integers(4, 10))
        image[top : top + thick] = edge * rng.uniform(0.8, 1.1)
        image[top + thick : top + thick + 12] *= rng.uniform(0.6, 0.8)
    return image


def paint_wood(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Paint planks with a grain."""
    light = np.array([rng.uniform(130, 225), rng.uniform(95, 165), rng.uniform(50, 110)])
    dark = light * rng.uniform(0.35, 0.7)
    y, _ = _grid(height, width)
    bend = smooth_noise(rng, height, width, 6, 3)
    grain = 0.5 + 0.5 * np.sin(y * rng.uniform(15, 45) + bend * rng.uniform(4, 14))
    fibre = smooth_noise(rng, height, width, height // 2, 6)
    amount = (0.65 * grain + 0.35 * fibre).astype(np.float32)
    image = mix(light.astype(np.float32), dark.astype(np.float32), amount)
    num_planks = rng.integers(2, 6)
    plank = (y * num_planks).astype(np.intp)
    image *= rng.uniform(0.8, 1.15, num_planks + 1).astype(np.float32)[plank][..., None]
    image[(y * num_planks) % 1 < 0.025] *= 0.45
    return np.ascontiguousarray(image)


def paint_tiles(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Paint tiles of one colour or two, with grout, turned a little."""
    one = random_colour(rng, (0, 0.6))
    two = random_colour(rng, (0, 0.6)) if rng.random() < 0.4 else one * rng.uniform(0.85, 1.1)
    y, x = _grid(height, width)
    count, angle = rng.uniform(3, 9), np.deg2rad(rng.uniform(-45, 45))
    along = (x * np.cos(angle) + y * np.sin(angle)) * count
    across = (y * np.cos(angle) - x * np.sin(angle)) * count * rng.uniform(0.6, 1.5)
    chequer = ((np.floor(along) + np.floor(across)) % 2).astype(np.float32)
    image = mix(one, two, chequer)
    image *= 0.85 + 0.3 * smooth_noise(rng, height, width, 30, 40)[..., None]
    joint = rng.uniform(0.03, 0.08)
    image[(along % 1 < joint) | (across % 1 < joint)] = random_colour(rng, (0, 0.15), (0.3, 0.95))
    return image


def paint_stone(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Paint granite, concrete or carpet: noise from coarse to fine."""
    amount = np.zeros((height, width), dtype=np.float32)
    for octave in range(5):
        nodes = 3 * 2**octave
        amount += smooth_noise(rng, height, width, nodes, nodes) * rng.uniform(0.1, 0.4)
    amount += rng.random((height, width), dtype=np.float32) * rng.uniform(0, 0.5)
    amount = (amount - amount.min()) / (amount.max() - amount.min())
    return mix(random_colour(rng, (0, 0.7)), random_colour(rng, (0, 0.7)), amount)


def paint_table(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Paint a wall that fades above a table top that fades."""
    wall, table = random_colour(rng, (0, 0.7)), random_colour(rng, (0, 0.7))
    y, x = _grid(height, width)
    image = wall * (0.7 + 0.5 * x * rng.uniform(-1, 1) + 0.3 * y)[..., None]
    horizon = rng.uniform(0.25, 0.75) + rng.uniform(-0.15, 0.15) * x
    below = y > horizon
    top = table * (1.1 - 0.5 * (y - horizon))[..., None]
    image = np.where(below[..., None], top, image)
    image *= 0.92 + 0.16 * smooth_noise(rng, height, width, height // 3, width // 3)[..., None]
    return np.ascontiguousarray(image, dtype=np.float32)


def paint_cloth(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Paint a woven cloth, chequered by two sets of stripes, with folds."""
    y, x = _grid(height, width)
    fold = smooth_noise(rng, height, width, 4, 4)
    count = rng.uniform(4, 14)
    down = as_floats((x + 0.06 * fold) * count % 1 < 0.5)
    over = as_floats((y + 0.06 * fold) * count % 1 < 0.5)
    weave = rng.uniform(0.85, 1.1) * (0.75 + 0.5 * fold)
    threads = as_floats((down + over) / 2)
    image = mix(random_colour(rng, (0, 0.7)), random_colour(rng, (0, 0.7)), threads)
    return as_floats(image * weave[..., None])


def paint_shelf_of_clutter(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Paint out-of-focus blocks of colour: things far behind."""
    image = np.empty((height, width, 3), dtype=np.float32)
    image[:] = random_colour(rng, (0, 0.4))
    for _ in range(int(rng.integers(10, 30))):
        left, top = int(rng.integers(-40, width)), int(rng.integers(-40, height))
        size = (int(rng.integers(15, 90)), int(rng.integers(20, 140)))
        corner = (left + size[0], top + size[1])
        cv2.rectangle(image, (left, top), corner, random_colour(rng, (0, 0.7)).tolist(), -1)
    return as_floats(cv2.GaussianBlur(image, (0, 0), rng.uniform(3, 7)))


def _grid(height: int, width: int) -> tuple[Plane, Plane]:
    """Return y and x, float32 [height, width] in [0, 1]."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return y / height, x / width


BACKGROUNDS: tuple[Background, ...] = (
    paint_fridge,
    paint_fridge,
    paint_wood,
    paint_tiles,
    paint_stone,
    paint_table,
    paint_cloth,
    paint_shelf_of_clutter,
)


def photograph(rng: np.random.Generator, scene: Plane) -> Rgb:
    """Return a photograph of the scene: uneven light, a colour cast, blur, grain.

    Args:
        rng: Source of light, blur and grain.
        scene: float32 [height, width, 3] in [0, 255].
    """
    height, width = scene.shape[:2]
    image = _blur(rng, scene)
    image *= _cast(rng)
    image *= _slope(rng, height, width)
    grain = rng.uniform(0, 7)
    image += grain * rng.standard_normal((height, width, 1), dtype=np.float32)
    return as_bytes(image)


def _cast(rng: np.random.Generator) -> Plane:
    """Return a factor for each channel, float32 [3]: exposure and colour of the light."""
    return (rng.uniform(0.65, 1.2) * rng.uniform(0.86, 1.12, size=3)).astype(np.float32)


def _slope(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Return factors, float32 [height, width, 1], of light that falls off in one direction."""
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.55)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(fall * np.cos(angle))
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(fall * np.sin(angle))
    slope: Plane = 1 + x[None, :, None] + y[:, None, None]
    return slope


def _blur(rng: np.random.Generator, image: Plane) -> Plane:
    """Return the image out of focus, shaken, or (one in five) sharp."""
    kind = rng.random()
    if kind < 0.65:
        return as_floats(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4)))
    if kind < 0.8:
        return as_floats(cv2.filter2D(image, -1, _shake(rng)))
    return image


def _shake(rng: np.random.Generator) -> Plane:
    """Return the blur kernel of a hand that moves in one direction."""
    length = int(rng.integers(3, 8))
    size = 2 * length + 1
    kernel = np.zeros((size, size), dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    dx, dy = np.cos(angle) * length / 2, np.sin(angle) * length / 2
    start, end = (round(length - dx), round(length - dy)), (round(length + dx), round(length + dy))
    cv2.line(kernel, start, end, 1.0)
    kernel /= kernel.sum()
    return kernel
