"""Colours of pictures: classes, told apart by the colour-blind, values, and text.

Viridis: equal steps of value look equal, in colour, in grey and to the colour-blind.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]  # RGB

WHITE: Final[Colour] = (255, 255, 255)
INK: Final[Colour] = (17, 17, 17)
# Colours of a panel: title and frames of boxes, captions, background of the highest values.
ZINC: Final[Colour] = (24, 24, 27)
SOFT_INK: Final[Colour] = (82, 82, 91)
SLATE: Final[Colour] = (74, 85, 110)

# Okabe and Ito's set, without its black, the most different ones first.
_HUES: Final[tuple[Colour, ...]] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
# Mixtures of the seven hues once they are used up: with nothing, white, black.
_SHADES: Final[tuple[tuple[Colour, float], ...]] = ((WHITE, 0.0), (WHITE, 0.5), (INK, 0.4))

# Every eighth entry of matplotlib's viridis (van der Walt and Smith, CC0); between them straight
# lines stay within two levels of it.
_ANCHORS: Final = (
    "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d 2f6b8e 2c728e"
    " 297a8e 26828e 23898e 21918c 1f978b 1f9f88 21a685 27ad81 31b57b 3dbc74 4cc26c 5cc863 6ece58"
    " 81d34d 95d840 aadc32 c0df25 d5e21a eae51a fde725"
)


def class_colours(labels: Sequence[str]) -> dict[str, Colour]:
    """Return a colour for each label, by its position; from the 22nd on they repeat."""
    return {label: _class_colour(i) for i, label in enumerate(labels)}


def ink_on(paper: Colour) -> Colour:
    """Return black or white, whichever is easier to read on a colour."""
    red, green, blue = ((level / 255) ** 2.2 for level in paper)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    # The contrast of WCAG: (lighter + 0.05) / (darker + 0.05).
    return INK if (luminance + 0.05) / 0.056 >= 1.05 / (luminance + 0.05) else WHITE


def value_colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return RGB [..., 3] of values in [0, 1]."""
    return np.asarray(VIRIDIS[(np.clip(values, 0, 1) * 255).round().astype(np.uint8)])


def _class_colour(index: int) -> Colour:
    round_, hue = divmod(index, len(_HUES))
    return _mixed(_HUES[hue], *_SHADES[round_ % len(_SHADES)])


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """Return a colour with `share` of another in it."""
    red, green, blue = (
        round(one * (1 - share) + two * share) for one, two in zip(colour, other, strict=True)
    )
    return red, green, blue


def _viridis() -> NDArray[np.uint8]:
    """Return the table, RGB [256, 3]."""
    colours = np.array([list(bytes.fromhex(anchor)) for anchor in _ANCHORS.split()])  # [a, 3]
    at = np.linspace(0, 255, len(colours)).round()
    channels = [np.interp(np.arange(256), at, channel) for channel in colours.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


VIRIDIS: Final = _viridis()
