"""Which classes of an image are explained. Imports no torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import RequestError
from autofocus.explain.parameters import Activation, Parameters


def explained_classes(
    probs: NDArray[np.floating], labels: Sequence[str], kind: Activation, parameters: Parameters
) -> list[int]:
    """Return class indices: the named target, or those that the published contract takes.

    Args:
        probs: Probabilities of one image, [k].
        labels: Class names in the same order.
        kind: `softmax`: the most probable class. `sigmoid`: every class whose probability is at
            least the threshold; there may be none.
        parameters: Those of the image's row.

    Raises:
        RequestError: If the named target is not one of the labels.
    """
    if parameters.target is not None:
        if parameters.target not in labels:
            shown = ", ".join(labels[:10]) + (", …" if len(labels) > 10 else "")
            raise RequestError(
                f"xai_parameters.target must be one of the model's classes ({shown}),"
                f" got '{parameters.target[:40]}'."
            )
        return [list(labels).index(parameters.target)]
    if kind == "softmax":
        return [int(np.argmax(probs))]
    # Compared in single precision, as probabilities are reported.
    threshold = np.float32(parameters.confidence_score_threshold_multilabel)
    return [int(i) for i in np.flatnonzero(np.asarray(probs, np.float32) >= threshold)]
