"""Base of detection and segmentation: from candidates to objects, settings, wire format."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from autofocus.data.rows.records import ImageDetails, ObjectsRecord
from autofocus.metrics.matching import Matches
from autofocus.metrics.thresholds import Decisions
from autofocus.settings.fields import Reader
from autofocus.structures.boxes import clip_boxes, nms
from autofocus.structures.frames import Frame, Region
from autofocus.structures.merge_views import merge_views
from autofocus.structures.predictions import Detections, Instances
from autofocus.structures.targets import BoxTarget
from autofocus.tasks.base import SCORE_THRESHOLDS, Settings, Targets, Task
from autofocus.tasks.responses import CORNERS, response_difference

logger = logging.getLogger(__name__)

ObjectRecordT = TypeVar("ObjectRecordT", bound=ObjectsRecord)
DetectionsT = TypeVar("DetectionsT", bound=Detections)

# Averages of precision are taken over detections down to this score (docs/design.md).
EVALUATION_SCORE = 0.01
# A box thinner than this share of the image is dropped.
MIN_SIDE_FRAC = 1e-5
# Half a thousandth of a pixel in an image of 500 pixels, and a third of what float32 noise adds
# to a score.
DECIMALS = 6
SHOWN_OBJECTS = 8


@dataclass(frozen=True)
class Selection:
    """The candidates of one image that are objects, the highest score first.

    Attributes:
        rows: int64 [m], positions among the candidates.
        placed: float32 [m, 4], their boxes in fractions of the image, as the network sees them:
            they may reach beyond it.
        xyxy_frac: The same, cut to the image.
    """

    rows: NDArray[np.int64]
    placed: NDArray[np.float32]
    xyxy_frac: NDArray[np.float32]


class ObjectsTask(Task[ObjectRecordT, DetectionsT]):
    """A task whose network emits a fixed number of candidates an image."""

    primary_metrics: ClassVar[tuple[str, ...]] = ("mean_average_precision",)
    reads: ClassVar[frozenset[Reader]] = frozenset({"objects"})
    response_columns: ClassVar[dict[str, bool]] = {"boxes": True}
    wire_tolerance: ClassVar[float] = 1e-3
    finds_objects = True
    default_values: ClassVar[dict[str, float | str]] = {
        "box_score_threshold": 0.3,
        "nms_iou_threshold": 0.5,
        "box_detections_per_image": 100,
        "validation_metric_type": "voc",
        "validation_iou_threshold": 0.5,
        "tile_predictions_nms_threshold": 0.25,
    }

    @abstractmethod
    def build(
        self,
        selection: Selection,
        candidates: Mapping[str, NDArray[Any]],
        frame: Frame,
        settings: Settings,
    ) -> DetectionsT:
        """Return one image's prediction.

        Args:
            selection: The candidates that are objects.
            candidates: The network's outputs for this image.
            frame: Position of the canvas in the image.
            settings: Settings of the manifest.
        """

    def record_labels(self, record: ObjectRecordT) -> Sequence[str]:
        """Return the classes of its objects, those of crowds too."""
        return tuple(dict.fromkeys(item.label for item in record.label))

    def default_settings(
        self, num_objects_p99: float, is_azure: bool, parameters: Mapping[str, Any]
    ) -> dict[str, float | str]:
        """Return the settings of a new model's manifest.

        Args:
            num_objects_p99: Objects in an image of the training data, 99th percentile.
            is_azure: Whether the model goes by a name of Azure's, which keep Azure's cap.
            parameters: Parameters of the job, which override defaults.
        """
        settings = dict(self.default_values)
        wanted = ceil(1.5 * num_objects_p99)
        if not is_azure:
            settings["box_detections_per_image"] = max(100, wanted)
        settings |= {name: parameters[name] for name in settings if name in parameters}
        cap = int(settings["box_detections_per_image"])
        if num_objects_p99 > cap:
            logger.warning(
                "box_detections_per_image is %d, but there are images with %d objects: the rest "
                "will not be found. Set box_detections_per_image: %d.",
                cap,
                round(num_objects_p99),
                wanted,
            )
        return settings

    def comparison_settings(self, settings: Settings) -> Settings:
        """Return the settings without suppression: rounding decides which of two equals stays."""
        return {**settings, "nms_iou_threshold": 1.0, "tile_predictions_nms_threshold": 1.0}

    def evaluation_settings(self, settings: Settings) -> Settings:
        """Return the settings with a score threshold that average precision can be taken over."""
        cap = max(100, int(self.number(settings, "box_detections_per_image")))
        return {
            **{name: value for name, value in settings.items() if name != SCORE_THRESHOLDS},
            "box_score_threshold": EVALUATION_SCORE,
            "box_detections_per_image": cap,
        }

    def reported(self, prediction: DetectionsT, settings: Settings) -> DetectionsT:
        """Return the objects with scores above the threshold, as many as are asked for."""
        # The best come first.
        cap = int(self.number(settings, "box_detections_per_image"))
        scores = np.array(rounded(prediction.scores), np.float32)
        rows = np.flatnonzero(self._passes(scores, prediction.classes, settings))[:cap]
        chosen: dict[str, Any] = {
            name: getattr(prediction, name)[rows] for name in ("xyxy_frac", "scores", "classes")
        }
        if isinstance(prediction, Instances):
            chosen["polygons"] = tuple(prediction.polygons[row] for row in rows)
        return replace(prediction, **chosen)

    def drawn_truth(self, record: ObjectRecordT, labels: Sequence[str]) -> BoxTarget:
        """Return the labelled objects."""
        (target,) = self.encode_targets([record], labels)
        assert isinstance(target, BoxTarget), "objects have boxes"
        return target

    def merge_views(
        self, predictions: Sequence[DetectionsT], regions: Sequence[Region], settings: Settings
    ) -> DetectionsT:
        """Return the objects of one image, each once."""
        cap = int(self.number(settings, "box_detections_per_image"))
        return merge_views(predictions, regions, settings, cap)

    def number(self, settings: Settings, name: str) -> float:
        """Return a setting, or its published default, as a number."""
        value = settings.get(name, self.default_values[name])
        assert isinstance(value, int | float | str), f"{name} is one number"
        return float(value)

    def default_threshold(self, settings: Settings) -> float:
        """Return `box_score_threshold`."""
        return self.number(settings, "box_score_threshold")

    def decisions(
        self,
        predictions: Sequence[DetectionsT],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> Decisions:
        """Return every object found, as many an image as the endpoint returns, matched."""
        found = self.match(predictions, self.sized(targets, predictions), labels, settings)
        max_detections = int(self.number(settings, "box_detections_per_image"))
        rows = np.flatnonzero(found.kept(0.0, max_detections) & ~found.is_crowd)
        num_true = [int((~target.is_crowd).sum()) for target in targets]
        return Decisions(
            found.classes[rows],
            found.scores[rows],
            found.is_hit[rows],
            found.image[rows],
            found.true_classes,
            np.repeat(np.arange(len(num_true)), num_true),
        )

    @abstractmethod
    def match(
        self,
        predictions: Sequence[DetectionsT],
        targets: Sequence[Any],
        labels: Sequence[str],
        settings: Settings,
    ) -> Matches:
        """Return the objects found, matched with those there are; `targets` are `sized`."""

    def sized(self, targets: Targets, predictions: Sequence[DetectionsT]) -> list[Any]:
        """Return targets with the size of the decoded image, which a row may not state."""
        return [
            replace(target, size=prediction.size)
            for target, prediction in zip(targets, predictions, strict=True)
        ]

    def _thresholds(self, settings: Settings) -> NDArray[np.float32]:
        """Return the threshold of all classes, [], or of each, [k]."""
        default = self.default_threshold(settings)
        # In single precision, as scores are reported: 0.3 counts as 0.3.
        return np.asarray(settings.get(SCORE_THRESHOLDS, default), np.float32)

    def _passes(
        self, scores: NDArray[np.float32], classes: NDArray[np.int64], settings: Settings
    ) -> NDArray[np.bool_]:
        """Return whether each object's score is at least its threshold."""
        thresholds = self._thresholds(settings)
        return np.asarray(scores >= (thresholds[classes] if thresholds.ndim else thresholds))

    def iou_threshold(self, settings: Settings) -> float:
        """Return the least overlap of a right object with a labelled one."""
        return min(max(self.number(settings, "validation_iou_threshold"), 0.1), 1.0)

    def metric_options(self, settings: Settings) -> dict[str, Any]:
        """Return keyword arguments of the metrics: published validation settings and cut-offs."""
        kind = settings.get("validation_metric_type", self.default_values["validation_metric_type"])
        return {
            "metric_type": kind,
            "iou_threshold": self.iou_threshold(settings),
            "score_threshold": self._thresholds(settings),
            "max_detections": int(self.number(settings, "box_detections_per_image")),
        }

    def postprocess(
        self,
        outputs: Mapping[str, NDArray[Any]],
        frames: Sequence[Frame],
        settings: Settings,
    ) -> list[DetectionsT]:
        """Choose objects among the candidates of each image, and place them in the image.

        Args:
            outputs: `boxes` float32 [n, c, 4] in fractions of the canvas, `scores` float32 [n, c]
                and `classes` int64 [n, c]; and outputs that `build` reads.
            frames: Position of each of the n canvases in its image.
            settings: Settings of the manifest; missing ones have their defaults.
        """
        predictions = []
        for image, frame in enumerate(frames):
            candidates = {name: output[image] for name, output in outputs.items()}
            selection = self._select(candidates, frame, settings)
            predictions.append(self.build(selection, candidates, frame, settings))
        return predictions

    def _select(
        self, candidates: Mapping[str, NDArray[Any]], frame: Frame, settings: Settings
    ) -> Selection:
        scores, classes = candidates["scores"], candidates["classes"]
        rows = np.flatnonzero(self._passes(scores, classes, settings))
        placed = frame.boxes_to_image(candidates["boxes"][rows])
        boxes = clip_boxes(placed)
        # A comparison with NaN fails: such a box is dropped too.
        large = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_FRAC).all(axis=1)
        rows, placed, boxes = rows[large], placed[large], boxes[large]
        kept = nms(
            boxes,
            scores[rows],
            classes[rows],
            self.number(settings, "nms_iou_threshold"),
            int(self.number(settings, "box_detections_per_image")),
        )
        return Selection(rows[kept], placed[kept], boxes[kept])

    def check_prediction(self, prediction: DetectionsT, labels: Sequence[str]) -> None:
        """Raise ValueError if a class has no label."""
        if len(prediction) and prediction.classes.max() >= len(labels):
            raise ValueError(
                f"an object of class {prediction.classes.max()} for {len(labels)} labels"
            )

    def encode(self, prediction: DetectionsT, labels: Sequence[str]) -> dict[str, Any]:
        """Return `{"boxes": [{"box": {"topX", …}, "label", "score"}]}`, the best first."""
        corners = rounded(prediction.xyxy_frac)
        scores = rounded(prediction.scores)
        return {
            "boxes": [
                {"box": dict(zip(CORNERS, box, strict=True)), "label": labels[c], "score": score}
                for box, c, score in zip(corners, prediction.classes, scores, strict=True)
            ]
        }

    def summarize(self, response: Mapping[str, Any]) -> str:
        """Return the number of objects and the best, such as `2 objects: can 0.98 · jar 0.71`."""
        objects = response["boxes"]
        if not objects:
            return "no objects"
        shown = [f"{item['label']} {item['score']:.2f}" for item in objects[:SHOWN_OBJECTS]]
        if len(objects) > SHOWN_OBJECTS:
            shown.append(f"{len(objects) - SHOWN_OBJECTS} more")
        return f"{len(objects)} object{'s' * (len(objects) > 1)}: {' · '.join(shown)}"

    def wire_difference(self, left: dict[str, Any], right: dict[str, Any]) -> float:
        """Return the largest difference of a score or a corner; see `response_difference`."""
        return response_difference(left["boxes"], right["boxes"])


def rounded(values: NDArray[np.floating]) -> Any:
    """Return numbers for the wire as (nested) lists, without float32's tail of digits."""
    return np.round(values.astype(np.float64), DECIMALS).tolist()


def class_index(labels: Sequence[str]) -> dict[str, int]:
    """Return the position of each label."""
    return {label: i for i, label in enumerate(labels)}


def stated_size(details: ImageDetails | None) -> tuple[int, int]:
    """Return the (height, width) that a row states, (0, 0) where it does not.

    Evaluation takes the decoded image's instead.
    """
    if details is None or not details.height or not details.width:
        return 0, 0
    return details.height, details.width
