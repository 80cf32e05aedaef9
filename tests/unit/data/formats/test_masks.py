"""Masks: numbers of objects in one file, or a file an object."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import DetectionRecord, InstanceSegmentationRecord, PolygonLabel
from autofocus.data.sources.find import find_splits
from autofocus.data.sources.read import Data, read_data
from autofocus.errors import DataError
from autofocus.structures.polygons import from_wire, rasterize
from support.object_sources import (
    CAN,
    CUP,
    HEIGHT,
    WIDTH,
    Thing,
    mask,
    write_image,
    write_mask,
    write_masks,
    write_object_masks,
    write_text,
)

SHARED = Path(__file__).parents[4] / "../shared/data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no photos beside the project")

SIZE = (HEIGHT, WIDTH)


def drawn(labels: list[PolygonLabel], size: tuple[int, int] = SIZE) -> np.ndarray:
    return rasterize([from_wire(label.polygon) for label in labels], size)


def read(folder: Path) -> Data[InstanceSegmentationRecord]:
    return read_data(folder, InstanceSegmentationRecord)


@pytest.mark.parametrize(
    "encode",
    [
        lambda ids: Image.fromarray(ids),
        lambda ids: Image.fromarray((ids // 300).astype(np.uint8)),
        lambda ids: Image.fromarray(ids.astype(np.int32)),
        lambda ids: Image.fromarray(np.repeat((ids // 300).astype(np.uint8)[..., None], 3, 2)),
        lambda ids: with_palette((ids // 300).astype(np.uint8)),
    ],
    ids=["16 bits", "8 bits", "32 bits", "equal channels", "palette"],
)
def test_numbers_are_read_however_they_are_written(tmp_path: Path, encode) -> None:
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    suffix = "tif" if encode(mask([CAN])).mode == "I" else "png"
    encode(mask([CAN, CUP])).save(tmp_path / "masks" / f"a.{suffix}")
    labels = read(tmp_path).records[0].label
    assert [label.label for label in labels] == ["object", "object"]
    assert (drawn(labels) == [mask([CAN]) > 0, mask([CUP]) > 0]).all()


def with_palette(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    assert image.mode == "P"
    return image


def test_holes_and_parts_of_an_object_are_its_rings(tmp_path: Path) -> None:
    ids = np.zeros(SIZE, np.uint16)
    ids[2:12, 2:16] = 7
    ids[5:9, 6:12] = 0
    ids[5:9, 20:30] = 7
    ids[14:, 30:] = 9
    write_image(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.png", ids)
    labels = read(tmp_path).records[0].label
    assert [len(label.polygon) for label in labels] == [3, 1]
    assert (drawn(labels) == [ids == 7, ids == 9]).all()


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        (np.zeros((5, 5), np.uint8), "mask.size"),
        (np.random.default_rng(0).integers(0, 9, (*SIZE, 3), dtype=np.uint8), "mask.channels"),
        (None, "mask.invalid"),
    ],
)
def test_masks_that_cannot_be_used_cost_their_image(
    tmp_path: Path, ids: np.ndarray | None, code: str
) -> None:
    write_masks(tmp_path, {"a": [CAN], "b": [CUP]})
    path = tmp_path / "masks" / "b.png"
    if ids is None:
        path.write_bytes(b"no image")
    else:
        write_mask(path, ids)
    data = read(tmp_path)
    assert (len(data.records), data.num_rows) == (1, 2)
    (issue,) = data.issues.examples()
    assert (issue.code, issue.file, issue.severity) == (code, str(path), "error")


def test_an_image_without_a_mask_is_no_negative(tmp_path: Path) -> None:
    write_masks(tmp_path, {"a": [CAN], "b": [], "c": [CUP]})
    (tmp_path / "masks" / "c.png").unlink()
    data = read(tmp_path)
    assert [len(record.label) for record in data.records] == [1, 0]
    assert [issue.code for issue in data.issues.examples()] == ["mask.missing"]
    for name in "ab":
        (tmp_path / "masks" / f"{name}.png").unlink()
    with pytest.raises(DataError, match="no image has a mask"):
        read(tmp_path)


def test_masks_of_classes_are_warned_about(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.png", mask([CAN, CUP]))
    (tmp_path / "labelmap.csv").write_text("name,r,g,b\n")
    assert dict(read(tmp_path / "images").issues.counts) == {}
    data = read_data(tmp_path, InstanceSegmentationRecord)
    assert data.issues.counts["mask.classes"] == 1


FAR = [Thing("can", (1, 1, 9, 9)), Thing("can", (28, 10, 38, 18))]
NEAR = [Thing("can", (1, 1, 9, 9)), Thing("can", (10, 1, 18, 9))]


def write_numbers(folder: Path, *images: dict[int, list[Thing]]) -> Path:
    """Write masks in which all things of a number have that value."""
    for i, things_of in enumerate(images):
        write_image(folder / "images" / f"{i}.png")
        ids = np.zeros(SIZE, np.uint16)
        for number, things in things_of.items():
            ids[mask(things) > 0] = number
        write_mask(folder / "masks" / f"{i}.png", ids.astype(np.uint8) if ids.max() < 256 else ids)
    return folder


@pytest.mark.parametrize(
    ("images", "are_classes"),
    [
        # Parts of a number far from each other.
        ([{1: FAR}, {1: [CAN]}, {1: FAR, 2: [CUP]}, {1: FAR}], True),
        # Numbers without those before them.
        ([{2: [CAN]}, {1: [CAN], 3: [CUP]}, {3: [CAN]}, {2: [CAN]}, {3: [CUP]}], True),
        # Objects, numbered from 1 on in each image, some of them in two pieces that are close.
        ([{1: NEAR}, {1: [CAN], 2: [CUP]}, {1: NEAR}, {1: NEAR}, {1: [CAN], 2: [CUP]}], False),
        # The same with the border of 255 that VOC paints.
        ([{1: [CAN], 255: [CUP]}, {1: [CAN], 255: [CUP]}, {1: [CAN], 255: [CUP]}], False),
        # Objects, numbered through the whole set.
        ([{number: [CAN], number + 1: [CUP]} for number in range(1, 21, 2)], False),
        # As Cityscapes numbers objects: by class and number.
        ([{24000: [CAN], 26001: [CUP]}, {26001: [CAN]}, {26001: [CUP]}, {24000: [CAN]}], False),
        # One object an image, inside and outside.
        ([{255: [CAN]}, {255: [CUP]}, {255: [CAN]}, {255: [CAN]}], False),
    ],
    ids=["apart", "skipped", "pieces", "border", "throughout", "cityscapes", "binary"],
)
def test_numbers_of_classes_are_told_from_numbers_of_objects(
    tmp_path: Path, images: list[dict[int, list[Thing]]], are_classes: bool
) -> None:
    data = read(write_numbers(tmp_path, *images))
    assert data.issues.counts["mask.classes"] == are_classes
    silent = read_data(tmp_path, InstanceSegmentationRecord, ReadOptions(masks="objects"))
    assert "mask.classes" not in silent.issues.counts


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("name,r,g,b\nbackground,0,0,0\ncat,1,2,3\ndog,3,2,1\n", ["cat", "cat", "dog"]),
        (
            "# label:color_rgb\nbackground:0,0,0::\ncat:1,2,3::\ndog:1,2,4::\n",
            ["cat", "cat", "dog"],
        ),
        ("cat,0\ndog,1\n", ["1", "1", "2"]),
        (None, ["1", "1", "2"]),
    ],
)
def test_each_part_of_a_class_is_an_object_where_the_user_says_so(
    tmp_path: Path, table: str | None, names: list[str]
) -> None:
    write_numbers(tmp_path, {1: FAR, 2: [CUP]})
    if table is not None:
        write_text(tmp_path / "labelmap.txt", table)
    data = read_data(tmp_path, InstanceSegmentationRecord, ReadOptions(masks="classes"))
    [record] = data.records
    assert [label.label for label in record.label] == names
    expected = [mask([thing]) > 0 for thing in (*FAR, CUP)]
    expected[1] &= ~expected[2]
    assert (drawn(record.label) == expected).all()
    assert not data.issues.counts


def test_masks_are_no_option_of_other_formats(tmp_path: Path) -> None:
    write_object_masks(tmp_path, {"a": [CAN]})
    with pytest.raises(DataError, match=r"\(data\.masks\) is about masks .* object_masks"):
        read_data(tmp_path, InstanceSegmentationRecord, ReadOptions(masks="classes"))


def test_a_mask_of_inside_and_outside_is_warned_about(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.png", (mask([CAN, CUP]) > 0).astype(np.uint8) * 255)
    data = read(tmp_path)
    assert dict(data.issues.counts) == {"mask.binary": 1}
    assert len(data.records[0].label) == 1


def test_the_class_may_be_named(tmp_path: Path) -> None:
    path = write_masks(tmp_path, {"a": [CAN]})
    data = read_data(path, DetectionRecord, ReadOptions(class_name="nucleus"))
    assert data.records[0].label[0].label == "nucleus"


def test_folders_in_images_are_splits(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("val", "b")):
        write_image(tmp_path / "images" / split / f"{name}.png")
        write_mask(tmp_path / "masks" / split / f"{name}.png", mask([CAN]))
    splits = find_splits(tmp_path)
    found = {split: read(place).records[0].image_url for split, place in splits.items()}
    assert found == {"train": "a.png", "validation": "b.png"}
    assert len(read(tmp_path).records) == 1


def test_a_file_an_object(tmp_path: Path) -> None:
    write_object_masks(tmp_path, {"a": [CAN, CUP], "b": [CUP], "c": [CAN]})
    write_mask(tmp_path / "b" / "masks" / "0.png", np.zeros(SIZE, np.uint8))
    write_mask(tmp_path / "a" / "masks" / "2.png", np.ones((3, 3), np.uint8))
    for file in (tmp_path / "c" / "masks").iterdir():
        file.unlink()
    (tmp_path / "c" / "masks").rmdir()
    data = read(tmp_path)
    assert [record.image_url for record in data.records] == ["a/images/a.png"]
    assert (drawn(data.records[0].label) == [mask([CAN]) > 0, mask([CUP]) > 0]).all()
    found = [(issue.code, issue.path) for issue in data.issues.examples()]
    assert found == [
        ("mask.size", "2.png"),
        ("mask.empty", "0.png"),
        ("row.nothing_valid", "b/images/b.png"),
        ("mask.missing", ""),
    ]


@needs_shared
def test_nuclei_keep_their_masks() -> None:
    folder = SHARED / "nuclei-masks"
    data = read(folder)
    assert len(data.records) == 65
    assert sum(len(record.label) for record in data.records) == 4152
    assert not data.issues.counts
    ious = []
    for record in data.records[:12]:
        ids = np.asarray(Image.open(folder / record.image_url.replace("images", "masks", 1)))
        numbers = np.unique(ids)[1:]
        for number, pixels in zip(numbers, drawn(record.label, ids.shape), strict=True):
            truth = ids == number
            ious.append((truth & (pixels > 0)).sum() / (truth | (pixels > 0)).sum())
    assert np.median(ious) > 0.995
    assert np.percentile(ious, 5) > 0.98
