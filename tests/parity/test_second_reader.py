"""Real sets as pycocotools and numpy read them; benchmarks/second_reader.py asks more readers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autofocus.data.images.header import read_header
from autofocus.data.rows.records import DetectionRecord, InstanceSegmentationRecord
from autofocus.data.sources.read import read_data
from autofocus.structures.polygons import from_wire, rasterize

coco_module = pytest.importorskip("pycocotools.coco")

SHARED = Path(__file__).parents[2] / "../shared/data"

pytestmark = [
    pytest.mark.skipif(not SHARED.exists(), reason="no photos beside the project"),
    # pycocotools 2.0.11 under numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def coco() -> Any:
    return coco_module.COCO(SHARED / "coco128" / "instances.json")


def test_boxes_are_those_of_pycocotools(coco: Any) -> None:
    data = read_data(SHARED / "coco128", DetectionRecord)
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert len(data.records) == len(images)
    for record, place in zip(data.records, data.locations, strict=True):
        image = images[Path(place).name]
        size = [image["width"], image["height"]] * 2
        ours = [
            (item.label, (item.top_x, item.top_y, item.bottom_x, item.bottom_y))
            for item in record.label
        ]
        theirs = [
            (coco.cats[item["category_id"]]["name"], item["bbox"])
            for item in coco.loadAnns(coco.getAnnIds(image["id"]))
        ]
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        for (_, box), (_, (left, top, width, height)) in zip(ours, theirs, strict=True):
            in_pixels = np.multiply(box, size)
            assert in_pixels == pytest.approx((left, top, left + width, top + height), abs=0.01)


def test_run_lengths_are_those_of_pycocotools_to_the_pixel(coco: Any) -> None:
    data = read_data(SHARED / "coco128", InstanceSegmentationRecord)
    num_compared = 0
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    for record, place in zip(data.records, data.locations, strict=True):
        image = images[Path(place).name]
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        for item, annotation in zip(record.label, annotations, strict=True):
            if isinstance(annotation["segmentation"], dict):
                mask = coco.annToMask(annotation)
                drawn = rasterize([from_wire(item.polygon)], mask.shape)[0]
                assert (drawn == mask).all()
                num_compared += 1
    assert num_compared == 10


def test_masks_come_back_to_the_pixel() -> None:
    folder = SHARED / "nuclei-masks"
    data = read_data(folder, InstanceSegmentationRecord)
    num_compared = 0
    for record, place in list(zip(data.records, data.locations, strict=True))[:8]:
        ids = np.asarray(Image.open(folder / "masks" / f"{Path(place).stem}.png"))
        header = read_header(Path(place).read_bytes())
        assert ids.shape == (header.height, header.width)
        outlines = [from_wire(item.polygon) for item in record.label]
        drawn = rasterize(outlines, ids.shape)
        for mask, number in zip(drawn, np.unique(ids[ids > 0]), strict=True):
            assert (mask == (ids == number)).all()
            num_compared += 1
    assert num_compared > 100
