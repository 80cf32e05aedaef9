"""Photos that are stored lying, labelled with tools that know EXIF and with tools that do not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from autofocus.data.images.decode import decode
from autofocus.data.rows.records import DetectionRecord, InstanceSegmentationRecord
from autofocus.data.sources.read import read_data
from support.object_sources import (
    CAN,
    HEIGHT,
    WIDTH,
    coco_document,
    voc_xml,
    write_json,
    write_text,
)

_ORIENTATION_TAG = 0x0112
SWAPPING = [5, 6, 7, 8]


def write_photo(path: Path, orientation: int) -> NDArray[np.bool_]:
    """Write a photo with a white object where `CAN` is stored; return its pixels, upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left, top, right, bottom = map(int, CAN.box)
    pixels[top:bottom, left:right] = 255
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return np.asarray(decode(path.read_bytes())[:, :, 0] > 0)


def box_of(shown: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return the box around true pixels, in fractions."""
    (y, x), (height, width) = np.nonzero(shown), shown.shape
    return x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height


def edges(label: Any) -> tuple[float, float, float, float]:
    return label.top_x, label.top_y, label.bottom_x, label.bottom_y


@pytest.mark.parametrize("orientation", SWAPPING)
def test_what_was_labelled_on_stored_pixels_is_turned_with_them(
    tmp_path: Path, orientation: int
) -> None:
    shown = write_photo(tmp_path / "voc" / "JPEGImages" / "a.png", orientation)
    assert shown.shape == (WIDTH, HEIGHT)
    write_text(tmp_path / "voc" / "Annotations" / "a.xml", voc_xml("a", [CAN]))
    write_photo(tmp_path / "coco" / "images" / "a.png", orientation)
    write_json(tmp_path / "coco" / "instances.json", coco_document({"a": [CAN]}))
    for folder in ("voc", "coco"):
        data = read_data(tmp_path / folder, DetectionRecord)
        (record,) = data.records
        assert edges(record.label[0]) == pytest.approx(box_of(shown))
        assert (record.image_details.height, record.image_details.width) == shown.shape
        assert set(data.issues.counts) == {"image.rotated"}
    (record,) = read_data(tmp_path / "coco", InstanceSegmentationRecord).records
    points = np.reshape(record.label[0].polygon[0], (-1, 2))
    assert (*points.min(axis=0), *points.max(axis=0)) == pytest.approx(box_of(shown))


@pytest.mark.parametrize("orientation", SWAPPING)
def test_what_was_labelled_upright_stays(tmp_path: Path, orientation: int) -> None:
    write_photo(tmp_path / "JPEGImages" / "a.png", orientation)
    size = f"<size><width>{HEIGHT}</width><height>{WIDTH}</height></size>"
    write_text(tmp_path / "Annotations" / "a.xml", voc_xml("a", [CAN], size=size))
    (record,) = read_data(tmp_path, DetectionRecord).records
    left, top, right, bottom = CAN.box
    expected = (left / HEIGHT, top / WIDTH, right / HEIGHT, bottom / WIDTH)
    assert edges(record.label[0]) == pytest.approx(expected)


def test_of_a_photo_that_is_stored_upside_down_the_image_itself_counts(tmp_path: Path) -> None:
    """Width and height say nothing of how it was labelled."""
    write_photo(tmp_path / "JPEGImages" / "a.png", 3)
    write_text(tmp_path / "Annotations" / "a.xml", voc_xml("a", [CAN]))
    (record,) = read_data(tmp_path, DetectionRecord).records
    left, top, right, bottom = CAN.box
    expected = (left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT)
    assert edges(record.label[0]) == pytest.approx(expected)
