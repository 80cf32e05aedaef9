"""Base of tasks of whole images: the network emits one number a label, from one linear head.

A file of its own: what such a task predicts is not always a class.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from autofocus.settings.fields import Reader
from autofocus.tasks.base import PredictionT, RecordT, Targets, Task


class WholeImageTask(Task[RecordT, PredictionT]):
    """A task whose network can start as a linear head on frozen features.

    Attributes:
        activation: Function from the network's outputs to what is predicted; the probe's head and
            its calibration are chosen by it (`training.probe.HEADS`).
        label_smoothing: Label smoothing of our own recipes on small sets; without it the few
            images are learnt by heart and the probabilities of new ones suffer.
        azure_learning_rates: Published defaults by Azure's model name; `*` for the others.
    """

    model_kind = "classifier"
    reads: ClassVar[frozenset[Reader]] = frozenset({"crops"})
    activation: ClassVar[str]
    label_smoothing: ClassVar[float]
    azure_learning_rates: ClassVar[dict[str, float]]

    @abstractmethod
    def sample_losses(
        self, predictions: Sequence[PredictionT], targets: Targets
    ) -> NDArray[np.float64]:
        """Return each image's loss, [n], lower is better, for paired comparisons of networks."""
