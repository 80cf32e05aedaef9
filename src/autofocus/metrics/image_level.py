"""The detector as a classifier of images: is there anything to find, and was some of it found?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.metrics.matching import Matches
from autofocus.metrics.voc import average_precision


def image_level_metrics(matches: Matches, kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Return average precision, precision and recall over images.

    An image with objects is found when at least one detection on it is right, at the highest
    score of such a one. An image whose detections are all wrong is a false alarm at the highest
    score among them, whether or not it holds objects.

    Args:
        matches: Of the data set, d detections.
        kept: bool [d], detections that count for `precision` and `recall`; the average precision
            is over all.

    Returns:
        Values are None where there is no image with objects, or (precision) no detection.
    """
    num_images = int(matches.has_objects.sum())
    scores, is_found = _score_images(matches, np.ones_like(kept))
    _, is_found_kept = _score_images(matches, kept)
    hits, num = int(is_found_kept.sum()), len(is_found_kept)
    return {
        "average_precision": average_precision(scores, is_found, num_images),
        "precision": hits / num if num else None,
        "recall": hits / num_images if num_images else None,
    }


def _score_images(
    matches: Matches, rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return score and verdict of every image with a detection that counts."""
    counted = np.flatnonzero(rows & ~matches.is_crowd)
    image, is_hit = matches.image[counted], matches.is_hit[counted]
    scores = matches.scores[counted]
    # Within an image: right ones first, then by score.
    order = np.lexsort((-scores, ~is_hit, image))
    _, first = np.unique(image[order], return_index=True)
    return scores[order][first], is_hit[order][first]
