"""Rendered scenes as training data on disk: images and a JSONL file in the published row format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec

from autofocus.data.rows.records import (
    BoxLabel,
    DetectionRecord,
    ImageDetails,
    ImageRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
    PolygonLabel,
)
from autofocus.demo.scene import MAX_OBJECTS, Scene, SceneObject, render_scene
from autofocus.runtime import Track, no_progress, whole_file

ANNOTATIONS = "annotations.jsonl"


def write_scenes(
    folder: Path,
    record_type: type[ImageRecord],
    num_images: int,
    seed: int = 0,
    track: Track = no_progress,
) -> Path:
    """Write `images/NNNN.jpg` and their rows; the same arguments write the same bytes.

    Args:
        folder: Made if missing; files of the same names are replaced.
        record_type: Row type of the task. Multi-class scenes hold one object, others 1 to 5.
        num_images: Number of scenes.
        seed: Seed of the set of scenes.
        track: Progress display.

    Returns:
        Path of the JSONL file, which appears only once every image is there.

    Raises:
        OSError: If the folder cannot be written.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    max_objects = _ROWS[record_type].max_objects
    encode = msgspec.json.Encoder().encode
    annotations = folder / ANNOTATIONS
    with whole_file(annotations) as rows:
        for index in track(range(num_images), "drawing scenes", num_images):
            scene = render_scene(seed, index, max_objects)
            url = f"images/{index:04d}.jpg"
            (folder / url).write_bytes(encode_jpeg(scene))
            rows.write(encode(scene_to_record(scene, record_type, url)) + b"\n")
    return annotations


def encode_jpeg(scene: Scene) -> bytes:
    """Return the scene's image as a JPEG file."""
    bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    is_encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg_quality])
    assert is_encoded, "OpenCV is built with a JPEG encoder"
    return data.tobytes()


def scene_to_record(scene: Scene, record_type: type[ImageRecord], image_url: str) -> ImageRecord:
    """Return the scene's row for one task.

    Args:
        scene: Scene; of one object for `MulticlassRecord`.
        record_type: Row type of the task.
        image_url: URL of the image.
    """
    height, width = scene.image.shape[:2]
    details = ImageDetails(format="jpg", width=width, height=height)
    label = _ROWS[record_type].to_label(scene)
    return record_type(image_url=image_url, image_details=details, label=label)  # type: ignore[call-arg]


def _to_class(scene: Scene) -> str:
    (only,) = scene.objects
    return only.label


def _to_classes(scene: Scene) -> list[str]:
    return sorted({found.label for found in scene.objects})


def _to_boxes(scene: Scene) -> list[BoxLabel]:
    height, width = scene.image.shape[:2]
    return [_to_box(found, height, width) for found in scene.objects]


def _to_box(found: SceneObject, height: int, width: int) -> BoxLabel:
    left, top, right, bottom = found.xyxy
    return BoxLabel(
        label=found.label,
        top_x=_frac(left, width),
        top_y=_frac(top, height),
        bottom_x=_frac(right, width),
        bottom_y=_frac(bottom, height),
    )


def _to_outlines(scene: Scene) -> list[PolygonLabel]:
    height, width = scene.image.shape[:2]
    return [
        PolygonLabel(
            label=found.label,
            polygon=[
                [frac for x, y in ring.tolist() for frac in (_frac(x, width), _frac(y, height))]
                for ring in found.rings()
            ],
        )
        for found in scene.objects
    ]


def _frac(pixels: int, side: int) -> float:
    # Six decimals are exact to a thousandth of a pixel and keep rows short.
    return round(pixels / side, 6)


@dataclass(frozen=True)
class _Row:
    """How a scene becomes a row of one record type.

    Attributes:
        to_label: Label of a scene.
        max_objects: Objects in a scene, at most.
    """

    to_label: Callable[[Scene], Any]
    max_objects: int = MAX_OBJECTS


_ROWS: dict[type[ImageRecord], _Row] = {
    MulticlassRecord: _Row(_to_class, max_objects=1),
    MultilabelRecord: _Row(_to_classes),
    DetectionRecord: _Row(_to_boxes),
    InstanceSegmentationRecord: _Row(_to_outlines),
}
