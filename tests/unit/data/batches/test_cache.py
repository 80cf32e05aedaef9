import io
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from autofocus.data.batches.augment.presets import Augmentation
from autofocus.data.batches.cache import image_cache as image_cache_module
from autofocus.data.batches.cache.budget import CacheBudget, free_budget, free_memory_bytes
from autofocus.data.batches.cache.forms import evaluation_image, halved_image, training_image
from autofocus.data.batches.cache.image_cache import DataSize, ImageCache, choose_storage
from autofocus.data.batches.cache.store import FileStore, MemoryStore, Store
from autofocus.data.batches.preprocess import resize_crop
from autofocus.data.images.decode import decode, read_header
from autofocus.errors import ImageError
from autofocus.manifest import ResizeCrop
from support.hostile_images import many_scans

SPEC = ResizeCrop(resize_size=36, crop_size=32)
PARAMS = Augmentation(area_range=(0.25, 1.0))
MIB = 1 << 20


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(simplejpeg.encode_jpeg(scene(300 + number, 401, number), 90))
    return [str(path) for path in paths]


@pytest.fixture
def num_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    reads: list[str] = []
    read = image_cache_module.open_bytes

    def counted(location: str) -> bytes:
        reads.append(location)
        return read(location)

    monkeypatch.setattr(image_cache_module, "open_bytes", counted)
    return lambda: len(reads)


def test_training_images_are_halved_while_every_view_would_halve_them() -> None:
    # A quarter of the area at 32 pixels needs 64; from 128 on, each view is sampled down 2x.
    kept = training_image(SPEC, PARAMS)
    for short, expected in (
        (63, 63),
        (127, 127),
        (128, 64),
        (255, 128),
        (256, 64),
        (1100, 69),
        (2048, 64),
    ):
        data = simplejpeg.encode_jpeg(scene(short, short + 30), 90)
        height, width, _ = kept.pixels(data).shape
        assert height == expected
        np.testing.assert_allclose(kept.size(read_header(data)), (height, width), atol=1)


