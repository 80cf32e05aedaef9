"""Quality of explanations of classes on photos. Imports torch."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.data.rows.records import ObjectsRecord
from autofocus.data.sources.read import Data
from autofocus.errors import DataError, ImageError, InputError
from autofocus.explain.algorithms import explain, names_of
from autofocus.explain.class_measures import measure
from autofocus.explain.parameters import Parameters
from autofocus.runtime import Track, num_cores
from autofocus.scoring.explain.classes import ClassExplainer
from autofocus.scoring.explain.measuring import Measuring, class_masks, sample_photos
from autofocus.scoring.scorer import Scorer, sample_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Case:
    """One class of one photo.

    Attributes:
        pixels: The network's input, float32 [3, h, w].
        target: Index of the class.
        truth: Pixels of its objects, bool [h, w]; None where the data does not say.
    """

    pixels: NDArray[np.float32]
    target: int
    truth: NDArray[np.bool_] | None


def measure_classes(
    folder: Path, data: Data[Any], measuring: Measuring, track: Track
) -> dict[str, Any]:
    """See `quality.measure_explanations`."""
    scorer = Scorer.load(folder, num_threads=num_cores())
    explainer = ClassExplainer.load(folder)
    num_images = 0
    cases: list[_Case] = []
    for record, image in sample_photos(data, measuring):
        try:
            cases += _cases(scorer, explainer, record, image)
        except ImageError as error:
            log.warning("%s; left out", error)
        else:
            num_images += 1
    if not cases:
        raise DataError(f"{data.name}: no image that can be read has a class to explain.")
    images = torch.from_numpy(np.stack([case.pixels for case in cases]))
    targets = [case.target for case in cases]
    truths = [case.truth for case in cases if case.truth is not None]
    usable, refused = _usable_algorithms(explainer, images, targets, measuring.parameters)
    rows = measure(
        explainer.network,
        images,
        targets,
        explainer.task.activation,
        usable,
        truths=truths or None,
        seed=measuring.seed,
        track=track,
    )
    return {
        "num_images": num_images,
        "num_explanations": len(cases),
        "algorithms": {name: asdict(quality) for name, quality in rows.items()},
        "refused": refused,
    }


def _cases(scorer: Scorer, explainer: ClassExplainer, record: Any, image: bytes) -> list[_Case]:
    """Return the cases of one photo.

    Raises:
        ImageError: If it does not decode.
    """
    pixels = scorer.try_decode(image)
    if isinstance(pixels, ImageError):
        raise pixels
    spec = explainer.manifest.preprocess
    tensor, frame = sample_of(pixels, spec)
    if isinstance(record, ObjectsRecord):
        masks = class_masks(record, scorer.labels, frame, spec.size)
        return [_Case(tensor, index, truth) for index, truth in masks.items()]
    prediction = scorer.predict(pixels)
    targets = explainer.selector.select(scorer.labels, prediction, Parameters())
    return [_Case(tensor, target.class_index, None) for target in targets]


def _usable_algorithms(
    explainer: ClassExplainer,
    images: torch.Tensor,
    targets: Sequence[int],
    parameters: Parameters,
) -> tuple[dict[str, Parameters], dict[str, str]]:
    """Return the algorithms that explain this network, and the reasons why others cannot."""
    usable, refused = {}, {}
    for name in names_of("classes"):
        fewest = Parameters(xai_algorithm=name, n_steps=2)
        try:
            explain(explainer.network, images[:1], targets[:1], fewest)
        except InputError as error:
            refused[name] = str(error)
        else:
            usable[name] = replace(parameters, xai_algorithm=name)
    return usable, refused
