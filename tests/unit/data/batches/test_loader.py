import gc
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from autofocus.data.batches import views as views_module
from autofocus.data.batches.augment.presets import PRESETS
from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.loader import NUM_PREFETCHED, Batch, Loader
from autofocus.data.batches.order import batch_rng, epoch_order, view_rng
from autofocus.data.batches.preprocess import preprocess
from autofocus.data.batches.views import ClassificationViews
from autofocus.data.images.decode import decode
from autofocus.errors import ImageError
from autofocus.manifest import ResizeCrop
from autofocus.structures.frames import Frame

SPEC = ResizeCrop(resize_size=36, crop_size=32)
PLAIN = ClassificationViews(SPEC, range(100))
STRONG = ClassificationViews(SPEC, range(100), PRESETS["strong"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(11)]
    for number, path in enumerate(paths):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (96 + number, 80), interpolation=cv2.INTER_CUBIC)
        path.write_bytes(simplejpeg.encode_jpeg(np.asarray(image, np.uint8), 90))
    return [str(path) for path in paths]


def by_image(batches: Iterator[Batch]) -> dict[int, bytes]:
    return {
        index: image.tobytes()
        for batch in batches
        for index, image in zip(batch.index.tolist(), batch.images, strict=True)
    }


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one.index, other.index)
        np.testing.assert_array_equal(one.images, other.images)


def num_loader_threads() -> int:
    return sum(thread.name.startswith("autofocus-loader") for thread in threading.enumerate())


def test_without_augmentation_it_is_the_evaluation_path(photos: list[str]) -> None:
    expected = np.stack([preprocess(decode(Path(path).read_bytes()), SPEC) for path in photos])
    for cache in (None, CacheBudget(ram_bytes=1 << 20)):
        with Loader(photos, PLAIN, batch_size=4, cache=cache) as loader:
            for epoch in (0, 1):
                batches = list(loader.epoch(epoch))
                assert [len(batch.index) for batch in batches] == [4, 4, 3]
                found = np.concatenate([batch.images for batch in batches])
                np.testing.assert_array_equal(found, expected)
                index = np.concatenate([batch.index for batch in batches])
                np.testing.assert_array_equal(index, np.arange(11))


def test_targets_and_frames_come_with_their_images(photos: list[str]) -> None:
    targets = np.arange(11) * 7
    for augmentation in (None, PRESETS["strong"]):
        views = ClassificationViews(SPEC, targets, augmentation)
        with Loader(photos, views, batch_size=4, num_threads=3, shuffle=True) as loader:
            for batch in loader.epoch(1):
                assert batch.targets == (batch.index * 7).tolist()
                sizes = [frame.size for frame in batch.frames]
                assert sizes == [(80, 96 + index) for index in batch.index]


class ChangingViews:
    """Grey views of a random size, brighter once half of the training is over."""

    cached_form = PLAIN.cached_form
    size = (64, 64)

    def __init__(self, level: float = 0.0) -> None:
        self.level = level

    def at(self, done_frac: float) -> "ChangingViews":
        return ChangingViews(float(done_frac >= 0.5))

    def input_size(self, rng: np.random.Generator) -> tuple[int, int]:
        return 32 * int(rng.integers(1, 4)), 32

    def draw(self, index, read, rng, out):
        out[:] = self.level
        return index, Frame(read(index).size)


def test_the_size_of_a_batch_is_drawn_once_for_all_ranks_and_resumes(photos: list[str]) -> None:
    def shapes(start: int = 0, **options: int) -> list[tuple[int, ...]]:
        with Loader(photos, ChangingViews(), batch_size=2, seed=5, **options) as loader:
            return [batch.images.shape[1:] for batch in loader.epoch(3, start)]

    whole = shapes()
    assert len(set(whole)) > 1
    assert shapes(start=2) == whole[2:]
    assert shapes(rank=1, num_ranks=2)[:5] == whole[:5]
    assert shapes(num_threads=1) == whole


