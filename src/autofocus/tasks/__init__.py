"""The tasks, by published name: the only place that lists them."""

from typing import Any

from autofocus.tasks.base import Task
from autofocus.tasks.detection import ObjectDetection
from autofocus.tasks.instance_segmentation import InstanceSegmentation
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification

TASKS: dict[str, Task[Any, Any]] = {
    task.name: task
    for task in (
        MulticlassClassification(),
        MultilabelClassification(),
        ObjectDetection(),
        InstanceSegmentation(),
    )
}
