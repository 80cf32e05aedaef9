"""Tiles as training and evaluation see them, beside what the scorer sees."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus.data.batches.augment.presets import BOX_PRESETS
from autofocus.data.batches.box_views import BoxViews
from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.cache.image_cache import ImageCache
from autofocus.data.batches.loader import Loader
from autofocus.data.batches.outline_views import OutlineViews
from autofocus.data.batches.tile_views import TileViews
from autofocus.data.batches.tiles import WHOLE, evaluation_entries, tile_targets
from autofocus.manifest import ResizeFit, Tiling
from autofocus.scoring.tiling import tile_views
from autofocus.structures.targets import BoxTarget, OutlineTarget

SPEC = ResizeFit(96, 128, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
TILING = Tiling(3, 2)
SIZE = (450, 700)
RED = (230, 20, 20)
SQUARES = np.array([[50, 40, 90, 80], [330, 200, 390, 260], [600, 380, 660, 430]])


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    image = rng.integers(60, 120, (*SIZE, 3), dtype=np.uint8)
    for left, top, right, bottom in SQUARES:
        image[top:bottom, left:right] = RED
    path = tmp_path_factory.mktemp("photos") / "a.png"
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def target() -> BoxTarget:
    height, width = SIZE
    num = len(SQUARES)
    boxes = (SQUARES / [width, height, width, height]).astype(np.float32)
    return BoxTarget(boxes, np.zeros(num, np.int64), np.zeros(num, bool), SIZE)


def outlined() -> OutlineTarget:
    plain = target()
    corners = plain.xyxy_frac[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    return OutlineTarget(
        plain.xyxy_frac,
        plain.classes,
        plain.is_crowd,
        SIZE,
        tuple((ring,) for ring in corners),
    )


def blank() -> np.ndarray:
    return np.empty((*SPEC.size, 3), np.float32)


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_evaluation_sees_what_the_scorer_sees(photo: Path, keep_aspect: bool) -> None:
    spec = ResizeFit(96, 128, keep_aspect=keep_aspect)
    entries = evaluation_entries(1, TILING)
    parts = BoxViews(spec, [target()] * len(entries))
    views = TileViews(parts, entries)
    cache = ImageCache([str(photo)], views.cached_form)
    image = cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB)
    expected = list(tile_views(image, spec, TILING))
    assert len(views) == len(expected) == 7
    for index, seen in enumerate(expected):
        out = blank()
        _, frame = views.draw(index, cache.image, np.random.default_rng(0), out)
        np.testing.assert_array_equal(out.transpose(2, 0, 1), seen.tensor)
        assert frame == seen.frame


@pytest.mark.parametrize("preset", ["light", "strong"])
def test_training_boxes_lie_on_what_tiles_show(photo: Path, preset: str) -> None:
    params = BOX_PRESETS[preset]
    made = tile_targets([target()], TILING)
    entries = [(index, region) for index, region, _ in made]
    views = TileViews(BoxViews(SPEC, [part for _, _, part in made], params), entries)
    cache = ImageCache([str(photo)], views.cached_form)
    num_boxes = 0
    for index in range(len(views)):
        for seed in range(8):
            out = blank()
            drawn, _ = views.draw(index, cache.image, np.random.default_rng(seed), out)
            height, width = SPEC.size
            for box in drawn.xyxy_frac * [width, height, width, height]:
                left, top, right, bottom = box
                inner = out[
                    int(top + 1.5) : max(int(bottom - 1), int(top + 1.5) + 1),
                    int(left + 1.5) : max(int(right - 1), int(left + 1.5) + 1),
                ]
                num_boxes += 1
                assert (inner[..., 0] - inner[..., 1]).mean() > 0.25
    assert num_boxes > 20


def test_tiles_enlarge_what_they_show(photo: Path) -> None:
    made = tile_targets([target()], TILING)
    entries = [(index, region) for index, region, _ in made]
    views = TileViews(BoxViews(SPEC, [part for _, _, part in made]), entries)
    cache = ImageCache([str(photo)], views.cached_form)
    sides = {}
    for index, (_, region) in enumerate(entries):
        drawn, _ = views.draw(index, cache.image, np.random.default_rng(0), blank())
        box = drawn.xyxy_frac[0]
        sides.setdefault(region == WHOLE, []).append(box[2] - box[0])
    assert min(sides[False]) > 1.5 * max(sides[True])


def test_masks_of_tiles(photo: Path) -> None:
    made = tile_targets([outlined()], TILING)
    entries = [(index, region) for index, region, _ in made]
    views = TileViews(OutlineViews(SPEC, [part for _, _, part in made]), entries)
    cache = ImageCache([str(photo)], views.cached_form)
    for index in range(len(views)):
        out = blank()
        drawn, _ = views.draw(index, cache.image, np.random.default_rng(0), out)
        assert len(drawn.masks) == len(drawn) > 0
        fine = np.repeat(np.repeat(drawn.masks, 4, axis=1), 4, axis=2).any(axis=0)
        red = (out[..., 0] > 0.6) & (out[..., 1] < 0.35)
        overlap = (fine & red).sum() / (fine | red).sum()
        assert overlap > 0.5


def test_loader_draws_every_entry_and_reads_every_file_once(photo: Path) -> None:
    entries = evaluation_entries(2, TILING)
    views = TileViews(BoxViews(SPEC, [target()] * len(entries)), entries)
    files = [str(photo), str(photo)]
    cache = CacheBudget(ram_bytes=1 << 26)
    with Loader(files, views, batch_size=4, num_views=len(views), cache=cache) as loader:
        batches = list(loader.epoch(0))
        assert loader.cache.used_bytes <= 2 * (SIZE[0] * SIZE[1] * 3 + 1000)
    index = np.concatenate([batch.index for batch in batches])
    np.testing.assert_array_equal(index, np.arange(14))
    frames = [frame for batch in batches for frame in batch.frames]
    assert len({frame.region for frame in frames}) == 7
