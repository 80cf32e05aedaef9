"""A picture of one evaluated image: what the endpoint would find, beside what is labelled."""

from typing import Any

from autofocus.data.images.decode import decode
from autofocus.pictures.boxes import draw
from autofocus.pictures.text import Pixels
from autofocus.scoring.scorer import Scorer
from autofocus.structures.targets import BoxTarget
from autofocus.tasks.objects import ObjectsTask


def draw_evaluated(scorer: Scorer, record: Any, image: bytes, prediction: Any) -> Pixels:
    """Return a picture, RGB.

    Args:
        scorer: Whose prediction it is.
        record: The image's row.
        image: The file's content, which decodes.
        prediction: As it was measured: with objects that the endpoint would not report.
    """
    task, labels, settings = scorer.task, scorer.labels, scorer.manifest.settings
    response = task.encode(prediction, labels)
    pixels = decode(image)
    if not isinstance(task, ObjectsTask):
        return draw(pixels, response, labels, list(task.record_labels(record)))
    threshold = task.number(settings, "box_score_threshold")
    cap = int(task.number(settings, "box_detections_per_image"))
    found = [item for item in response["boxes"] if item["score"] >= threshold][:cap]
    (target,) = task.encode_targets([record], labels)
    assert isinstance(target, BoxTarget), "objects have boxes"
    overlap = task.number(settings, "validation_iou_threshold")
    return draw(pixels, {"boxes": found}, labels, target, overlap)