def test_views_may_change_with_the_share_of_training_that_is_over(photos: list[str]) -> None:
    with Loader(photos, ChangingViews(), batch_size=4) as loader:
        for done_frac, expected in ((0.0, 0), (0.49, 0), (0.5, 1)):
            for batch in loader.epoch(0, done_frac=done_frac):
                assert (batch.images == expected).all()


def test_torch_takes_a_batch_without_a_copy(photos: list[str]) -> None:
    torch = pytest.importorskip("torch")
    with Loader(photos, PLAIN, batch_size=4) as loader:
        batch = next(loader.epoch(0))
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.images.dtype == np.float32
    assert batch.index.dtype == np.int64
    tensor = torch.from_numpy(batch.images)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert tensor.data_ptr() == batch.images.ctypes.data


def test_a_view_depends_on_seed_epoch_and_image_alone(photos: list[str]) -> None:
    views = []
    for batch_size, num_threads, shuffle in ((4, 1, True), (3, 4, True), (11, 2, False)):
        with Loader(
            photos,
            STRONG,
            batch_size=batch_size,
            seed=7,
            num_threads=num_threads,
            shuffle=shuffle,
        ) as loader:
            views.append([by_image(loader.epoch(epoch)) for epoch in (0, 1)])
    assert views[0] == views[1] == views[2]
    first, second = views[0]
    assert all(first[index] != second[index] for index in range(11))
    with Loader(photos, STRONG, batch_size=4, seed=8) as loader:
        other = by_image(loader.epoch(0))
    assert all(first[index] != other[index] for index in range(11))


@pytest.mark.parametrize("cache", [None, CacheBudget(ram_bytes=1 << 20)])
def test_an_epoch_goes_on_from_any_batch(photos: list[str], cache: CacheBudget | None) -> None:
    def loader() -> Loader:
        return Loader(photos, STRONG, batch_size=2, seed=3, cache=cache, shuffle=True)

    with loader() as undisturbed:
        list(undisturbed.epoch(0))
        whole = list(undisturbed.epoch(1))
    for start in range(len(whole) + 1):
        with loader() as resumed:
            assert_same(list(resumed.epoch(1, start_batch=start)), whole[start:])


def test_epochs_are_shuffled_each_in_its_own_way(photos: list[str]) -> None:
    with Loader(photos, PLAIN, batch_size=11, seed=1, shuffle=True) as loader:
        orders = [next(loader.epoch(epoch)).index.tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(11)) != orders[0]


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "expected"),
    [
        (4, False, [4, 4, 3]),
        (4, True, [4, 4]),
        (11, True, [11]),
        (64, True, [11]),
        (1, True, [1] * 11),
    ],
)
def test_a_last_batch_may_be_left_out(
    photos: list[str], batch_size: int, drop_last: bool, expected: list[int]
) -> None:
    with Loader(photos, PLAIN, batch_size=batch_size, drop_last=drop_last) as loader:
        assert [len(batch.index) for batch in loader.epoch(0)] == expected
        assert loader.num_batches == len(expected)


def test_ranks_share_each_batch(photos: list[str]) -> None:
    def batches(rank: int, num_ranks: int) -> list[Batch]:
        with Loader(
            photos, STRONG, batch_size=4, shuffle=True, rank=rank, num_ranks=num_ranks
        ) as loader:
            return list(loader.epoch(2))

    for one, *shares in zip(batches(0, 1), batches(0, 2), batches(1, 2), strict=True):
        joined = {**by_image(iter(shares[:1])), **by_image(iter(shares[1:]))}
        assert joined == by_image(iter([one]))


def test_weights_are_exact_shares_of_an_epoch() -> None:
    weights = np.array([1.0, 1, 1, 2.5, 0, 4.5])
    counts = np.zeros(6)
    for epoch in range(200):
        order = epoch_order(6, seed=0, epoch=epoch, weights=weights)
        count = np.bincount(order.index, minlength=6)
        share = weights / weights.sum() * 6
        assert np.all(count >= np.floor(share))
        assert np.all(count <= np.ceil(share))
        for index in range(6):
            assert sorted(order.repeat[order.index == index]) == list(range(count[index]))
        counts += count
    np.testing.assert_allclose(counts / 200, share, atol=0.15)


