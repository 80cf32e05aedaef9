"""What a camera adds: uneven light, a colour cast, exposure, blur, grain."""

import cv2
import numpy as np

from autofocus.demo.drawing import Plane, Rgb, as_bytes, as_floats


def photograph(rng: np.random.Generator, scene: Plane) -> Rgb:
    """Return the scene as a camera of no great merit would see it.

    Args:
        rng: Decides light, blur and grain.
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
    """Return a factor a channel, float32 [3]: exposure and the colour of the light."""
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
    """Return the kernel of a hand that moved in one direction."""
    length = int(rng.integers(3, 8))
    size = 2 * length + 1
    kernel = np.zeros((size, size), dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    dx, dy = np.cos(angle) * length / 2, np.sin(angle) * length / 2
    start, end = (round(length - dx), round(length - dy)), (round(length + dx), round(length + dy))
    cv2.line(kernel, start, end, 1.0)
    kernel /= kernel.sum()
    return kernel
