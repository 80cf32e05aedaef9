import numpy as np
import pytest

from autofocus.data.batches.preprocess import input_frame
from autofocus.data.rows.records import (
    BoxLabel,
    DetectionRecord,
    InstanceSegmentationRecord,
    PolygonLabel,
)
from autofocus.manifest import ResizeCrop
from autofocus.scoring.explain.measuring import class_masks
from autofocus.structures.frames import Frame

LABELS = ["can", "carton", "jar"]


def box(label: str, left: float, top: float, right: float, bottom: float) -> BoxLabel:
    return BoxLabel(label=label, top_x=left, top_y=top, bottom_x=right, bottom_y=bottom)


def test_a_class_is_where_any_of_its_boxes_is() -> None:
    labels = [box("can", 0, 0, 0.5, 0.5), box("can", 0.5, 0.5, 1, 1), box("jar", 0.25, 0, 1, 0.25)]
    record = DetectionRecord(image_url="a.jpg", label=[*labels, box("tin", 0, 0, 1, 1)])
    masks = class_masks(record, LABELS, Frame((80, 80)), (8, 8))
    assert list(masks) == [0, 2]
    quarters = np.kron(np.eye(2), np.ones((4, 4)))
    assert np.array_equal(masks[0], quarters.astype(bool))
    assert masks[2].sum() == 12
    assert masks[2][:2, 2:].all()


def test_outlines_are_exact_and_holes_are_no_object() -> None:
    square, hole = [0, 0, 1, 0, 1, 1, 0, 1], [0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75]
    outline = PolygonLabel(label="jar", polygon=[square, hole])
    record = InstanceSegmentationRecord(image_url="a.jpg", label=[outline])
    (mask,) = class_masks(record, LABELS, Frame((9, 9)), (8, 8)).values()
    assert mask.sum() == 64 - 16
    assert not mask[2:6, 2:6].any()


@pytest.mark.parametrize("size", [(100, 200), (200, 100)])
def test_objects_lie_where_the_crop_shows_them(size: tuple[int, int]) -> None:
    spec = ResizeCrop(64, 64)
    frame = input_frame(spec, size)
    # The centre of the image is that of the crop, its ends are cut off.
    middle, end = box("can", 0.4, 0.4, 0.6, 0.6), box("jar", 0.0, 0.0, 0.2, 0.2)
    record = DetectionRecord(image_url="a.jpg", label=[middle, end])
    masks = class_masks(record, LABELS, frame, spec.size)
    assert list(masks) == [0]
    rows, columns = np.nonzero(masks[0])
    assert rows.mean() == columns.mean() == pytest.approx(31.5, abs=0.6)
    height, width = (0.2 * 64 * side / 100 for side in size)
    assert np.ptp(rows) + 1 == pytest.approx(height, abs=1)
    assert np.ptp(columns) + 1 == pytest.approx(width, abs=1)
