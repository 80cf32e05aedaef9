"""What explanations of boxes are worth on photos: does the highest value lie in the box."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.source import Data
from autofocus.errors import DataError, ImageError
from autofocus.explain.saliency_maps import (
    Mask,
    SaliencyMap,
    centred_gaussian,
    pointing_game,
    random_map,
)
from autofocus.runtime import Track, num_cores
from autofocus.scoring.explain_boxes import ALGORITHM, BoxExplainer
from autofocus.scoring.explain_quality import Measuring, drawn
from autofocus.scoring.explanations import Explanation
from autofocus.scoring.scorer import Scorer

log = logging.getLogger(__name__)


def measure_boxes(
    folder: Path, data: Data[Any], measuring: Measuring, track: Track
) -> dict[str, Any]:
    """See `explain_quality.measure_explanations`.

    A row has `num_images` (maps), `pointing` and, of the algorithm, `half_agreement`, the mean.
    """
    scorer = Scorer.load(folder, num_threads=num_cores())
    explainer = BoxExplainer.load(folder)
    parameters = replace(measuring.parameters, xai_algorithm=ALGORITHM, visualizations=False)
    num_images = 0
    found: list[Explanation] = []
    total = min(measuring.max_images, len(data.records))
    for _, image in track(drawn(data, measuring), "explain", total):
        (prediction,) = scorer.try_predict([image])
        if isinstance(prediction, ImageError):
            log.warning("%s; left out", prediction)
            continue
        num_images += 1
        chosen = explainer.choice.choose(scorer.labels, prediction, parameters)
        found += explainer.explain(image, chosen, parameters)
    if not found:
        raise DataError(f"{data.name}: nothing is found in any image that can be read.")
    maps = [explanation.attribution.saliency() for explanation in found]
    truths = [inside(explanation) for explanation in found]
    ignorant: dict[str, Callable[[int, tuple[int, int]], SaliencyMap]] = {
        "random map": lambda i, size: random_map(*size, measuring.seed + i),
        "centred Gaussian": lambda i, size: centred_gaussian(*size),
    }
    rows = {ALGORITHM: _row(maps, truths, _mean_agreement(found))}
    for name, make in ignorant.items():
        rows[name] = _row([make(i, m.shape) for i, m in enumerate(truths)], truths, None)
    return {
        "num_images": num_images,
        "num_explanations": len(found),
        "algorithms": rows,
        "refused": {},
    }


def inside(explanation: Explanation) -> Mask:
    """Return which pixels of the map lie in the box, at least one, bool [h, w]."""
    assert explanation.xyxy_frac is not None, "a box was explained"
    height, width = explanation.map.shape[1:]
    left, top, right, bottom = np.array(explanation.xyxy_frac) * (width, height, width, height)
    first = int(min(top, height - 1)), int(min(left, width - 1))
    mask: NDArray[np.bool_] = np.zeros((height, width), np.bool_)
    mask[
        first[0] : max(first[0] + 1, round(bottom)), first[1] : max(first[1] + 1, round(right))
    ] = 1
    return mask


def _row(
    maps: Sequence[SaliencyMap], truths: Sequence[Mask], agreement: float | None
) -> dict[str, Any]:
    hits = [pointing_game(m, truth) for m, truth in zip(maps, truths, strict=True)]
    return {
        "num_images": len(maps),
        "pointing": float(np.mean(hits)),
        "half_agreement": agreement,
    }


def _mean_agreement(found: Sequence[Explanation]) -> float | None:
    known = [
        agreement
        for explanation in found
        if (agreement := explanation.attribution.metadata["half_agreement"]) is not None
    ]
    return float(np.mean(known)) if known else None
