"""What each object was taken for: a table of true and predicted classes with a column "Missed"."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autofocus.metrics.matching import Matches

THRESHOLDS = tuple(i / 10 for i in range(10))
MISSED = "Missed"
# Ten tables of 300 x 301 are a million numbers: more than anybody can look at.
MAX_CLASSES = 300


def confusion_matrices(matches: Matches, labels: Sequence[str]) -> dict[str, Any]:
    """Return `confusion_matrix_score_threshold_0.0` to `_0.9` in the published JSON form.

    A row is a true class, a column what the detection with the highest score on the object says;
    an object without a detection of at least that score is "Missed". Crowds have no row.

    Returns:
        Tables of k rows and k + 1 columns; nothing above `MAX_CLASSES` classes.
    """
    k = len(labels)
    if k > MAX_CLASSES:
        return {}
    tables = {}
    for threshold in THRESHOLDS:
        is_found = matches.found_scores >= np.float32(threshold)
        columns = np.where(is_found, matches.found_classes, k)
        cells = matches.true_classes * (k + 1) + columns
        matrix = np.bincount(cells, minlength=k * (k + 1)).reshape(k, k + 1)
        tables[f"confusion_matrix_score_threshold_{threshold}"] = {
            "schema_type": "confusion_matrix",
            "schema_version": "1.0.0",
            "data": {"class_labels": [*labels, MISSED], "matrix": matrix.tolist()},
        }
    return tables
