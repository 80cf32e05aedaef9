"""Photos that are one photo again: resized, saved anew, slightly cropped, brightened, of one burst.

Each image is kept as a thumbnail of 1.2 KB. Pairs whose coarse brightness is alike are laid on each
other by shift, scale and brightness (Lucas and Kanade, "An Iterative Image Registration Technique",
1981) and are one photo where nothing stands out between them: photos of one place with different
things in it differ somewhere, copies nowhere.

Notation for array shapes:
    - n: number of images
    - s: side of a thumbnail, 32
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SIDE, COLOUR_SIDE, COARSE_SIDE = 32, 8, 8
NUM_BYTES = SIDE**2 + 2 * COLOUR_SIDE**2

# Correlation of the coarse brightness: copies cropped by 3 % have 0.93 and more.
MIN_COARSE = 0.9
# Images with less contrast, in grey levels, are empty to us: nothing tells them apart.
MIN_CONTRAST = 2.0
# Difference after alignment, in the image's own contrast: root mean square, and anywhere. Of 686
# real photos and pictures of cells, copies have up to 0.08 and 0.5, others from 0.28 and 0.85 on.
MAX_DIFFERENCE, MAX_ANYWHERE = 0.12, 0.55
# The same of coarse colour, which is not aligned, in the contrast of brightness and colour.
MAX_COLOUR = 0.65
# Bounds of the alignment: a crop, not another view; an exposure, not another thing.
MAX_SHIFT, MAX_GAIN = 2.0, 1.6
NUM_STEPS = 6
# Pairs to lay on each other, the most alike first: half a minute in which all images look alike.
MAX_PAIRS = 50_000
_ROWS, _COLUMNS = 512, 4096

_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
_U, _V = (2 * _X + 1) / SIDE - 1, (2 * _Y + 1) / SIDE - 1
# What a crop cuts off has no counterpart.
_INSIDE = np.zeros((SIDE, SIDE), bool)
_INSIDE[2:-2, 2:-2] = True


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what an image is recognised by, whatever its size.

    Args:
        pixels: RGB, [height, width, 3].

    Returns:
        Brightness [s, s], then coarse colour [2, 8, 8], flat: `NUM_BYTES`.
    """
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    luma, *colour = cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb))
    size = (COLOUR_SIDE, COLOUR_SIDE)
    parts = [luma, *(cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in colour)]
    return np.concatenate([np.asarray(part, np.uint8).ravel() for part in parts])


def near_duplicates(thumbnails: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield pairs of images that show one photo, the most alike first.

    Takes time and memory for n images and `MAX_PAIRS` pairs, never for all pairs at once.

    Args:
        thumbnails: Of `thumbnail`, uint8 [n, 1152].
    """
    lumas = thumbnails[:, : SIDE**2].reshape(-1, SIDE, SIDE)
    colours = thumbnails[:, SIDE**2 :].astype(np.float32) - 128
    for i, j in _alike(_coarse(lumas)):
        if _is_one_photo(lumas[i], lumas[j], colours[i], colours[j]):
            yield i, j


def _coarse(lumas: NDArray[np.uint8]) -> Floats:
    """Return brightness patterns of unit length, [n, 64]; zeros where there is no contrast."""
    patterns = np.zeros((len(lumas), COARSE_SIDE**2), np.float32)
    for row, luma in zip(patterns, lumas, strict=True):
        size = (COARSE_SIDE, COARSE_SIDE)
        row[:] = cv2.resize(_smooth(luma), size, interpolation=cv2.INTER_AREA).ravel()
    patterns -= patterns.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(patterns, axis=1, keepdims=True)
    patterns[lengths[:, 0] < MIN_CONTRAST * COARSE_SIDE] = 0
    patterns /= np.maximum(lengths, 1)
    return patterns


def _alike(patterns: Floats) -> list[tuple[int, int]]:
    """Return the pairs with the highest correlations, at least `MIN_COARSE`, highest first."""
    if len(patterns) < 2:
        return []
    # Along any axis, patterns are no further apart than they are: those far off are not compared.
    longest = np.linalg.eigh(np.cov(patterns.T))[1][:, -1].astype(np.float32)
    order = np.argsort(patterns @ longest, kind="stable")
    patterns = patterns[order]
    places = patterns @ longest
    found, least = np.zeros((0, 3)), MIN_COARSE
    for top in range(0, len(patterns), _ROWS):
        rows = patterns[top : top + _ROWS]
        reach = places[top + len(rows) - 1] + (2 - 2 * least) ** 0.5
        end = int(np.searchsorted(places, reach, side="right"))
        for left in range(top, end, _COLUMNS):
            similar = rows @ patterns[left : min(end, left + _COLUMNS)].T
            i, j = np.nonzero(similar >= least)
            is_new = i + top < j + left
            i, j = i[is_new], j[is_new]
            pairs = np.stack([similar[i, j], order[i + top], order[j + left]], axis=1)
            found = np.concatenate([found, pairs])
            if len(found) > 2 * MAX_PAIRS:
                found = _best(found)
                least = float(found[-1, 0])
    return [(int(min(pair)), int(max(pair))) for pair in _best(found)[:, 1:]]


def _best(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `MAX_PAIRS` rows [similarity, i, j] of the highest similarity, highest first."""
    return pairs[np.lexsort((pairs[:, 2], pairs[:, 1], -pairs[:, 0]))][:MAX_PAIRS]


def _is_one_photo(
    first: NDArray[np.uint8], second: NDArray[np.uint8], colour: Floats, other_colour: Floats
) -> bool:
    """Return whether two images differ nowhere, once the second is laid on the first."""
    target, image = _smooth(first), _smooth(second)
    contrast = float(target[_INSIDE].std())
    # Horizontal scale and shift, vertical scale and shift, in pixels.
    moved = np.zeros(4, np.float32)
    for _ in range(NUM_STEPS):
        change, gain, rest = _fit(target, image, moved)
        if not 1 / MAX_GAIN < gain < MAX_GAIN:
            return False
        difference = float(np.sqrt((rest**2).mean())) / contrast
        if difference < MAX_DIFFERENCE and np.abs(rest).max() < MAX_ANYWHERE * contrast:
            stands_out = float(np.abs(colour - gain * other_colour).max())
            return stands_out < MAX_COLOUR * (contrast + float(colour.std()))
        moved += change / gain
        if np.abs(moved).max() > MAX_SHIFT:
            return False
    return False


def _fit(target: Floats, image: Floats, moved: Floats) -> tuple[Floats, float, Floats]:
    """Fit a moved image to a target; return the next move times the gain, the gain, the rest."""
    x, y = _X + moved[0] * _U + moved[1], _Y + moved[2] * _V + moved[3]
    image = np.asarray(
        cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
    right = np.asarray(cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=1 / 8))
    down = np.asarray(cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=1 / 8))
    ones = np.ones_like(image)
    columns = np.stack([right * _U, right, down * _V, down, image, ones], axis=-1)[_INSIDE]
    solution = np.linalg.lstsq(columns, target[_INSIDE], rcond=None)[0]
    gain, offset = float(solution[4]), float(solution[5])
    rest: Floats = target[_INSIDE] - gain * image[_INSIDE] - offset
    return solution[:4], gain, rest


def _smooth(luma: NDArray[np.uint8]) -> Floats:
    """Return brightness in which half a pixel can be told."""
    return np.asarray(cv2.GaussianBlur(luma.astype(np.float32), (0, 0), 1.0), np.float32)
