import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data.rows.records import (
    RECORD_TYPES,
    DetectionRecord,
    InstanceSegmentationRecord,
    MulticlassRecord,
    MultilabelRecord,
)
from autofocus.demo import LABELS, MAX_OBJECTS, Scene, render_scene, write_scenes
from autofocus.demo.drawing import Sprite
from autofocus.demo.scene import MIN_VISIBLE_FRAC, Composition, Stamp, stamp_sprite
from autofocus.demo.surroundings import BACKGROUNDS, Background
from autofocus.demo.things import DISTRACTORS, OBJECTS, Draw
from autofocus.structures.contours import trace_rings

T = TypeVar("T")
NUM_SCENES = 24


@functools.cache
def scene_of(index: int) -> Scene:
    return render_scene(seed=7, index=index)


def fill_even_odd(rings: list[NDArray[Any]], height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixel centres lie inside, by counting edges to their left."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            crosses = (y > min(y0, y1)) & (y < max(y0, y1))
            inside ^= crosses & (x0 + (y - y0) / (y1 - y0) * (x1 - x0) < x)
    return inside


def test_same_arguments_give_the_same_pixels() -> None:
    for index in (0, 3):
        again = render_scene(seed=7, index=index)
        np.testing.assert_array_equal(again.image, scene_of(index).image)
        assert again.jpeg_quality == scene_of(index).jpeg_quality
        for found, expected in zip(again.objects, scene_of(index).objects, strict=True):
            assert found.label == expected.label
            np.testing.assert_array_equal(found.mask, expected.mask)


def test_scenes_of_other_seeds_and_indices_differ() -> None:
    images = [render_scene(*pair).image.tobytes() for pair in ((0, 0), (0, 1), (1, 0))]
    assert len(set(images)) == 3


@pytest.mark.parametrize("index", range(NUM_SCENES))
def test_scene_is_an_rgb_image_with_objects_and_distractors(index: int) -> None:
    scene = scene_of(index)
    height, width, channels = scene.image.shape
    assert scene.image.dtype == np.uint8
    assert channels == 3
    assert {height, width} in ({240, 320}, {300, 400})
    assert 1 <= len(scene.objects) <= MAX_OBJECTS
    assert scene.num_distractors >= 2
    assert 70 <= scene.jpeg_quality <= 95
    assert all(found.label in LABELS for found in scene.objects)


@pytest.mark.parametrize("index", range(NUM_SCENES))
def test_boxes_are_tight_around_visible_pixels(index: int) -> None:
    scene = scene_of(index)
    for found in scene.objects:
        left, top, right, bottom = found.xyxy
        inside = found.mask[top:bottom, left:right]
        assert found.mask.sum() == inside.sum() > 0
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


@pytest.mark.parametrize("index", range(NUM_SCENES))
def test_objects_share_no_pixel_and_take_at_most_half_of_a_side(index: int) -> None:
    scene = scene_of(index)
    height, width = scene.image.shape[:2]
    assert np.sum([found.mask for found in scene.objects], axis=0).max() == 1
    for found in scene.objects:
        left, top, right, bottom = found.xyxy
        assert bottom - top <= 0.5 * height + 1
        assert right - left <= 0.5 * width + 1


@pytest.mark.parametrize("index", range(12))
def test_rings_fill_back_to_the_very_mask(index: int) -> None:
    scene = scene_of(index)
    for found in scene.objects:
        filled = fill_even_odd(found.rings(), *found.mask.shape)
        np.testing.assert_array_equal(filled, found.mask)


def test_ring_of_one_pixel_follows_the_area_convention() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 2] = True
    (ring,) = trace_rings(mask)
    assert sorted(ring.tolist()) == [[2, 1], [2, 2], [3, 1], [3, 2]]


