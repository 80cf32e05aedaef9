"""Multi-label classification: an image carries any number of classes, none included.

The network emits one logit a class; an independent sigmoid turns each into a probability.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from autofocus.data.rows.records import MultilabelRecord
from autofocus.metrics.classification import multilabel_metrics
from autofocus.metrics.thresholds import Decisions
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import ClassScores
from autofocus.tasks.base import Settings, Targets
from autofocus.tasks.classification import TINY, ClassificationTask


class MultilabelClassification(ClassificationTask[MultilabelRecord]):
    """Any number of classes an image."""

    name = "image_classification_multilabel"
    record_type = MultilabelRecord
    activation = "sigmoid"
    label_smoothing = 0.1
    azure_learning_rates: ClassVar[dict[str, float]] = {
        "*": 0.035,
        "vits16r224": 0.025,
        "vitb16r224": 0.025,
        "vitl16r224": 0.002,
    }
    primary_metrics = (
        "iou",
        "accuracy",
        "AUC_weighted",
        "norm_macro_recall",
        "average_precision_score_weighted",
        "precision_score_weighted",
    )

    def record_labels(self, record: MultilabelRecord) -> Sequence[str]:
        """Return the record's classes."""
        return record.label

    def encode_targets(
        self, records: Sequence[MultilabelRecord], labels: Sequence[str]
    ) -> NDArray[np.int64]:
        """Return multi-hot rows, int64 [n, k]."""
        index = {label: i for i, label in enumerate(labels)}
        targets = np.zeros((len(records), len(labels)), dtype=np.int64)
        for row, record in enumerate(records):
            for label in record.label:
                targets[row, index[label]] = 1
        return targets

    def postprocess(
        self,
        outputs: Mapping[str, NDArray[np.float32]],
        frames: Sequence[Frame],
        settings: Settings,
    ) -> list[ClassScores]:
        """Sigmoid of `logits`, float32 [n, k]."""
        # tanh form: no overflow for logits far from zero.
        probs = 0.5 * (1 + np.tanh(0.5 * outputs["logits"]))
        return [ClassScores(row) for row in probs.astype(np.float32, copy=False)]

    def evaluate(
        self,
        predictions: Sequence[ClassScores],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> dict[str, Any]:
        """Return the published multi-label metrics (`reference/azure.md` §3.1) and ECE."""
        return multilabel_metrics(
            np.asarray(targets), np.stack([p.probs for p in predictions]), labels
        )

    def sample_losses(
        self, predictions: Sequence[ClassScores], targets: Targets
    ) -> NDArray[np.float64]:
        """Return each image's log loss, summed over classes, [n]."""
        probs = np.stack([p.probs for p in predictions]).astype(np.float64)
        chosen = np.where(np.asarray(targets) > 0, probs, 1 - probs)
        losses: NDArray[np.float64] = -np.log(chosen + TINY).sum(axis=1)
        return losses

    def default_threshold(self, settings: Settings) -> float:
        """Return the published 0.5."""
        return 0.5

    def decisions(
        self,
        predictions: Sequence[ClassScores],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> Decisions:
        """Return every class of every image."""
        probs, truth = np.stack([p.probs for p in predictions]), np.asarray(targets) > 0
        images, classes = np.indices(probs.shape).reshape(2, -1)
        true_images, true_classes = np.nonzero(truth)
        scores, is_right = probs.reshape(-1), truth.reshape(-1)
        return Decisions(classes, scores, is_right, images, true_classes, true_images)

    def explained_classes(self, prediction: ClassScores, threshold: float) -> list[int]:
        """Return every class whose probability is at least `threshold`; there may be none."""
        # Compared in single precision, as probabilities are reported: 0.3 counts as 0.3.
        chosen = np.flatnonzero(prediction.probs >= np.float32(threshold))
        return [int(index) for index in chosen]

    def explanation_column(self, values: Sequence[Any]) -> Any:
        """Return a list, empty where no class is explained."""
        return list(values)
