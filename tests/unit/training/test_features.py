"""Frozen features: order, cache, deadline and failures."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from autofocus.data.images.decode import decode
from autofocus.data.images.near_duplicates import thumbnail
from autofocus.errors import AutofocusError, ImageError
from autofocus.manifest import ResizeCrop
from autofocus.models import catalog
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.training import features as features_module
from autofocus.training import frozen
from autofocus.training.feature_cache import FeatureCache
from autofocus.training.features import Features, extract_features
from autofocus.training.thumbnails import Thumbnails

SPEC = ResizeCrop(72, 64)


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(catalog.resolve("test_resnet"), 3, None, 64)


def extract(network: Classifier, photos: list[Path], cache: FeatureCache, **options) -> Features:
    return extract_features(
        network, SPEC, [str(p) for p in photos], cache=cache, device=torch.device("cpu"), **options
    )


def test_rows_follow_the_input_whatever_the_order_of_work(
    network: Classifier, photo_folder: Path, tmp_path: Path
) -> None:
    photos = sorted(photo_folder.rglob("*.png"))
    with FeatureCache(tmp_path / "a.sqlite", "a") as cache:
        plain = extract(network, photos, cache)
    with FeatureCache(tmp_path / "b.sqlite", "b") as cache:
        shuffled = extract(network, photos, cache, order=list(range(len(photos)))[::-1])
    assert plain.index.tolist() == list(range(24))
    # Batches are composed differently, hence equal but for rounding.
    np.testing.assert_allclose(plain.rows, shuffled.rows, atol=1e-5)
    assert plain.hashes == shuffled.hashes


def test_an_image_whose_hash_is_known_is_read_only_for_new_features(
    network: Classifier, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureCache(tmp_path / "k.sqlite", "net") as cache:
        first = extract(network, photos, cache)
        with monkeypatch.context() as patch:
            patch.setattr(
                features_module, "open_bytes", lambda path: pytest.fail(f"{path} was read")
            )
            again = extract(network, photos, cache, hashes=first.hashes)
        views = extract(network, photos, cache, hashes=first.hashes, views=["plain", "flip"])
    assert again.rows.tobytes() == first.rows.tobytes()
    assert again.hashes == views.hashes == first.hashes
    assert views.rows.shape[:2] == (len(photos), 2)


def test_thumbnails_are_made_of_cached_images_once(
    network: Classifier, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureCache(tmp_path / "t.sqlite", "net") as cache:
        plain = extract(network, photos, cache)
        with Thumbnails() as thumbnails:
            again = extract(network, photos, cache, thumbnails=thumbnails)
        first = thumbnails.rows(plain.hashes)
        monkeypatch.setattr(
            features_module, "decode", lambda *_, **__: pytest.fail("decoded again")
        )
        with Thumbnails() as thumbnails:
            extract(network, photos, cache, thumbnails=thumbnails)
    expected = [thumbnail(decode(photo.read_bytes())) for photo in photos]
    assert again.rows.tobytes() == plain.rows.tobytes()
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(thumbnails.rows(plain.hashes), expected)


def test_cached_features_are_the_same_bits_without_the_network(
    network: Classifier, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = sorted(photo_folder.rglob("*.png"))[:5]
    views = ("plain", "flip")
    with FeatureCache(tmp_path / "c.sqlite", "net") as cache:
        first = extract(network, photos, cache, views=views)

    def forbidden(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("computed although cached")

    monkeypatch.setattr(type(network), "features", forbidden)
    with FeatureCache(tmp_path / "c.sqlite", "net") as cache:
        again = extract(network, photos, cache, views=views)
    assert (first.rows == again.rows).all()
    assert not np.allclose(first.rows[:, 0], first.rows[:, 1])
    with (
        FeatureCache(tmp_path / "c.sqlite", "another net") as cache,
        pytest.raises(AssertionError, match="computed although cached"),
    ):
        extract(network, photos, cache, views=views)


def test_features_that_are_not_pooled_are_named(photo_folder: Path, tmp_path: Path) -> None:
    unpooled = Classifier(torch.nn.Conv2d(3, 8, 32, stride=32), torch.nn.Linear(8, 2), 64).eval()
    photos = sorted(photo_folder.rglob("*.png"))[:2]
    with (
        FeatureCache(tmp_path / "c.sqlite", "net") as cache,
        pytest.raises(AutofocusError, match=r"must be \[2, 8\].*got \[2, 8, 2, 2\]"),
    ):
        extract(unpooled, photos, cache)


def test_broken_images_are_named_and_the_others_kept(
    network: Classifier, photo_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    photos = [*sorted(photo_folder.rglob("*.png"))[:2], broken, tmp_path / "missing.png"]
    with FeatureCache(tmp_path / "d.sqlite", "net") as cache:
        found = extract(network, photos, cache)
    assert found.index.tolist() == [0, 1]
    assert [position for position, _ in found.failures] == [2, 3]
    assert isinstance(found.failures[0][1], ImageError)
    # They are kept, and the frames of a traceback would keep the file and its pixels.
    assert [error.__traceback__ for _, error in found.failures] == [None, None]


def test_deadline_leaves_the_rest_out(
    network: Classifier, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "BATCH_SIZE", 4)
    photos = sorted(photo_folder.rglob("*.png"))
    with FeatureCache(tmp_path / "e.sqlite", "net") as cache:
        found = extract(network, photos, cache, deadline_s=time.monotonic() - 1)
    assert len(found.index) == 4
    assert found.num_skipped == 20


def test_unusable_cache_costs_time_not_the_run(
    network: Classifier, photo_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "f.sqlite"
    path.write_bytes(b"this is not a database, and long enough to be looked at as one" * 50)
    photos = sorted(photo_folder.rglob("*.png"))[:2]
    with FeatureCache(path, "net") as cache:
        found = extract(network, photos, cache)
    assert found.rows.shape == (2, 1, network.num_features)
    assert "not usable" in caplog.text


def test_many_images_go_through_another_engine_whose_rounding_is_kept_apart(
    network: Classifier, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureCache(tmp_path / "f.sqlite", "net") as cache:
        few = extract(network, photos, cache).rows
        with monkeypatch.context() as patch:
            patch.setattr(frozen, "MIN_ONNX_IMAGES", len(photos))
            many = extract(network, photos, cache).rows
        again = extract(network, photos, cache).rows
    np.testing.assert_allclose(many, few, atol=1e-4 * np.abs(few).max())
    assert many.tobytes() != few.tobytes()
    assert again.tobytes() == few.tobytes()
