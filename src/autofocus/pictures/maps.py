"""Attributions as PNG: a panel of four pictures, an overlay, or the heat map alone.

panel     photo, heat map, overlay, and the 30 % of pixels with the highest values; the class and
          its probability above them
overlay   the heat map over the photo in grey, one pixel a network pixel
heatmap   the heat map alone, the same size

Pictures keep the aspect of what the network saw, for boxes that of the image. Notation: h, w its
height and width in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.explain.base import Attribution
from autofocus.explain.parameters import Parameters
from autofocus.manifest import ResizeCrop
from autofocus.pictures.palette import VIRIDIS, colored
from autofocus.pictures.text import draw_text, shortened

Image = NDArray[np.uint8]  # RGB [h, w, 3]

TOP_FRAC: Final = 0.3

_CELL: Final = 560  # longer side of a picture of the panel
_GAP: Final = 24
_TITLE: Final = 92
_CAPTION: Final = 34
_LEGEND: Final = 44
_MIN_WIDTH: Final = 720
_INK: Final = (24, 24, 27)
_WHITE: Final = (255, 255, 255)
_SOFT_INK: Final = (82, 82, 91)
_SLATE: Final = (74, 85, 110)

_METHODS: Final = {
    "xrai": "XRAI",
    "integrated_gradients": "Integrated gradients",
    "guided_gradcam": "Guided Grad-CAM",
    "guided_backprop": "Guided backprop",
    "d_rise": "D-RISE",
}

# Single pixels far above all others would leave the rest one colour.
_CLIP_PERCENTILES: Final = (0.5, 99.5)


@dataclass(frozen=True)
class Caption:
    """What a panel says.

    Attributes:
        label: The explained class.
        probability: The network's probability of it, or the box's score, in [0, 1].
        method: The algorithm and its main choices, in words.
        xyxy_frac: The explained box, drawn on every picture; None for the whole image.
    """

    label: str
    probability: float
    method: str
    xyxy_frac: tuple[float, float, float, float] | None = None


def visualize(
    photo: Image, saliency: NDArray[np.floating], caption: Caption, style: str = "panel"
) -> bytes:
    """Return a PNG.

    Args:
        photo: What the network saw, RGB [h, w, 3]; see `shown_pixels`.
        saliency: One value a pixel, [h, w]; see `Attribution.saliency`.
        caption: Written on a panel only; its box is drawn on all.
        style: A key of `STYLES`.
    """
    assert photo.shape[:2] == saliency.shape, "photo and saliency must share one frame"
    image = STYLES[style](photo, saliency, caption)
    done, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done, "OpenCV writes PNG"
    return png.tobytes()


def method_text(attribution: Attribution, parameters: Parameters) -> str:
    """Return the algorithm, its main choices and what a reader must know, for a caption."""
    metadata = attribution.metadata
    parts = [_METHODS[attribution.algorithm]]
    if "fast" in metadata:
        parts.append("fast" if metadata["fast"] else "full")
    if "fast" in metadata or "completeness_error" in metadata:
        parts.append(f"{parameters.n_steps} steps")
    if "half_agreement" in metadata:
        parts.append(f"{metadata['num_masks']} masks")
        agreement = metadata["half_agreement"]
        parts.append(
            "no mask changes anything" if agreement is None else f"halves agree {agreement:.2f}"
        )
    if "completeness_error" in metadata:
        explained = metadata["value"] - metadata["baseline_value"]
        error = metadata["completeness_error"]
        parts.append(f"explains {explained + error:.2f} of {explained:.2f}")
    if metadata.get("guided_extension"):
        parts.append("rule extended to " + " and ".join(metadata["guided_extension"]))
    if metadata.get("constant_image") or not metadata.get("positive_evidence", True):
        parts.append("nothing in this image speaks for the class")
    return ", ".join(parts)


def shown_pixels(network_input: NDArray[np.float32], spec: ResizeCrop) -> Image:
    """Return network input [3, h, w] as the RGB picture [h, w, 3] that it was made from."""
    mean, std = np.array(spec.mean)[:, None, None], np.array(spec.std)[:, None, None]
    pixels = ((network_input * std + mean) * 255).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def relative(saliency: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return values scaled to [0, 1], outliers clipped; zeros where all are equal."""
    low, high = np.percentile(saliency, _CLIP_PERCENTILES)
    if low == high:
        low, high = saliency.min(), saliency.max()
    if low == high:
        return np.zeros(saliency.shape)
    scaled: NDArray[np.float64] = (saliency.astype(np.float64) - low) / (high - low)
    return scaled.clip(0, 1)


