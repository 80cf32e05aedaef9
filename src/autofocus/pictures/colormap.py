"""Viridis: equal steps of value look equal, in colour, in grey and to the colour-blind."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Every eighth entry of matplotlib's table (van der Walt and Smith, CC0); between them straight
# lines stay within two levels of it.
_ANCHORS: Final = (
    "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d 2f6b8e 2c728e"
    " 297a8e 26828e 23898e 21918c 1f978b 1f9f88 21a685 27ad81 31b57b 3dbc74 4cc26c 5cc863 6ece58"
    " 81d34d 95d840 aadc32 c0df25 d5e21a eae51a fde725"
)


def _table() -> NDArray[np.uint8]:
    colours = np.array([list(bytes.fromhex(anchor)) for anchor in _ANCHORS.split()])  # [a, 3]
    at = np.linspace(0, 255, len(colours)).round()
    channels = [np.interp(np.arange(256), at, channel) for channel in colours.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


VIRIDIS: Final = _table()


def colored(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return RGB [..., 3] of values in [0, 1]."""
    return np.asarray(VIRIDIS[(np.clip(values, 0, 1) * 255).round().astype(np.uint8)])
