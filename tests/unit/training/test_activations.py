"""Activations on disk: what they are, that they outlive a kill, and what they may take."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from autofocus.data.batches.preprocess import preprocess
from autofocus.data.images.decode import decode
from autofocus.data.images.fetch import content_hash
from autofocus.errors import AutofocusError, ImageError
from autofocus.models.network import Classifier
from autofocus.training import activations as module
from autofocus.training.activations import (
    CHUNK_SIZE,
    Activations,
    activation_view_s,
    compute_activations,
)
from autofocus.training.candidate import Samples

from .conftest import SPEC

CUT = 3
CPU = torch.device("cpu")


@pytest.fixture
def samples(photos: list[Path]) -> Samples:
    hashes = [content_hash(photo.read_bytes()) for photo in photos]
    return Samples(
        photos, [str(photo) for photo in photos], np.zeros(24, int), hashes, hashes, "photos"
    )


def computed(
    network: Classifier, samples: Samples, folder: Path, num_views: int = 4, **options
) -> Activations | None:
    return compute_activations(
        network,
        CUT,
        SPEC,
        samples,
        num_views=num_views,
        folder=folder,
        device=CPU,
        **{"seed": 0, **options},
    )


def test_the_first_view_is_the_photo_as_scored_and_the_second_its_mirror_image(
    network: Classifier, samples: Samples, tmp_path: Path
) -> None:
    found = computed(network, samples, tmp_path)
    assert found.at_cut.shape[:2] == found.features.shape[:2] == (24, 4)
    assert (found.at_cut.dtype, found.features.dtype) == (np.float16, np.float32)
    image = preprocess(decode(Path(samples.locations[5]).read_bytes()), SPEC)
    both = torch.from_numpy(np.stack([image, image[:, :, ::-1]]))
    with torch.inference_mode():
        at_cut, features = network.cut_at(CUT).stem(both), network.features(both)
    np.testing.assert_allclose(found.features[5, :2], features, atol=1e-4)
    np.testing.assert_allclose(found.at_cut[5, :2], at_cut, rtol=1e-3, atol=1e-3)
    assert not np.allclose(found.features[5, 2], found.features[5, 3], atol=1e-3)


def test_a_killed_run_goes_on_and_a_finished_one_is_read(
    network: Classifier, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = computed(network, samples, tmp_path / "whole")
    calls = iter([False, True])
    assert computed(network, samples, tmp_path / "cut", should_stop=lambda: next(calls)) is None
    # A kill in the middle of a chunk leaves rows beyond the mark.
    (growing,) = (tmp_path / "cut").glob("*.at_cut")
    with growing.open("ab") as file:
        file.write(b"half a row")
    reads: list[str] = []

    def counted(location: str) -> bytes:
        reads.append(location)
        return Path(location).read_bytes()

    monkeypatch.setattr(module, "open_bytes", counted)
    resumed = computed(network, samples, tmp_path / "cut")
    assert sorted(reads) == sorted(samples.locations[CHUNK_SIZE:])
    reads.clear()
    again = computed(network, samples, tmp_path / "cut")
    assert not reads
    for other in (resumed, again):
        assert other.at_cut.tobytes() == whole.at_cut.tobytes()
        assert other.features.tobytes() == whole.features.tobytes()


def test_nothing_is_taken_for_something_else(
    network: Classifier, samples: Samples, tmp_path: Path
) -> None:
    computed(network, samples, tmp_path)
    computed(network, samples, tmp_path, seed=1)
    computed(network, samples, tmp_path, num_views=3)
    computed(network, samples.chosen(range(12)), tmp_path)
    with torch.no_grad():
        next(network.encoder.parameters()).add_(0.1)
    computed(network, samples, tmp_path)
    assert len(list(tmp_path.glob("*.at_cut"))) == 5
    # The head is no part of it.
    network.set_head(torch.zeros_like(network.head.weight), torch.ones_like(network.head.bias))
    computed(network, samples, tmp_path)
    assert len(list(tmp_path.glob("*.at_cut"))) == 5


def test_time_and_space_are_bounded(
    network: Classifier, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert computed(network, samples, tmp_path, deadline_s=time.monotonic() - 1) is None
    whole = computed(network, samples, tmp_path)
    monkeypatch.setattr(module, "MAX_BYTES", whole.at_cut.nbytes * 3 // 4)
    assert computed(network, samples, tmp_path).num_views == 3
    usage = shutil.disk_usage(tmp_path)._replace(free=whole.at_cut.nbytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(AutofocusError, match="need twice that free"):
        computed(network, samples, tmp_path, seed=2)


def test_a_photo_that_is_gone_is_named(
    network: Classifier, samples: Samples, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    samples.locations[3] = str(tmp_path / "broken.png")
    with pytest.raises(ImageError, match=r"broken\.png: The bytes are text"):
        computed(network, samples, tmp_path)


def test_a_view_has_a_measured_cost(network: Classifier, samples: Samples) -> None:
    assert activation_view_s(network, CUT, SPEC, samples, num_views=3, device=CPU, seed=0) > 0