def top_pixels(saliency: NDArray[np.floating], frac: float = TOP_FRAC) -> NDArray[np.bool_]:
    """Return which pixels are among the highest values, bool [h, w].

    Pixels of one value stay together, so that a large region can make it more than `frac`; pixels
    of the lowest value are never among them.
    """
    threshold = np.quantile(saliency, 1 - frac)
    chosen: NDArray[np.bool_] = (saliency >= threshold) & (saliency > saliency.min())
    return chosen


def heat_map(saliency: NDArray[np.floating]) -> Image:
    """Return the heat map, RGB [h, w, 3]."""
    return colored(relative(saliency))


def overlay(photo: Image, saliency: NDArray[np.floating]) -> Image:
    """Return the heat map over the photo in grey: colours are the map's alone."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None].astype(np.float32)
    # High values cover more of the photo than low ones.
    alpha = (0.35 + 0.25 * relative(saliency))[:, :, None]
    mixed = (1 - alpha) * grey + alpha * heat_map(saliency)
    return np.asarray(mixed.round(), np.uint8)


def top_pixels_shown(photo: Image, saliency: NDArray[np.floating]) -> Image:
    """Return the photo with everything but the top pixels faded to slate.

    Neither white nor black: bottles are white, shadows are black, and both must stand out.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None]
    faded = (np.array(_SLATE) + grey * 0.18).round().astype(np.uint8)
    return np.where(top_pixels(saliency)[:, :, None], photo, faded)


def with_box(picture: Image, caption: Caption) -> Image:
    """Return the picture with the caption's box, if it has one: white within black."""
    if caption.xyxy_frac is None:
        return picture
    height, width = picture.shape[:2]
    corners = np.array(caption.xyxy_frac) * (width, height, width, height)
    left, top, right, bottom = corners.round().astype(int).tolist()
    drawn = picture.copy()
    for colour, thickness in ((_INK, 3), (_WHITE, 1)):
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, thickness)
    return drawn


def _panel(photo: Image, saliency: NDArray[np.floating], caption: Caption) -> Image:
    pictures = {
        name: with_box(picture, caption)
        for name, picture in {
            "Photo": photo,
            "Heat map": heat_map(saliency),
            "Overlay": overlay(photo, saliency),
            f"Highest {TOP_FRAC * 100:.0f} %": top_pixels_shown(photo, saliency),
        }.items()
    }
    height, width = photo.shape[:2]
    enlarge = _CELL / max(height, width)
    cell_height, cell_width = (max(1, round(side * enlarge)) for side in (height, width))
    panel_width = max(_MIN_WIDTH, 2 * cell_width + 3 * _GAP)
    panel_height = _TITLE + 2 * (cell_height + _CAPTION) + _GAP + _LEGEND
    canvas = np.full((panel_height, panel_width, 3), 255, np.uint8)
    for i, (name, picture) in enumerate(pictures.items()):
        centre = panel_width * (1 + 2 * (i % 2)) // 4 + (_GAP // 4) * (1 - 2 * (i % 2))
        left = centre - cell_width // 2
        top = _TITLE + (i // 2) * (cell_height + _CAPTION)
        canvas[top : top + cell_height, left : left + cell_width] = cv2.resize(
            picture, (cell_width, cell_height), interpolation=cv2.INTER_LINEAR
        )
        canvas = draw_text(canvas, name, (left, top + cell_height + 6), 18, _SOFT_INK)
    canvas = _titled(canvas, caption)
    return _with_legend(canvas)


def _titled(canvas: Image, caption: Caption) -> Image:
    probability = f"{100 * caption.probability:.1f} %"
    room = canvas.shape[1] - 2 * _GAP
    label = shortened(caption.label, f", {probability}", 32, room)
    canvas = draw_text(canvas, f"{label}, {probability}", (_GAP, 14), 32, _INK)
    return draw_text(canvas, shortened(caption.method, "", 18, room), (_GAP, 56), 18, _SOFT_INK)


def _with_legend(canvas: Image) -> Image:
    """Draw the scale of colours into the lower left corner."""
    top = canvas.shape[0] - _LEGEND + 6
    canvas = draw_text(canvas, "low", (_GAP, top), 18, _SOFT_INK)
    canvas[top + 4 : top + 18, _GAP + 42 : _GAP + 42 + 256] = VIRIDIS[None]
    return draw_text(canvas, "high", (_GAP + 42 + 256 + 10, top), 18, _SOFT_INK)


STYLES: Final[dict[str, Callable[[Image, NDArray[np.floating], Caption], Image]]] = {
    "panel": _panel,
    "overlay": lambda photo, saliency, caption: with_box(overlay(photo, saliency), caption),
    "heatmap": lambda photo, saliency, caption: with_box(heat_map(saliency), caption),
}