@pytest.mark.parametrize("num_halvings", [1, 2, 3, 4])
def test_halving_is_averaging_of_blocks(num_halvings: int) -> None:
    image = scene(512, 640)
    factor = 1 << num_halvings
    blocks = image.reshape(512 // factor, factor, 640 // factor, factor, 3).mean(axis=(1, 3))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    from_png = halved_image(file.getvalue(), read_header(file.getvalue()), num_halvings)
    assert np.abs(from_png - blocks).max() <= num_halvings
    data = simplejpeg.encode_jpeg(image, 95)
    from_jpeg = halved_image(data, read_header(data), num_halvings)
    assert np.abs(from_jpeg - blocks).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_halved_photos_stand_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(scene(120, 204)).save(file, "jpeg", quality=95, exif=exif)
    data = file.getvalue()
    whole = decode(data)
    half = halved_image(data, read_header(data), 1)
    assert half.shape[:2] == tuple(-(-side // 2) for side in whole.shape[:2])
    expected = cv2.resize(whole, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(half - expected.astype(float)).mean() < 1.5


def test_halving_cmyk_and_damaged_jpeg_goes_through_decode() -> None:
    file = io.BytesIO()
    Image.fromarray(scene(64, 64)).convert("CMYK").save(file, "jpeg", quality=95)
    data = file.getvalue()
    half = halved_image(data, read_header(data), 1)
    expected = cv2.resize(decode(data), (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(half, expected)
    cut = simplejpeg.encode_jpeg(scene(64, 64), 95)[:-200]
    with pytest.raises(ImageError, match="ends too early"):
        halved_image(cut, read_header(cut), 1)


def test_a_jpeg_of_many_scans_is_not_halved_either() -> None:
    assert halved_image(many_scans(64, 100), read_header(many_scans(64, 100)), 1).shape[0] == 32
    bomb = many_scans(64, 300)
    with pytest.raises(ImageError, match="more than 256 scans"):
        halved_image(bomb, read_header(bomb), 1)


def test_evaluation_keeps_the_square_that_is_normalised(photos: list[str]) -> None:
    with ImageCache(photos, evaluation_image(SPEC), CacheBudget(ram_bytes=MIB)) as cache:
        assert cache.storage.form == "pixels"
        for _ in range(2):
            expected = resize_crop(decode(Path(photos[2]).read_bytes()), SPEC)
            np.testing.assert_array_equal(cache.pixels(2), expected)
        assert cache.used_bytes == 32 * 32 * 3


FITS = 5 * MIB
LADDER = {
    "pixels in memory": (CacheBudget(ram_bytes=FITS), "pixels", "memory"),
    "pixels on disk": (CacheBudget(disk_bytes=FITS), "pixels", "disk"),
    "bytes": (CacheBudget(ram_bytes=300_000), "bytes", "memory"),
    "none": (CacheBudget(ram_bytes=10), "none", "memory"),
}


@pytest.mark.parametrize("case", LADDER)
def test_each_form_gives_the_pixels_that_would_be_read_anew(
    case: str, photos: list[str], tmp_path: Path, num_reads: Callable[[], int]
) -> None:
    budget, name, place = LADDER[case]
    budget = CacheBudget(budget.ram_bytes, budget.disk_bytes, tmp_path / "cache")
    kept = training_image(ResizeCrop(resize_size=128, crop_size=128), PARAMS)
    expected = [kept.pixels(Path(path).read_bytes()) for path in photos]
    with ImageCache(photos, kept, budget) as cache:
        assert (cache.storage.form, cache.storage.place) == (name, place)
        before = num_reads()
        for _ in range(3):
            for number, image in enumerate(expected):
                found = cache.image(number)
                np.testing.assert_array_equal(found.pixels, image)
                assert found.size == (300 + number, 401)
        assert num_reads() - before == (15 if name == "none" else 5)
        assert cache.used_bytes <= max(budget.ram_bytes, budget.disk_bytes)
        assert cache.storage.num_bytes == pytest.approx(cache.used_bytes, rel=0.05)


def test_the_jpeg_form_shows_the_first_epoch_what_later_ones_see(
    photos: list[str], tmp_path: Path, num_reads: Callable[[], int]
) -> None:
    budget = CacheBudget(disk_bytes=FITS, folder=tmp_path / "cache")
    kept = training_image(SPEC, PARAMS)
    with ImageCache(photos, kept, budget, form="jpeg") as cache:
        before = num_reads()
        first = [cache.pixels(number) for number in range(5)]
        assert num_reads() - before == 5
        for number, image in enumerate(first):
            np.testing.assert_array_equal(cache.pixels(number), image)
            fresh = kept.pixels(Path(photos[number]).read_bytes())
            assert 0 < np.abs(image - fresh.astype(float)).mean() < 2
        assert num_reads() - before == 5
    # The same pixels without any room, so that a resumed run goes on as it was.
    with ImageCache(photos, kept, CacheBudget(), form="jpeg") as cache:
        np.testing.assert_array_equal(cache.pixels(3), first[3])


def test_what_does_not_fit_is_read_anew(photos: list[str], num_reads: Callable[[], int]) -> None:
    kept = training_image(SPEC, PARAMS)
    sizes = [kept.pixels(Path(path).read_bytes()).size for path in photos]
    with ImageCache(photos, kept, CacheBudget(ram_bytes=sum(sizes[:2])), form="pixels") as cache:
        before = num_reads()
        for _ in range(2):
            for number in range(5):
                assert cache.pixels(number).size == sizes[number]
        assert num_reads() - before == 2 + 3 * 2
        assert cache.used_bytes == sum(sizes[:2])


@pytest.mark.parametrize(
    ("size", "budget", "expected"),
    [
        # file bytes, pixel bytes; RAM, disk (MiB); the storage
        ((10, 130), (200, 0), "pixels memory"),
        ((10, 130), (100, 200), "pixels disk"),
        ((10, 130), (100, 100), "bytes memory"),
        ((10, 130), (5, 100), "none memory"),
        ((400, 130), (5, 100), "jpeg disk"),
        ((400, 1300), (5, 100), "none memory"),
    ],
)
def test_the_ladder_takes_the_fastest_that_fits(
    size: tuple[int, int], budget: tuple[int, int], expected: str
) -> None:
    folder = Path("anywhere")
    allowed = CacheBudget(budget[0] * MIB, budget[1] * MIB, folder)
    storage = choose_storage(DataSize(size[0] * MIB, size[1] * MIB), allowed)
    assert f"{storage.form} {storage.place}" == expected
    without_folder = CacheBudget(allowed.ram_bytes, allowed.disk_bytes)
    assert choose_storage(DataSize(size[0] * MIB, size[1] * MIB), without_folder).place == "memory"


def test_of_remote_files_as_many_as_fit_are_kept() -> None:
    remote = DataSize(400 * MIB, 3000 * MIB, is_remote=True)
    assert choose_storage(remote, CacheBudget(100 * MIB)).form == "bytes"
    assert choose_storage(remote, CacheBudget(100 * MIB, 800 * MIB, Path("x"))).form == "jpeg"


def test_the_choice_is_one_line_in_the_log(
    photos: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="autofocus"):
        ImageCache(photos, evaluation_image(SPEC), CacheBudget(ram_bytes=4 * MIB)).close()
        ImageCache(photos, evaluation_image(SPEC)).close()
    assert caplog.messages == [
        "image cache: pixels of 5 images in memory, about 0.0 MiB of 4.0 MiB allowed"
    ]


def test_an_image_that_cannot_be_decoded_is_named(photos: list[str]) -> None:
    Path(photos[1]).write_bytes(b"\xff\xd8\xffnothing")
    with ImageCache(photos, evaluation_image(SPEC)) as cache:
        cache.pixels(0)
        with pytest.raises(ImageError, match=r"1\.jpg: "):
            cache.pixels(1)
    with pytest.raises(ImageError, match=r"1\.jpg: "):
        ImageCache(photos, evaluation_image(SPEC), CacheBudget(ram_bytes=MIB))


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore(1000) if request.param == "memory" else FileStore(tmp_path / "s", 1000)


def test_a_store_keeps_within_its_limit(store: Store) -> None:
    assert store.get(0) is None
    assert store.put(0, b"a" * 600)
    assert not store.put(1, b"b" * 401)
    assert store.put(1, memoryview(b"c" * 400))
    assert not store.put(1, b"")
    assert store.used_bytes == 1000
    assert bytes(store.get(0) or b"") == b"a" * 600
    assert bytes(store.get(1) or b"") == b"c" * 400
    store.close()
    assert store.get(0) is None
    assert store.used_bytes == 0


def test_a_store_serves_threads(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    store = FileStore(tmp_path, 10**6)

    def work(number: int) -> bool:
        barrier.wait()
        for key in range(200):
            store.put(key, key.to_bytes(2, "little") * (key + 1))
        return all(
            bytes(store.get(key) or b"") == key.to_bytes(2, "little") * (key + 1)
            for key in range(200)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert store.used_bytes == sum(2 * (key + 1) for key in range(200))
    store.close()


def test_pixels_outlive_their_store(tmp_path: Path) -> None:
    store = FileStore(tmp_path, 1000)
    store.put(0, b"abc")
    view = store.get(0)
    store.put(1, b"def")
    store.get(1)
    store.close()
    assert bytes(view or b"") == b"abc"


@pytest.mark.skipif(os.name != "posix", reason="a named file stays on Windows until it is closed")
def test_the_file_has_no_name_to_leave_behind(tmp_path: Path) -> None:
    store = FileStore(tmp_path, 1000)
    store.put(0, b"abc")
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_a_full_disk_ends_caching_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(tmp_path, 1000)
    store.put(0, b"abc")

    def full(content: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_append", full)
    assert not store.put(1, b"def")
    assert "No space left on device" in caplog.text
    monkeypatch.undo()
    assert not store.put(2, b"ghi")
    assert bytes(store.get(0) or b"") == b"abc"
    store.close()


def test_a_folder_that_cannot_be_written_costs_the_cache_only(
    photos: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    budget = CacheBudget(disk_bytes=MIB, folder=tmp_path / "file")
    with ImageCache(photos, evaluation_image(SPEC), budget) as cache:
        assert cache.pixels(0).shape == (32, 32, 3)
        assert cache.used_bytes == 0
    assert "no file in" in caplog.text


def test_the_default_budget_is_a_part_of_what_is_free(tmp_path: Path) -> None:
    free = free_memory_bytes()
    assert free > 16 * MIB
    budget = free_budget(tmp_path)
    assert 0 < budget.ram_bytes < free
    assert 0 < budget.disk_bytes < free
    assert free_budget().disk_bytes == 0
