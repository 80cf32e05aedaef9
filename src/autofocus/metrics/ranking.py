"""How well scores rank positives above negatives: area under ROC, and average precision.

Both are read off the sorted negatives at the positives' scores, so that the micro average over
images x classes (mostly negatives) costs one sort of numbers and no argsort.
"""

import numpy as np
from numpy.typing import NDArray


def auc_and_average_precision(
    is_positive: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[float, float] | None:
    """Return area under ROC and average precision, or None where either is undefined.

    Equal scores share one threshold, as in scikit-learn: AUC counts a tie of a positive and a
    negative as half, average precision is the step integral without interpolation.

    Args:
        is_positive: bool [n].
        scores: floats [n], finite, higher means more likely positive.

    Returns:
        None when there are only positives or only negatives.
    """
    positives, negatives = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    if positives.size == 0 or negatives.size == 0:
        return None
    num_below = np.searchsorted(negatives, positives, side="left")
    num_not_above = np.searchsorted(negatives, positives, side="right")
    auc = float(np.mean(num_below + num_not_above)) / (2 * negatives.size)

    true_positives = positives.size - np.searchsorted(positives, positives, side="left")
    false_positives = negatives.size - num_below
    # Each positive adds 1 / num_positives of recall at the precision of its own threshold.
    average_precision = float(np.mean(true_positives / (true_positives + false_positives)))
    return auc, average_precision
