"""Multi-class classification: an image carries exactly one class.

The network emits one logit a class; their softmax is the probability.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from autofocus.data.rows.records import MulticlassRecord
from autofocus.metrics.classification import multiclass_metrics
from autofocus.metrics.thresholds import Decisions
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import ClassScores
from autofocus.tasks.base import Settings, Targets
from autofocus.tasks.classification import TINY, ClassificationTask


class MulticlassClassification(ClassificationTask[MulticlassRecord]):
    """Exactly one class an image."""

    name = "image_classification"
    record_type = MulticlassRecord
    activation = "softmax"
    label_smoothing = 0.05
    azure_learning_rates: ClassVar[dict[str, float]] = {
        "*": 0.01,
        "vits16r224": 0.0125,
        "vitb16r224": 0.0125,
        "vitl16r224": 0.001,
    }
    primary_metrics = (
        "accuracy",
        "AUC_weighted",
        "norm_macro_recall",
        "average_precision_score_weighted",
        "precision_score_weighted",
    )

    def record_labels(self, record: MulticlassRecord) -> Sequence[str]:
        """Return the record's one class."""
        return (record.label,)

    def encode_targets(
        self, records: Sequence[MulticlassRecord], labels: Sequence[str]
    ) -> NDArray[np.int64]:
        """Return class indices, int64 [n]."""
        index = {label: i for i, label in enumerate(labels)}
        return np.array([index[record.label] for record in records], dtype=np.int64)

    def postprocess(
        self,
        outputs: Mapping[str, NDArray[np.float32]],
        frames: Sequence[Frame],
        settings: Settings,
    ) -> list[ClassScores]:
        """Softmax over `logits`, float32 [n, k]."""
        logits = outputs["logits"]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs = shifted / shifted.sum(axis=1, keepdims=True)
        return [ClassScores(row) for row in probs]

    def evaluate(
        self,
        predictions: Sequence[ClassScores],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> dict[str, Any]:
        """Return the published multi-class metrics (`reference/azure.md` §3.1) and ECE."""
        return multiclass_metrics(
            np.asarray(targets), np.stack([p.probs for p in predictions]), labels
        )

    def sample_losses(
        self, predictions: Sequence[ClassScores], targets: Targets
    ) -> NDArray[np.float64]:
        """Return the negative log probability of each image's class, [n]."""
        probs = np.stack([p.probs for p in predictions]).astype(np.float64)
        losses: NDArray[np.float64] = -np.log(probs[np.arange(len(targets)), targets] + TINY)
        return losses

    def decisions(
        self,
        predictions: Sequence[ClassScores],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> Decisions:
        """Return each image's most probable class: below its threshold the answer is unsure."""
        probs = np.stack([p.probs for p in predictions])
        classes, true, images = probs.argmax(axis=1), np.asarray(targets), np.arange(len(probs))
        scores = probs.max(axis=1)
        return Decisions(classes, scores, classes == true, images, true, images)

    def explained_classes(self, prediction: ClassScores, threshold: float) -> list[int]:
        """Return the most probable class; the threshold is for images of several classes."""
        return [int(prediction.probs.argmax())]

    def explanation_column(self, values: Sequence[Any]) -> Any:
        """Return the one class's value by itself."""
        (value,) = values
        return value
