"""The peer of the quality benchmark: the best frozen encoder with a logistic regression.

Features of each photo and of its mirror image, one head on both; its C and temperature come from
folds of the photos to learn from, and so does the choice of the encoder. Each embedded encoder is
judged, too: the best of them in hindsight is a harder peer than any that could have been chosen.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import ImageSet, names_of

from autofocus.data.batches.preprocess import preprocess
from autofocus.data.images.decode import decode
from autofocus.models import catalog
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights.load import load_weights
from autofocus.tasks import TASKS
from autofocus.training.probe import fit_probe

ENCODERS = tuple(f"tf_efficientnet_{size}.in1k" for size in ("lite0", "lite1", "lite2"))
BATCH_SIZE = 16


@dataclass(frozen=True)
class Judged:
    """An encoder's head.

    Attributes:
        inner_loss: Out-of-fold log loss on the photos that it learnt from.
        probs: Probabilities of the photos that judge, float64 [m, k].
    """

    inner_loss: float
    probs: np.ndarray


def judge(images: ImageSet, run: int, features: np.ndarray) -> Judged:
    """Fit a head on features [n, 2, d] of all photos of a set; score those that judge."""
    task, learners = TASKS[images.task], images.learners(run)
    probe = fit_probe(
        features[learners],
        targets_of(images)[learners],
        kind=task.activation,
        num_classes=len(images.labels),
        labels_of=[names_of(images.rows[i]) for i in learners],
        groups=[images.groups[i] for i in learners],
        seed=0,
    )
    logits = probe.head.logits(features[images.judges[run], 0])
    return Judged(min(probe.search.values()), probabilities(task.activation, logits))


def targets_of(images: ImageSet) -> np.ndarray:
    """Return the task's targets of all rows."""
    task = TASKS[images.task]
    records = [task.record_type(image_url="", label=row["label"]) for row in images.rows]
    return np.asarray(task.encode_targets(records, images.labels))


def probabilities(activation: str, logits: np.ndarray) -> np.ndarray:
    """Return softmax or sigmoid of logits [n, k]."""
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def frozen_features(encoder: str, locations: Sequence[str], folder: Path) -> np.ndarray:
    """Return float32 [n, 2, d]: photo and mirror image; kept in `folder`."""
    key = hashlib.sha256("\n".join((encoder, *locations)).encode()).hexdigest()[:16]
    path = folder / f"{encoder}-{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, _computed(encoder, locations))
    return np.load(path)


def _computed(encoder: str, locations: Sequence[str]) -> np.ndarray:
    spec = catalog.resolve(encoder)
    network = build_classifier(spec, 2, load_weights(spec))
    network = network.to(memory_format=torch.channels_last)

    def views(location: str) -> np.ndarray:
        image = preprocess(decode(Path(location).read_bytes()), spec.preprocess)
        return np.stack([image, image[:, :, ::-1]])

    rows = []
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        for i in range(0, len(locations), BATCH_SIZE):
            batch = np.concatenate(list(pool.map(views, locations[i : i + BATCH_SIZE])))
            rows.append(network.features(torch.from_numpy(batch)).numpy())
    flat = np.concatenate(rows)
    return flat.reshape(len(locations), 2, -1)