def test_rings_of_random_masks_with_holes_and_touching_corners_are_exact() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        mask = rng.random((9, 11)) < 0.5
        rings = trace_rings(mask)
        np.testing.assert_array_equal(fill_even_odd(rings, 9, 11), mask)
        for ring in rings:
            steps = np.diff(np.vstack([ring, ring[:1]]), axis=0)
            # Corners only: every step is along one axis, and the axis changes each time.
            assert ((steps == 0).sum(axis=1) == 1).all()
            horizontal = steps[:, 0] != 0
            assert (horizontal != np.roll(horizontal, 1)).all()


def test_ring_has_a_hole_as_a_ring_of_its_own() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    assert sorted(len(ring) for ring in trace_rings(mask)) == [4, 4]
    assert trace_rings(np.zeros((3, 3), dtype=bool)) == []


@pytest.mark.parametrize("label", LABELS)
def test_every_object_is_drawn_within_its_canvas_at_any_size(label: str) -> None:
    for height in (48, 130, 300):
        sprite = OBJECTS[label](np.random.default_rng(height), height)
        border = np.concatenate(
            [sprite.coverage[0], sprite.coverage[-1], sprite.coverage[:, 0], sprite.coverage[:, -1]]
        )
        assert border.max() == 0
        assert 0.1 < (sprite.coverage > 127).mean() < 0.95
        assert (sprite.opacity <= sprite.coverage).all()


@pytest.mark.parametrize("draw", DISTRACTORS, ids=lambda draw: draw.__name__)
def test_every_distractor_is_drawn(draw: Draw) -> None:
    for seed in range(4):
        sprite = draw(np.random.default_rng(seed), 100)
        assert 0.1 < (sprite.coverage > 127).mean() < 0.95


@pytest.mark.parametrize("paint", BACKGROUNDS, ids=lambda paint: paint.__name__)
def test_every_background_has_texture(paint: Background) -> None:
    for seed in range(3):
        image = paint(np.random.default_rng(seed), 90, 120)
        assert image.shape == (90, 120, 3)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.std(axis=(0, 1)).max() > 2


def test_only_water_bottles_are_seen_through() -> None:
    for label in LABELS:
        sprite = OBJECTS[label](np.random.default_rng(0), 200)
        solid = sprite.coverage > 200
        assert ((sprite.opacity[solid] < 200).mean() > 0.1) == (label == "water_bottle")


def rectangle(height: int, width: int) -> Sprite:
    coverage = np.zeros((height + 20, width + 20), dtype=np.uint8)
    coverage[10:-10, 10:-10] = 255
    return Sprite(np.zeros((*coverage.shape, 3), dtype=np.uint8), coverage, coverage)


