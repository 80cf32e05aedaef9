"""Saliency maps as PNG: a panel of four pictures, an overlay, or the heat map alone.

panel     the photo in its own pixels; on it the heat map, the overlay, and the 30 % of pixels with
          the highest values; class and probability above them. Parts of the photo that the network
          did not see, because they were cropped away, are bleached.
overlay   the heat map over what the network saw, in grey; one pixel a pixel of the map
heatmap   the heat map alone, the same size

Pictures keep the aspect of the photo, or of what the network saw of it. Notation: h, w height and
width of a map in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.pictures.palette import SLATE, SOFT_INK, VIRIDIS, WHITE, ZINC, value_colours
from autofocus.pictures.text import Pixels, draw_text, shortened

SaliencyMap = NDArray[np.floating]
Region = tuple[float, float, float, float]  # (left, top, right, bottom)

TOP_FRAC: Final = 0.3

# Longer side of each picture of a panel: two of them make the published 1200 pixels.
_CELL: Final = 560
_GAP: Final = 24
_TITLE: Final = 92
_CAPTION: Final = 34
_LEGEND: Final = 44
_MIN_WIDTH: Final = 720

# Share of the photo's grey that is left where the network did not see it; the rest is white.
_UNSEEN: Final = 0.25
# Single pixels far above all others would leave the rest one colour.
_CLIP_PERCENTILES: Final = (0.5, 99.5)


@dataclass(frozen=True)
class Caption:
    """Text of a panel, and the box on every picture.

    Attributes:
        label: The explained class.
        probability: The network's probability of it, or the box's score, in [0, 1].
        method: The algorithm and its main choices, in words.
        xyxy_frac: The explained box, in fractions of the photo; None for a class of the whole.
    """

    label: str
    probability: float
    method: str
    xyxy_frac: Region | None = None


@dataclass(frozen=True)
class MappedPhoto:
    """A photo and the part of it that maps cover.

    Attributes:
        photo: The photo at the size of a panel's picture, RGB.
        seen: The part, as the network saw it, RGB [h, w, 3].
        region: Position of the part in the photo, in fractions.
    """

    photo: Pixels
    seen: Pixels
    region: Region = (0.0, 0.0, 1.0, 1.0)


def mapped_photo(
    pixels: Pixels, seen: Pixels, region: Region = (0.0, 0.0, 1.0, 1.0)
) -> MappedPhoto:
    """Return the background for maps of one photo.

    Args:
        pixels: The decoded photo, RGB, of any size.
        seen: The part that maps cover, RGB [h, w, 3], one pixel a pixel of a map.
        region: Position of the part in the photo, in fractions.
    """
    height, width = pixels.shape[:2]
    scale = _CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    photo = np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)
    return MappedPhoto(photo, seen, region)


def visualize(
    mapped: MappedPhoto, saliency: SaliencyMap, caption: Caption, style: str = "panel"
) -> bytes:
    """Return a PNG.

    Args:
        mapped: The photo.
        saliency: One value a pixel of `mapped.seen`, [h, w].
        caption: Text of a panel; its box is drawn in every style.
        style: A key of `STYLES`.
    """
    assert mapped.seen.shape[:2] == saliency.shape, "photo and saliency must share one frame"
    image = STYLES[style](mapped, saliency, caption)
    done, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done, "OpenCV writes PNG"
    return png.tobytes()


def relative(saliency: SaliencyMap) -> NDArray[np.float64]:
    """Return values scaled to [0, 1], outliers clipped; zeros where all are equal."""
    low, high = np.percentile(saliency, _CLIP_PERCENTILES)
    if low == high:
        low, high = saliency.min(), saliency.max()
    if low == high:
        return np.zeros(saliency.shape)
    scaled: NDArray[np.float64] = (saliency.astype(np.float64) - low) / (high - low)
    return scaled.clip(0, 1)


def top_pixels(saliency: SaliencyMap, frac: float = TOP_FRAC) -> NDArray[np.bool_]:
    """Return the pixels of the highest values, bool [h, w].

    Pixels of one value stay together, so that a large region can make it more than `frac`; pixels
    of the lowest value are never among them.
    """
    threshold = np.quantile(saliency, 1 - frac)
    chosen: NDArray[np.bool_] = (saliency >= threshold) & (saliency > saliency.min())
    return chosen


def overlay(photo: Pixels, values: NDArray[np.float64]) -> Pixels:
    """Return the colours of values [h, w] in [0, 1] over the photo in grey.

    In grey, so that all colours are the map's.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None].astype(np.float32)
    # High values cover more of the photo than low ones.
    alpha = (0.35 + 0.25 * values)[:, :, None]
    mixed = (1 - alpha) * grey + alpha * value_colours(values)
    return np.asarray(mixed.round(), np.uint8)


