"""Rendered scenes as training data on disk: images and a JSONL file in the published row format."""

from collections.abc import Callable
from pathlib import Path

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
    max_objects = 1 if record_type is MulticlassRecord else MAX_OBJECTS
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
        record_type: One of the four row types.
        image_url: URL of the image.
    """
    height, width = scene.image.shape[:2]
    details = ImageDetails(format="jpg", width=width, height=height)
    return _TO_RECORD[record_type](scene, image_url, details)


def _to_multiclass(scene: Scene, image_url: str, details: ImageDetails) -> ImageRecord:
    (only,) = scene.objects
    return MulticlassRecord(image_url=image_url, image_details=details, label=only.label)


def _to_multilabel(scene: Scene, image_url: str, details: ImageDetails) -> ImageRecord:
    labels = sorted({found.label for found in scene.objects})
    return MultilabelRecord(image_url=image_url, image_details=details, label=labels)


def _to_detection(scene: Scene, image_url: str, details: ImageDetails) -> ImageRecord:
    height, width = scene.image.shape[:2]
    boxes = [_to_box(found, height, width) for found in scene.objects]
    return DetectionRecord(image_url=image_url, image_details=details, label=boxes)


def _to_box(found: SceneObject, height: int, width: int) -> BoxLabel:
    left, top, right, bottom = found.xyxy
    return BoxLabel(
        label=found.label,
        top_x=_frac(left, width),
        top_y=_frac(top, height),
        bottom_x=_frac(right, width),
        bottom_y=_frac(bottom, height),
    )


def _to_segmentation(scene: Scene, image_url: str, details: ImageDetails) -> ImageRecord:
    height, width = scene.image.shape[:2]
    outlines = [
        PolygonLabel(
            label=found.label,
            polygon=[
                [frac for x, y in ring.tolist() for frac in (_frac(x, width), _frac(y, height))]
                for ring in found.rings()
            ],
        )
        for found in scene.objects
    ]
    return InstanceSegmentationRecord(image_url=image_url, image_details=details, label=outlines)


def _frac(pixels: int, side: int) -> float:
    # Six decimals are exact to a thousandth of a pixel and keep rows short.
    return round(pixels / side, 6)


_TO_RECORD: dict[type[ImageRecord], Callable[[Scene, str, ImageDetails], ImageRecord]] = {
    MulticlassRecord: _to_multiclass,
    MultilabelRecord: _to_multilabel,
    DetectionRecord: _to_detection,
    InstanceSegmentationRecord: _to_segmentation,
}
