"""Measure on labelled or unlabelled photos what a model's explanations are worth. Imports torch."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofocus.data.locate import open_bytes
from autofocus.data.source import Data
from autofocus.errors import DataError, ImageError, InputError
from autofocus.explain.explainers import explain
from autofocus.explain.parameters import ALGORITHMS, Parameters
from autofocus.explain.quality import measure
from autofocus.runtime import Track, no_progress, num_cores
from autofocus.scoring.explain_request import choose_classes
from autofocus.scoring.explanations import Explainer
from autofocus.scoring.scorer import Scorer

log = logging.getLogger(__name__)


def measure_explanations(
    folder: Path,
    data: Data[Any],
    *,
    max_images: int,
    seed: int = 0,
    track: Track = no_progress,
) -> dict[str, Any]:
    """Return `{"num_images", "num_explanations", "algorithms": {name: {…}}, "refused": {…}}`.

    Explained is what the endpoint explains: the most probable class, or all that are probable.

    Args:
        folder: A model folder.
        data: Rows of the model's task; their labels are not used.
        max_images: As many are drawn from `data`.
        seed: Decides which, and whatever else is random.
        track: Shows progress.

    Raises:
        DataError: If no image can be read, or none has a class to explain.
    """
    scorer = Scorer.load(folder, num_threads=num_cores())
    explainer = Explainer.load(folder)
    inputs: list[NDArray[np.float32]] = []
    targets: list[int] = []
    num_images = 0
    for image in _drawn(data, max_images, seed):
        (prediction,) = scorer.try_predict([image])
        if isinstance(prediction, ImageError):
            log.warning("%s; left out", prediction)
            continue
        num_images += 1
        classes = choose_classes(explainer.task, scorer.labels, prediction, Parameters())
        inputs += [explainer.prepared(image)] * len(classes)
        targets += [chosen.index for chosen in classes]
    if not inputs:
        raise DataError(f"{data.name}: no image that can be read has a class to explain.")
    images = torch.from_numpy(np.stack(inputs))
    able, refused = _able(explainer, images, targets)
    rows = measure(
        explainer.network,
        images,
        targets,
        explainer.task.activation,
        able,
        seed=seed,
        track=track,
    )
    return {
        "num_images": num_images,
        "num_explanations": len(targets),
        "algorithms": {name: asdict(quality) for name, quality in rows.items()},
        "refused": refused,
    }


def _drawn(data: Data[Any], max_images: int, seed: int) -> Iterator[bytes]:
    """Yield the files of rows drawn without replacement, the same for the same seed."""
    order = np.random.default_rng(seed).permutation(len(data.locations))
    for index in order[:max_images]:
        try:
            yield open_bytes(data.locations[index])
        except InputError as error:
            log.warning("%s; left out", error)


def _able(
    explainer: Explainer, images: torch.Tensor, targets: Sequence[int]
) -> tuple[dict[str, Parameters], dict[str, str]]:
    """Return the algorithms that can explain this network, and why the others cannot."""
    able, refused = {}, {}
    for name in ALGORITHMS:
        fewest = Parameters(xai_algorithm=name, n_steps=2)
        try:
            explain(explainer.network, images[:1], targets[:1], fewest)
        except InputError as error:
            refused[name] = str(error)
        else:
            able[name] = Parameters(xai_algorithm=name)
    return able, refused