@pytest.mark.parametrize("angle_deg", [-30.0, 0.0, 17.0, 30.0])
@pytest.mark.parametrize("size_frac", [0.05, 0.2, 0.5])
def test_stamp_has_the_size_and_angle_asked_for(size_frac: float, angle_deg: float) -> None:
    frame = (400, 300)
    stamp = stamp_sprite(rectangle(160, 80), size_frac, angle_deg, frame)
    height, width = stamp.mask.shape
    assert max(height / 400, width / 300) == pytest.approx(size_frac, abs=1.5 / 300)
    if size_frac < 0.2:
        return
    (outline,), _ = cv2.findContours(
        stamp.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    _, sides, found_deg = cv2.minAreaRect(outline)
    upright_deg = found_deg if sides[0] < sides[1] else found_deg - 90
    assert (upright_deg - angle_deg + 90) % 180 - 90 == pytest.approx(0, abs=2)


def test_nothing_labelled_is_hidden_by_more_than_half() -> None:
    rng = np.random.default_rng(0)
    scene = Composition(np.zeros((100, 100, 3), dtype=np.float32))
    stamp = Stamp(
        rgb=np.zeros((60, 60, 3), dtype=np.float32),
        opacity=np.ones((60, 60), dtype=np.float32),
        mask=np.ones((60, 60), dtype=bool),
    )
    assert scene.place(rng, stamp, "can")
    placed = [scene.place(rng, stamp, None) for _ in range(30)]
    can = scene.placed[0]
    assert MIN_VISIBLE_FRAC * can.area <= can.visible.sum() < can.area
    # 30 squares that each cover a third of the image cannot all find a place.
    assert not all(placed)


def test_rendered_objects_are_hidden_at_times_and_never_by_more_than_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished: list[Composition] = []
    original = Composition.__init__

    def remember(self: Composition, image: NDArray[np.float32]) -> None:
        original(self, image)
        finished.append(self)

    monkeypatch.setattr(Composition, "__init__", remember)
    for index in range(40):
        render_scene(seed=11, index=index)
    shares = [
        placed.visible.sum() / placed.area
        for scene in finished
        for placed in scene.placed
        if placed.label is not None
    ]
    assert min(shares) >= MIN_VISIBLE_FRAC
    assert min(shares) < 0.75
    assert max(shares) == 1.0


def test_four_scenes_in_a_row_have_each_label() -> None:
    for start in (0, 4, 8):
        firsts = {render_scene(3, start + i, max_objects=1).objects[0].label for i in range(4)}
        assert firsts == set(LABELS)


@pytest.mark.parametrize("record_type", RECORD_TYPES.values())
def test_written_rows_parse_and_name_images_that_decode(
    record_type: type[MulticlassRecord], tmp_path: Path
) -> None:
    annotations = write_scenes(tmp_path / "new", record_type, 8, seed=2)
    lines = annotations.read_bytes().splitlines()
    records = [msgspec.json.decode(line, type=record_type) for line in lines]
    assert len(records) == 8
    assert sorted(path.name for path in annotations.parent.iterdir()) == [
        "annotations.jsonl",
        "images",
    ]
    for record in records:
        image = cv2.imread(str(annotations.parent / record.image_url))
        assert image is not None
        assert record.image_details is not None
        assert image.shape[:2] == (record.image_details.height, record.image_details.width)


def test_rows_say_what_the_scene_holds(tmp_path: Path) -> None:
    annotations = write_scenes(tmp_path / "a", DetectionRecord, 6, seed=5)
    boxes = [json.loads(line) for line in annotations.read_bytes().splitlines()]
    annotations = write_scenes(tmp_path / "b", InstanceSegmentationRecord, 6, seed=5)
    outlines = [json.loads(line) for line in annotations.read_bytes().splitlines()]
    annotations = write_scenes(tmp_path / "c", MultilabelRecord, 6, seed=5)
    sets = [json.loads(line) for line in annotations.read_bytes().splitlines()]

    for index in range(6):
        scene = render_scene(5, index)
        height, width = scene.image.shape[:2]
        names = [found.label for found in scene.objects]
        assert sets[index]["label"] == sorted(set(names))
        assert [box["label"] for box in boxes[index]["label"]] == names
        assert [outline["label"] for outline in outlines[index]["label"]] == names
        for found, box, outline in zip(
            scene.objects, boxes[index]["label"], outlines[index]["label"], strict=True
        ):
            corners = [box["topX"], box["topY"], box["bottomX"], box["bottomY"]]
            assert np.array(corners) * [width, height, width, height] == pytest.approx(
                found.xyxy, abs=1e-3
            )
            points = np.array([p for ring in outline["polygon"] for p in ring]).reshape(-1, 2)
            left, top, right, bottom = found.xyxy
            low, high = points.min(axis=0), points.max(axis=0)
            assert low * [width, height] == pytest.approx([left, top], abs=1e-3)
            assert high * [width, height] == pytest.approx([right, bottom], abs=1e-3)


def test_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scenes(tmp_path / name, MulticlassRecord, 3, seed=4)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 4
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_interrupted_writing_leaves_no_rows(tmp_path: Path) -> None:
    def stop_at_second(
        items: Iterable[T], description: str, total: int | None = None
    ) -> Iterator[T]:
        for item in items:
            if item == 1:
                raise OSError("No space left on device")
            yield item

    with pytest.raises(OSError, match="No space"):
        write_scenes(tmp_path, MulticlassRecord, 3, track=stop_at_second)
    assert not (tmp_path / "annotations.jsonl").exists()