def only_top(photo: Pixels, chosen: NDArray[np.bool_]) -> Pixels:
    """Return the photo with all pixels that are not chosen, bool [h, w], faded to slate.

    Neither white nor black: bottles are white, shadows are black, and both must stand out.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None]
    faded = (np.array(SLATE) + grey * 0.18).round().astype(np.uint8)
    return np.where(chosen[:, :, None], photo, faded)


def _with_box(picture: Pixels, caption: Caption, line: int = 1) -> Pixels:
    """Return the picture with the caption's box, if it has one: white within black."""
    if caption.xyxy_frac is None:
        return picture
    height, width = picture.shape[:2]
    corners = np.array(caption.xyxy_frac) * (width, height, width, height)
    left, top, right, bottom = corners.round().astype(int).tolist()
    drawn = picture.copy()
    for colour, thickness in ((ZINC, 3 * line), (WHITE, line)):
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, thickness)
    return drawn


def _panel_pictures(mapped: MappedPhoto, saliency: SaliencyMap) -> dict[str, Pixels]:
    """Return the four pictures of a panel by their names, each of the size of the photo."""
    height, width = mapped.photo.shape[:2]
    left, right = (round(side * width) for side in mapped.region[::2])
    top, bottom = (round(side * height) for side in mapped.region[1::2])
    size = (max(1, right - left), max(1, bottom - top))
    left, top = min(left, width - size[0]), min(top, height - size[1])
    within = np.s_[top : top + size[1], left : left + size[0]]

    def enlarged(values: NDArray[np.float64]) -> NDArray[np.float64]:
        resized = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float64).clip(0, 1)

    part = np.ascontiguousarray(mapped.photo[within])
    values = enlarged(relative(saliency))
    chosen = enlarged(top_pixels(saliency).astype(np.float64)) >= 0.5
    grey = cv2.cvtColor(mapped.photo, cv2.COLOR_RGB2GRAY)[:, :, None]
    bleached = np.repeat((_UNSEEN * grey + (1 - _UNSEEN) * 255).round().astype(np.uint8), 3, axis=2)
    pictures = {}
    for name, picture in {
        "Photo": part,
        "Heat map": value_colours(values),
        "Overlay": overlay(part, values),
        f"Highest {TOP_FRAC * 100:.0f} %": only_top(part, chosen),
    }.items():
        pictures[name] = bleached.copy()
        pictures[name][within] = picture
    return pictures


def _panel(mapped: MappedPhoto, saliency: SaliencyMap, caption: Caption) -> Pixels:
    cell_height, cell_width = mapped.photo.shape[:2]
    panel_width = max(_MIN_WIDTH, 2 * cell_width + 3 * _GAP)
    panel_height = _TITLE + 2 * (cell_height + _CAPTION) + _GAP + _LEGEND
    canvas = np.full((panel_height, panel_width, 3), 255, np.uint8)
    for i, (name, picture) in enumerate(_panel_pictures(mapped, saliency).items()):
        centre = panel_width * (1 + 2 * (i % 2)) // 4 + (_GAP // 4) * (1 - 2 * (i % 2))
        left = centre - cell_width // 2
        top = _TITLE + (i // 2) * (cell_height + _CAPTION)
        canvas[top : top + cell_height, left : left + cell_width] = _with_box(picture, caption, 2)
        canvas = draw_text(canvas, name, (left, top + cell_height + 6), 18, SOFT_INK)
    canvas = _with_title(canvas, caption)
    return _with_legend(canvas)


def _with_title(canvas: Pixels, caption: Caption) -> Pixels:
    probability = f"{100 * caption.probability:.1f} %"
    room = canvas.shape[1] - 2 * _GAP
    label = shortened(caption.label, f", {probability}", 32, room)
    canvas = draw_text(canvas, f"{label}, {probability}", (_GAP, 14), 32, ZINC)
    return draw_text(canvas, shortened(caption.method, "", 18, room), (_GAP, 56), 18, SOFT_INK)


def _with_legend(canvas: Pixels) -> Pixels:
    """Draw the scale of colours into the lower left corner."""
    top = canvas.shape[0] - _LEGEND + 6
    canvas = draw_text(canvas, "low", (_GAP, top), 18, SOFT_INK)
    canvas[top + 4 : top + 18, _GAP + 42 : _GAP + 42 + 256] = VIRIDIS[None]
    return draw_text(canvas, "high", (_GAP + 42 + 256 + 10, top), 18, SOFT_INK)


def _overlay(mapped: MappedPhoto, saliency: SaliencyMap, caption: Caption) -> Pixels:
    return _with_box(overlay(mapped.seen, relative(saliency)), caption)


def _heat_map(mapped: MappedPhoto, saliency: SaliencyMap, caption: Caption) -> Pixels:
    return _with_box(value_colours(relative(saliency)), caption)


STYLES: Final[dict[str, Callable[[MappedPhoto, SaliencyMap, Caption], Pixels]]] = {
    "panel": _panel,
    "overlay": _overlay,
    "heatmap": _heat_map,
}
