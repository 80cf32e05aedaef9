"""The one interface through which training, sweeps, packages and servers see a task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from autofocus.data.rows.records import ImageRecord
from autofocus.metrics.thresholds import Decisions
from autofocus.settings.fields import Reader
from autofocus.structures.frames import Frame, Region
from autofocus.structures.targets import BoxTarget

# Values of the manifest that a user may edit, such as thresholds.
Settings = Mapping[str, float | str | list[float]]
# Setting with a threshold of each class, in the labels' order, once these were fitted.
SCORE_THRESHOLDS = "score_thresholds"
# Ground truth of n images: an array with n rows, or one object an image.
Targets = NDArray[Any] | Sequence[Any]

RecordT = TypeVar("RecordT", bound=ImageRecord)
PredictionT = TypeVar("PredictionT")


class Task(ABC, Generic[RecordT, PredictionT]):
    """A task owns its rows, targets, postprocessing, metrics and wire format.

    Attributes:
        name: The published task name.
        model_kind: The kind of model it accepts, such as `classifier`.
        reads: Groups of hyperparameters that count, beside those of every model.
        record_type: Its row type.
        primary_metrics: Names the published schema accepts, the default first.
        response_columns: Keys of the wire object; whether every response has them.
        wire_tolerance: The largest `wire_difference` that rounding explains.
        default_values: Settings of the manifest that the task reads, with published defaults.
        finds_objects: Whether predictions are objects with places: images can be cut into tiles,
            and boxes explained.

    Notation for array shapes:
        - n: number of images
        - k: number of classes
    """

    name: ClassVar[str]
    model_kind: ClassVar[str]
    reads: ClassVar[frozenset[Reader]] = frozenset()
    record_type: ClassVar[type[ImageRecord]]
    primary_metrics: ClassVar[tuple[str, ...]]
    response_columns: ClassVar[dict[str, bool]]
    wire_tolerance: ClassVar[float]
    default_values: ClassVar[dict[str, float | str]] = {}
    finds_objects: ClassVar[bool] = False

    @abstractmethod
    def record_labels(self, record: RecordT) -> Sequence[str]:
        """Return the class names that occur in one record, for splits, counts and label maps."""

    @abstractmethod
    def encode_targets(self, records: Sequence[RecordT], labels: Sequence[str]) -> Targets:
        """Return the ground truth of `records`, one entry a record, in order.

        Args:
            records: n records; every class name in them is in `labels`.
            labels: k class names.
        """

    @abstractmethod
    def postprocess(
        self,
        outputs: Mapping[str, NDArray[np.float32]],
        frames: Sequence[Frame],
        settings: Settings,
    ) -> list[PredictionT]:
        """Turn a network's outputs into predictions.

        Torch evaluation, the ONNX check, MLflow and the server all call this method.

        Args:
            outputs: Output name to array whose first axis is n.
            frames: Position of each of the n network inputs in its image.
            settings: Settings of the manifest; missing ones have their defaults.
        """

    @abstractmethod
    def check_prediction(self, prediction: PredictionT, labels: Sequence[str]) -> None:
        """Check that a prediction fits the labels.

        Raises:
            ValueError: If the network was made for another number of classes.
        """

    @abstractmethod
    def evaluate(
        self,
        predictions: Sequence[PredictionT],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> dict[str, Any]:
        """Return every published metric by name; values that are undefined are None.

        Args:
            predictions: n predictions, made with `evaluation_settings(settings)`.
            targets: n entries of `encode_targets`.
            labels: k class names.
            settings: Settings of the manifest.
        """

    @abstractmethod
    def encode(self, prediction: PredictionT, labels: Sequence[str]) -> dict[str, Any]:
        """Return one image's response object in the published wire format.

        Arrays may stay numpy: `runtime.plain` or orjson turns them into JSON.
        """

    @abstractmethod
    def summarize(self, response: Mapping[str, Any]) -> str:
        """Return a response object as one line for people."""

    @abstractmethod
    def wire_difference(self, left: dict[str, Any], right: dict[str, Any]) -> float:
        """Return the difference of two response objects for one image, in score units.

        The check after packaging and the parity tests compare networks with it.
        """

    def comparison_settings(self, settings: Settings) -> Settings:
        """Return the settings for comparing networks: without choices that rounding can turn."""
        return settings

    def evaluation_settings(self, settings: Settings) -> Settings:
        """Return the settings for predictions that are measured."""
        return settings

    def default_threshold(self, settings: Settings) -> float:
        """Return the score from which a decision counts where no threshold was fitted."""
        return 0.0

    def decisions(
        self,
        predictions: Sequence[PredictionT],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> Decisions | None:
        """Return what a score threshold may let through; None where the task has no such thing.

        Args:
            predictions: n predictions, made with `evaluation_settings(settings)`.
            targets: n entries of `encode_targets`.
            labels: k class names.
            settings: Settings of the manifest.
        """
        return None

    def reported(self, prediction: PredictionT, settings: Settings) -> PredictionT:
        """Return what the endpoint reports of a prediction made with `evaluation_settings`."""
        return prediction

    def drawn_truth(self, record: RecordT, labels: Sequence[str]) -> BoxTarget | Sequence[str]:
        """Return what is labelled, for a picture: objects, or words on the whole image."""
        return list(self.record_labels(record))

    def merge_views(
        self, predictions: Sequence[PredictionT], regions: Sequence[Region], settings: Settings
    ) -> PredictionT:
        """Return one image's prediction; only where the task `finds_objects`.

        Args:
            predictions: One a view of the image, made with `settings`.
            regions: Region of each view, in fractions of the image.
            settings: Settings of the manifest.
        """
        raise NotImplementedError(f"{self.name} says what a whole image shows")

    def merge_images(
        self,
        predictions: Sequence[PredictionT],
        entries: Sequence[tuple[int, Region]],
        settings: Settings,
    ) -> list[PredictionT]:
        """Return one prediction an image, in order; only where the task `finds_objects`.

        Args:
            predictions: One an entry.
            entries: (position of the image, region) of each view, images in order.
            settings: Settings of the manifest.
        """
        views: dict[int, tuple[list[PredictionT], list[Region]]] = {}
        for prediction, (index, region) in zip(predictions, entries, strict=True):
            found, regions = views.setdefault(index, ([], []))
            found.append(prediction)
            regions.append(region)
        return [self.merge_views(found, regions, settings) for found, regions in views.values()]
