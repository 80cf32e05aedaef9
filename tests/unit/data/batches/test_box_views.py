"""Boxes stay on the pixels of their objects, whatever a view does to them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from autofocus.data.batches.augment.placement import Rect, quarters, visible_fracs
from autofocus.data.batches.augment.presets import BOX_PRESETS, BoxAugmentation
from autofocus.data.batches.box_views import BoxViews
from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.loader import Batch, Loader
from autofocus.data.batches.order import view_rng
from autofocus.data.batches.preprocess import preprocess
from autofocus.data.images.decode import ImageHeader, decode
from autofocus.errors import JobError
from autofocus.manifest import ResizeFit
from autofocus.structures.targets import BoxTarget
from support.drawn_objects import assert_shows, box_target, png, read_of

RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SPEC = ResizeFit(height=128, width=160, **RAW)
# Every object that leaves a pixel counts, and colours stay what they are.
STRICT = {"keep_frac": 0.0, "brightness": 0.0, "contrast": 0.0}
DRAWN = {name: params for name, params in BOX_PRESETS.items() if params is not None}
SIZES = [(120, 150), (300, 220), (64, 64), (700, 900)]


def rng(index: int = 0, epoch: int = 0) -> np.random.Generator:
    return view_rng(0, epoch, index)


def one_object(size: tuple[int, int], number: int) -> tuple[NDArray[np.uint8], BoxTarget]:
    """Return an image with a rectangle somewhere in it, and its target."""
    chance = np.random.default_rng(number)
    top, left = (chance.uniform(0, 0.5, 2) * size).astype(int)
    bottom, right = (chance.uniform(0.6, 1, 2) * size).astype(int)
    image = np.zeros((*size, 3), np.uint8)
    image[top:bottom, left:right, number % 3] = 255
    return image, box_target(size, [(left, top, right, bottom)], [number % 3])


def fill(target: BoxTarget, size: tuple[int, int]) -> dict[int, NDArray[np.bool_]]:
    """Return what the boxes of each class cover on a canvas."""
    height, width = size
    middles = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    masks: dict[int, NDArray[np.bool_]] = {}
    for box, label in zip(target.xyxy_frac, target.classes.tolist(), strict=True):
        left, top, right, bottom = box * (width, height, width, height)
        held = (left <= middles[0]) & (middles[0] < right)
        held = held & (top <= middles[1]) & (middles[1] < bottom)
        masks[label] = masks.get(label, np.zeros(size, np.bool_)) | held
    return masks


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("mosaic_prob", [0.0, 1.0])
def test_boxes_are_where_the_pixels_are(name: str, mosaic_prob: float) -> None:
    params = dataclasses.replace(DRAWN[name], **STRICT, mosaic_prob=mosaic_prob)
    images, targets = zip(*[one_object(SIZES[i % 4], i) for i in range(8)], strict=True)
    views = BoxViews(SPEC, targets, params)
    read = read_of(list(images), views)
    num_found = 0
    for number in range(48):
        size = views.input_size(rng(number, 1))
        out = np.full((*size, 3), np.nan, np.float32)
        target, frame = views.draw(number % 8, read, rng(number), out)
        assert frame.size == target.size == size
        assert np.isfinite(out).all()
        assert_shows(out, fill(target, size))
        num_found += len(target)
    assert num_found > 40


def test_a_large_file_is_kept_halved_and_its_boxes_still_fit() -> None:
    image, target = one_object((1301, 1703), 4)
    params = dataclasses.replace(DRAWN["light"], **STRICT)
    views = BoxViews(SPEC, [target], params)
    read = read_of([image], views)
    assert read(0).pixels.shape == (325, 425, 3)
    assert read(0).factor == 4
    for number in range(10):
        out = np.empty((128, 160, 3), np.float32)
        found, _ = views.draw(0, read, rng(number), out)
        assert_shows(out, fill(found, (128, 160)))


@pytest.mark.parametrize("params", DRAWN.values())
def test_no_view_enlarges_what_was_halved(params: BoxAugmentation) -> None:
    size = (2048, 2048)
    target = box_target(size, [], [])
    views = BoxViews(ResizeFit(height=128, width=128, **RAW), [target], params)
    height, _ = views.cached_form.size(ImageHeader("jpeg", *size))
    assert height < 2048
    greatest = max(*params.zoom_range, *params.mosaic_zoom_range) * (1 + params.size_jitter)
    stretch = max(params.aspect_range[1], 1 / params.aspect_range[0]) ** 0.5
    assert 128 * greatest * stretch <= height


def test_evaluation_is_preprocess_and_boxes_come_back_through_the_frame() -> None:
    for number, size in enumerate(SIZES):
        image, target = one_object(size, number)
        for keep_aspect in (True, False):
            spec = ResizeFit(height=96, width=128, keep_aspect=keep_aspect)
            views = BoxViews(spec, [target])
            out = np.full((96, 128, 3), np.nan, np.float32)
            found, frame = views.draw(0, read_of([image], views), rng(), out)
            np.testing.assert_array_equal(out.transpose(2, 0, 1), preprocess(image, spec))
            assert frame.size == size
            assert found.size == (96, 128)
            back = frame.boxes_to_image(found.xyxy_frac)
            np.testing.assert_allclose(back, target.xyxy_frac, atol=1e-6)


def test_padding_is_zero_whatever_the_tone() -> None:
    spec = ResizeFit(height=128, width=128)
    params = BoxAugmentation(zoom_range=(0.3, 0.5), whole_prob=0, brightness=0.5, contrast=0.5)
    image = np.full((100, 100, 3), 200, np.uint8)
    for turned in (0.0, 20.0):
        views = BoxViews(
            spec,
            [box_target((100, 100), [], [])],
            dataclasses.replace(params, rotation_deg=turned),
        )
        for number in range(10):
            out = np.full((128, 128, 3), np.nan, np.float32)
            views.draw(0, read_of([image], views), rng(number), out)
            share = (out == 0).all(axis=2).mean()
            assert 0.7 < share < 0.93
            # What is not padding is the image, one colour but for the blended edge.
            values = out[(out != 0).all(axis=2)]
            assert len(np.unique(values[:, 0])) == 1


def test_crowds_and_what_is_hardly_seen_are_left_out() -> None:
    size = (128, 160)
    boxes = [(0, 0, 40, 40), (60, 60, 100, 100), (10, 80, 10.4, 120), (120, 20, 150, 50)]
    target = box_target(size, boxes, [0, 1, 2, 0], crowd=(1,))
    image = np.zeros((*size, 3), np.uint8)
    for params in (None, BoxAugmentation(whole_prob=1, flip_prob=0)):
        views = BoxViews(SPEC, [target], params)
        out = np.empty((*size, 3), np.float32)
        found, _ = views.draw(0, read_of([image], views), rng(), out)
        np.testing.assert_allclose(found.xyxy_frac, target.xyxy_frac[[0, 3]], atol=1e-6)
        assert found.classes.tolist() == [0, 0]
        assert not found.is_crowd.any()


def test_an_object_is_dropped_below_the_share_that_is_kept() -> None:
    size = (128, 160)
    image = np.zeros((*size, 3), np.uint8)
    target = box_target(size, [(0, 0, 160, 128), (0, 0, 8, 8), (152, 120, 160, 128)], [0, 1, 2])
    params = BoxAugmentation(
        whole_prob=0, zoom_range=(1.5, 2.5), min_shown_fracs=(0.0,), keep_frac=0.3
    )
    seen = set()
    for number in range(60):
        fracs = {}
        for keep_frac in (0.0, 0.3):
            views = BoxViews(SPEC, [target], dataclasses.replace(params, keep_frac=keep_frac))
            out = np.empty((*size, 3), np.float32)
            found, _ = views.draw(0, read_of([image], views), rng(number), out)
            fracs[keep_frac] = found
        everything, some = fracs[0.0], fracs[0.3]
        # The first object is the image itself: it tells the zoom, and its own visible share.
        assert 0 in everything.classes
        seen.add((0 in some.classes, len(everything)))
        assert set(some.classes) <= set(everything.classes)
    assert {is_kept for is_kept, _ in seen} == {True, False}


def test_some_object_keeps_what_was_asked_for() -> None:
    size = (128, 160)
    image = np.zeros((*size, 3), np.uint8)
    target = box_target(size, [(4, 4, 18, 16)], [0])
    params = BoxAugmentation(
        whole_prob=0, zoom_range=(1.8, 2.0), min_shown_fracs=(1.0,), flip_prob=0
    )
    views = BoxViews(SPEC, [target], params)
    free = BoxViews(SPEC, [target], dataclasses.replace(params, min_shown_fracs=(0.0,)))
    read, out = read_of([image], views), np.empty((*size, 3), np.float32)
    asked = [len(views.draw(0, read, rng(number), out)[0]) for number in range(40)]
    assert all(asked)
    assert not all(len(free.draw(0, read, rng(number), out)[0]) for number in range(40))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (3, 3000)])
@pytest.mark.parametrize("name", DRAWN)
def test_any_size_gives_a_view(size: tuple[int, int], name: str) -> None:
    height, width = size
    target = box_target(size, [(0, 0, width, height)], [0])
    views = BoxViews(SPEC, [target], DRAWN[name])
    read = read_of([np.full((*size, 3), 77, np.uint8)], views)
    for number in range(6):
        out = np.full((128, 160, 3), np.nan, np.float32)
        found, _ = views.draw(0, read, rng(number), out)
        assert np.isfinite(out).all()
        assert (found.xyxy_frac >= 0).all()
        assert (found.xyxy_frac <= 1).all()


def test_mosaics_end_with_the_first_part_of_training() -> None:
    views = BoxViews(SPEC, [], BoxAugmentation(mosaic_prob=0.5, mosaic_until_frac=0.6))
    assert views.at(0.0) is views
    assert views.at(0.59) is views
    late = views.at(0.6)
    assert late.augmentation == dataclasses.replace(views.augmentation, mosaic_prob=0.0)
    assert BoxViews(SPEC, []).at(0.9).augmentation is None


def test_four_quarters_are_the_canvas() -> None:
    for number in range(20):
        covered = np.zeros((96, 128), int)
        for rect in quarters(rng(number), (96, 128)):
            assert min(rect.height / 96, rect.width / 128) > 0.29
            covered[rect.top : rect.bottom, rect.left : rect.right] += 1
        assert (covered == 1).all()
    assert Rect(1, 2, 5, 9).width == 7


def test_shown_fracs_are_shares_of_area() -> None:
    boxes = np.array(
        [(0, 0, 10, 10), (-5, 0, 5, 10), (-5, -5, 5, 5), (20, 0, 30, 10), (3, 3, 3, 9)]
    )
    found = visible_fracs(boxes.astype(float), (0, 0, 10, 10))
    np.testing.assert_allclose(found, [1, 0.5, 0.25, 0, 0])


def test_canvases_are_multiples_of_32_near_the_size() -> None:
    views = BoxViews(ResizeFit(height=320, width=416), [], BoxAugmentation(size_jitter=0.25))
    sizes = {views.input_size(rng(number)) for number in range(300)}
    assert all(height % 32 == width % 32 == 0 for height, width in sizes)
    assert {height for height, _ in sizes} == {256, 288, 320, 352, 384}
    assert {width for _, width in sizes} == {320, 352, 384, 416, 448, 480, 512}
    fixed = BoxViews(ResizeFit(height=100, width=90), [], BoxAugmentation())
    assert fixed.input_size(rng()) == (100, 90)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[BoxTarget]]:
    folder = tmp_path_factory.mktemp("objects")
    locations, targets = [], []
    for number in range(9):
        image, target = one_object(SIZES[number % 3], number)
        path: Path = folder / f"{number}.png"
        path.write_bytes(png(image))
        locations.append(str(path))
        # The last one is a negative image.
        targets.append(target if number < 8 else box_target(SIZES[2], [], []))
    return locations, targets


def flat(batches: list[Batch]) -> dict[int, tuple[bytes, bytes]]:
    return {
        index: (image.tobytes(), target.xyxy_frac.tobytes())
        for batch in batches
        for index, image, target in zip(
            batch.index.tolist(), batch.images, batch.targets, strict=True
        )
    }


def test_a_view_depends_on_seed_epoch_and_image_alone(
    files: tuple[list[str], list[BoxTarget]],
) -> None:
    locations, targets = files
    params = dataclasses.replace(DRAWN["strong"], size_jitter=0.0)
    found = []
    for batch_size, num_threads in ((4, 1), (3, 4)):
        for cache in (None, CacheBudget(ram_bytes=1 << 24)):
            with Loader(
                locations,
                BoxViews(SPEC, targets, params),
                batch_size=batch_size,
                num_threads=num_threads,
                cache=cache,
                shuffle=True,
                seed=3,
            ) as loader:
                found.append([flat(list(loader.epoch(epoch))) for epoch in (0, 1)])
    assert all(each == found[0] for each in found)
    assert found[0][0] != found[0][1]


def test_an_epoch_of_several_sizes_goes_on_from_any_batch(
    files: tuple[list[str], list[BoxTarget]],
) -> None:
    locations, targets = files
    views = BoxViews(SPEC, targets, DRAWN["strong"])
    with Loader(locations, views, batch_size=2, shuffle=True) as loader:
        whole = list(loader.epoch(1, done_frac=0.2))
        assert len({batch.images.shape for batch in whole}) > 1
        rest = list(loader.epoch(1, start_batch=3, done_frac=0.2))
        assert flat(rest) == flat(whole[3:])
        assert flat(list(loader.epoch(1, done_frac=0.9))) != flat(whole)


def test_a_negative_image_is_shown_without_objects(
    files: tuple[list[str], list[BoxTarget]],
) -> None:
    locations, targets = files
    params = dataclasses.replace(DRAWN["medium"], mosaic_prob=0.0)
    for augmentation in (None, params):
        with Loader(locations, BoxViews(SPEC, targets, augmentation), batch_size=9) as loader:
            (batch,) = loader.epoch(0)
        assert len(batch.targets[8]) == 0
        assert batch.targets[8].xyxy_frac.shape == (0, 4)
        assert batch.targets[8].xyxy_frac.dtype == np.float32
        assert sum(map(len, batch.targets)) >= 6


def test_photos_of_evaluation_are_decoded_and_placed_once(tmp_path: Path) -> None:
    """The frame has the size of the file even where the cache holds a smaller image."""
    image = np.random.default_rng(0).integers(0, 256, (301, 402, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    path.write_bytes(simplejpeg.encode_jpeg(image, 90))
    target = box_target((301, 402), [(10, 20, 200, 300)], [0])
    expected = preprocess(decode(path.read_bytes()), SPEC)
    views = BoxViews(SPEC, [target])
    with Loader([str(path)], views, batch_size=1, cache=CacheBudget(ram_bytes=1 << 20)) as loader:
        for _ in range(2):
            (batch,) = loader.epoch(0)
            np.testing.assert_array_equal(batch.images[0], expected)
            assert batch.frames[0].size == (301, 402)
        assert loader.cache.used_bytes == 120 * 160 * 3


def test_impossible_ranges_are_named_together() -> None:
    with pytest.raises(JobError) as caught:
        BoxAugmentation(zoom_range=(2.0, 1.0), mosaic_prob=1.5, min_shown_fracs=())
    text = str(caught.value)
    assert "augmentation.zoom_range" in text
    assert "augmentation.mosaic_prob must be in [0, 1], got 1.5." in text
    assert "augmentation.min_shown_fracs" in text


def test_the_worst_batch_has_most_objects_on_the_largest_canvas(tmp_path: Path) -> None:
    num_objects = [1, 3, 0, 2]
    locations, targets = [], []
    for i, num in enumerate(num_objects):
        boxes = [(10 * j, 10, 10 * j + 8, 60) for j in range(num)]
        targets.append(box_target((120, 150), boxes, [0] * num))
        locations.append(str(tmp_path / f"{i}.png"))
        Path(locations[i]).write_bytes(png(np.full((120, 150, 3), 90, np.uint8)))
    params = BoxAugmentation(size_jitter=0.25)
    views = BoxViews(SPEC, targets, params)
    assert views.largest_size == max(views.input_size(rng(number)) for number in range(300))
    assert BoxViews(SPEC, targets).largest_size == (128, 160)
    assert views.heaviest(2).tolist() == [1, 3]
    with Loader(locations, views, batch_size=3, num_threads=1) as loader:
        batch, again = loader.worst_batch(3), loader.worst_batch(6)
    assert batch.index.tolist() == [1, 3, 0]
    assert batch.images.shape == (3, 3, *views.largest_size)
    assert again.index.tolist() == [1, 3, 0, 2, 1, 3]
    assert np.array_equal(again.images[:3], batch.images)