def test_equal_weights_show_each_image_once() -> None:
    order = epoch_order(1000, seed=0, epoch=0, weights=np.ones(1000))
    assert sorted(order.index) == list(range(1000))
    assert not order.repeat.any()


def test_a_repeated_image_has_other_views(photos: list[str]) -> None:
    weights = np.zeros(11)
    weights[4] = 1
    with Loader(photos, STRONG, batch_size=11, weights=weights) as loader:
        batch = next(loader.epoch(0))
    assert batch.index.tolist() == [4] * 11
    assert len({image.tobytes() for image in batch.images}) == 11


def test_streams_of_chance_never_meet() -> None:
    cases = list(itertools.product((0, 1, 2**40), (0, 1), (0, 1, 2**33), (0, 1)))
    first = {view_rng(*case).random(4).tobytes() for case in cases}
    first |= {epoch_order(50, seed, epoch).index.tobytes() for seed in (0, 1) for epoch in (0, 1)}
    first |= {batch_rng(*case[:3]).random(4).tobytes() for case in cases if not case[3]}
    assert len(first) == 3 * 2 * 3 * (2 + 1) + 4


def test_an_undecodable_image_is_raised_with_its_place(photos: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(photos[0]).read_bytes()[:-300])
    locations = [*photos[:6], str(broken), *photos[6:]]
    with Loader(locations, PLAIN, batch_size=4, num_threads=2) as loader:
        batches = loader.epoch(0)
        assert next(batches).index.tolist() == [0, 1, 2, 3]
        with pytest.raises(ImageError, match=r"broken\.jpg: .*ends too early") as caught:
            next(batches)
        assert caught.value.code == "image.truncated"
    assert num_loader_threads() == 0


def test_an_abandoned_epoch_leaves_no_threads(photos: list[str]) -> None:
    with Loader(photos, STRONG, batch_size=1, num_threads=3) as loader:
        for leave in ("close", "drop", "break"):
            batches = loader.epoch(0)
            next(batches)
            assert num_loader_threads() > 0
            if leave == "close":
                batches.close()
            elif leave == "drop":
                del batches
                gc.collect()
            else:
                for _ in batches:
                    break
                del batches
                gc.collect()
            assert num_loader_threads() == 0
        list(loader.epoch(0))
        assert num_loader_threads() == 0


def test_threads_run_a_bounded_number_of_batches_ahead(
    photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    draw = views_module.draw_view

    def watch(image, *args):
        started.append(1)
        draw(image, *args)

    monkeypatch.setattr(views_module, "draw_view", watch)
    with Loader(photos, STRONG, batch_size=2, num_threads=4) as loader:
        batches = loader.epoch(0)
        next(batches)
        deadline = time.monotonic() + 5
        while len(started) < 2 * (1 + NUM_PREFETCHED) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(started) == 2 * (1 + NUM_PREFETCHED)
        batches.close()


def test_a_chosen_batch_has_the_views_of_its_epoch(photos: list[str]) -> None:
    with Loader(photos, STRONG, batch_size=4, seed=3, shuffle=True) as loader:
        drawn = by_image(loader.epoch(2))
        index = np.array([5, 0, 9])
        batch = loader.batch_of(index, SPEC.size, epoch=2)
        assert batch.targets == [5, 0, 9]
        assert all(batch.images[k].tobytes() == drawn[i] for k, i in enumerate(index.tolist()))
        assert loader.own_batch_size == 4
        assert loader.worst_batch(2).images.shape == (2, 3, *SPEC.size)
    assert num_loader_threads() == 0
    for rank in (0, 1):
        with Loader(photos, PLAIN, batch_size=7, rank=rank, num_ranks=2) as loader:
            assert loader.own_batch_size == 4
    with Loader(photos, PLAIN, batch_size=700) as loader:
        assert loader.own_batch_size == len(photos)
