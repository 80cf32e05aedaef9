"""One training view: geometry, tone, normalisation and erasing of one image."""

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.augment.affine import sample_matrix
from autofocus.data.batches.augment.erase import erase
from autofocus.data.batches.augment.presets import Augmentation
from autofocus.data.batches.augment.tone import grey_mean, sample_tone, tone_table
from autofocus.data.batches.normalize import normalize
from autofocus.data.batches.warp import warp
from autofocus.manifest import ResizeCrop


def draw_view(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    params: Augmentation,
    spec: ResizeCrop,
    out: NDArray[np.float32],
) -> None:
    """Draw a random view of an image and write it into `out`.

    Args:
        image: RGB [h, w, 3].
        rng: Source of all chance; nothing else decides what is drawn.
        params: Ranges to draw from.
        spec: Size of the view and the normalisation.
        out: float32 [crop_size, crop_size, 3], contiguous.
    """
    height, width, _ = image.shape
    matrix = sample_matrix(rng, height, width, spec.crop_size, params)
    pixels = warp(image, matrix, spec.size)
    brightness, contrast = sample_tone(rng, params)
    normalize(pixels, spec, out, tone_table(brightness, contrast, grey_mean(pixels)))
    erase(out, rng, params)
