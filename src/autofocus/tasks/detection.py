"""Object detection: an image carries any number of boxes, each of one class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.rows.records import DetectionRecord
from autofocus.metrics.detection import detection_metrics, match_boxes
from autofocus.metrics.matching import Matches
from autofocus.structures.frames import Frame
from autofocus.structures.predictions import Detections
from autofocus.structures.targets import BoxTarget
from autofocus.tasks.base import Settings, Targets
from autofocus.tasks.objects import ObjectsTask, Selection, class_index, stated_size


class ObjectDetection(ObjectsTask[DetectionRecord, Detections]):
    """Boxes of objects."""

    name = "image_object_detection"
    model_kind = "detector"
    record_type = DetectionRecord

    def encode_targets(
        self, records: Sequence[DetectionRecord], labels: Sequence[str]
    ) -> list[BoxTarget]:
        """Return one target a record, crowds marked; an image without objects has none in it."""
        index = class_index(labels)
        return [_target(record, index) for record in records]

    def build(
        self,
        selection: Selection,
        candidates: Mapping[str, NDArray[Any]],
        frame: Frame,
        settings: Settings,
    ) -> Detections:
        """Return the selection as it is."""
        return Detections(
            selection.xyxy_frac,
            candidates["scores"][selection.rows],
            candidates["classes"][selection.rows],
            frame.size,
        )

    def evaluate(
        self,
        predictions: Sequence[Detections],
        targets: Targets,
        labels: Sequence[str],
        settings: Settings,
    ) -> dict[str, Any]:
        """Return the published metrics of boxes (`reference/azure.md` §3.2) and COCO's."""
        sized = self.sized(targets, predictions)
        return detection_metrics(predictions, sized, labels, **self.metric_options(settings))

    def match(
        self,
        predictions: Sequence[Detections],
        targets: Sequence[BoxTarget],
        labels: Sequence[str],
        settings: Settings,
    ) -> Matches:
        """See `ObjectsTask.match`; by the overlap of boxes."""
        return match_boxes(predictions, targets, len(labels), self.iou_threshold(settings))


def _target(record: DetectionRecord, index: Mapping[str, int]) -> BoxTarget:
    boxes = [(box.top_x, box.top_y, box.bottom_x, box.bottom_y) for box in record.label]
    return BoxTarget(
        xyxy_frac=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array([index[box.label] for box in record.label], np.int64),
        is_crowd=np.array([box.is_crowd for box in record.label], np.bool_),
        size=stated_size(record.image_details),
    )
