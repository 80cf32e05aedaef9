"""Activations of a network's frozen layers, computed once for all trainings of what follows them.

Some views of each image (as scored, mirrored, and light random crops) go through the frozen layers
once; what comes out at the cut is kept on disk in float16, the pooled features in memory. Training
the rest then costs a fifth of training the whole network.

The files grow by chunks of a few images and say how far they are, so that a killed run goes on
where it was and a finished file is read by the next. Their name is a hash of all that they depend
on: weights, cut, preprocessing, views, seed and images.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autofocus.data.batches.augment.presets import Augmentation
from autofocus.data.batches.augment.view import draw_view
from autofocus.data.batches.cache.forms import training_image
from autofocus.data.batches.order import view_rng
from autofocus.data.batches.preprocess import preprocess
from autofocus.data.images.decode import decode
from autofocus.data.images.fetch import open_bytes, without_query
from autofocus.errors import AutofocusError, ImageError
from autofocus.manifest import ResizeCrop
from autofocus.models.network import Classifier
from autofocus.runtime import Track, naming_full_disk, no_progress, num_cores, write_atomically
from autofocus.training.candidate import Samples
from autofocus.training.frozen import Frozen

# Changes with anything that changes the numbers and is no part of the key.
_VERSION = 1
# The most that one network's activations take on disk; more images get fewer views.
MAX_BYTES = 4 << 30
# Part of the free disk that they may take.
_DISK_SHARE = 0.5
# Images between two marks: what a kill loses.
CHUNK_SIZE = 8
# What full training calls light, without its turns: they would show corners that no photo has.
_AUGMENTATION = Augmentation(area_range=(0.5, 1.0), brightness=0.15, contrast=0.15)
_FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Activations:
    """What the frozen layers make of n images in v views; view 0 is the image as it is scored.

    Attributes:
        at_cut: float16 [n, v, c, h, w], read from disk as needed.
        features: float32 [n, v, d], pooled features of the whole network.
    """

    at_cut: NDArray[np.float16]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def num_views(self) -> int:
        """Views of each image."""
        return int(self.features.shape[1])


class _UpToCut(nn.Module):
    """Activations at the cut, and the pooled features of the whole network."""

    def __init__(self, network: Classifier, cut: int) -> None:
        super().__init__()
        parts = network.cut_at(cut)
        self.stem, self.tail = parts.stem, parts.tail

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        at_cut = self.stem(images)
        return at_cut, self.tail.features(at_cut)


def num_views_within(
    network: Classifier, cut: int, size: tuple[int, int], num_images: int, wanted: int
) -> int:
    """Return how many views of so many images the disk space allows, at most `wanted`.

    Args:
        network: Network on the CPU.
        cut: One of its `cuts`.
        size: (height, width) of its input, in pixels.
        num_images: n.
        wanted: v.
    """
    with torch.inference_mode():
        at_cut = network.cut_at(cut).stem(torch.zeros(1, 3, *size))
    return min(wanted, MAX_BYTES // (2 * int(at_cut.numel()) * num_images))


def compute_activations(
    network: Classifier,
    cut: int,
    spec: ResizeCrop,
    samples: Samples,
    *,
    num_views: int,
    folder: Path,
    device: torch.device,
    seed: int,
    deadline_s: float | None = None,
    track: Track = no_progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Activations | None:
    """Return the activations of all samples; from disk, as far as they are there.

    Args:
        network: Network in eval mode; its head does not matter.
        cut: One of its `cuts`.
        spec: Preprocessing.
        samples: The n images.
        num_views: Views of each, fewer where `MAX_BYTES` allows no more.
        folder: Folder of the files.
        device: Device to compute on.
        seed: Seed of the views.
        deadline_s: Time (`time.monotonic()`) after which no chunk starts; None for no limit.
        track: Progress display.
        should_stop: Whether the user has asked to stop.

    Returns:
        None if time ran out or the user stopped; the next call goes on from there.

    Raises:
        AutofocusError: If there is no room on the disk.
        InputError: If an image can no longer be read.
    """
    num_views = max(1, num_views_within(network, cut, spec.size, len(samples), num_views))
    frozen = Frozen(_UpToCut(network, cut), device, len(samples) * num_views)
    key = _key(network, cut, spec, samples, num_views, seed, frozen.backend)
    store = _Store(folder, key, len(samples), num_views)
    todo = range(store.num_done, len(samples), CHUNK_SIZE)
    chunks = [range(start, min(start + CHUNK_SIZE, len(samples))) for start in todo]
    inputs = _inputs(samples, chunks, spec, num_views, seed)
    for views in track(inputs, "activations", len(chunks)):
        if should_stop() or (deadline_s is not None and time.monotonic() > deadline_s):
            inputs.close()
            return None
        at_cut, features = frozen(views.reshape(-1, *views.shape[2:]))
        store.append(at_cut, features)
    return store.read()


def activation_view_s(
    network: Classifier,
    cut: int,
    spec: ResizeCrop,
    samples: Samples,
    *,
    num_views: int,
    device: torch.device,
    seed: int,
) -> float:
    """Return the seconds that a view takes here, measured on a chunk after a warm-up."""
    frozen = Frozen(_UpToCut(network, cut), device, len(samples) * num_views)
    chunk = range(min(CHUNK_SIZE, len(samples)))
    for views in _inputs(samples, [chunk], spec, 1, seed):
        frozen(views[:, 0])
    started_s = time.monotonic()
    for views in _inputs(samples, [chunk], spec, num_views, seed):
        frozen(views.reshape(-1, *views.shape[2:]))
    return (time.monotonic() - started_s) / (len(chunk) * num_views)


def _inputs(
    samples: Samples, chunks: list[range], spec: ResizeCrop, num_views: int, seed: int
) -> Generator[NDArray[np.float32]]:
    """Yield the views of each chunk, float32 [b, v, 3, h, w], drawing the next ones meanwhile."""

    def draw(position: int) -> NDArray[np.float32]:
        location = samples.locations[position]
        try:
            return _views(open_bytes(location), spec, num_views, seed, position)
        except ImageError as error:
            place = without_query(location)
            raise ImageError(error.code, f"{place}: {error.message}") from error

    with ThreadPoolExecutor(num_cores(), "autofocus-views") as pool:
        waiting = []
        try:
            for chunk in chunks:
                waiting.append([pool.submit(draw, position) for position in chunk])
                if len(waiting) > 1:
                    yield np.stack([future.result() for future in waiting.pop(0)])
            while waiting:
                yield np.stack([future.result() for future in waiting.pop(0)])
        finally:
            for futures in waiting:
                for future in futures:
                    future.cancel()


def _views(
    data: bytes, spec: ResizeCrop, num_views: int, seed: int, position: int
) -> NDArray[np.float32]:
    """Return the views of an image file, float32 [v, 3, h, w]."""
    views = np.empty((num_views, 3, *spec.size), np.float32)
    views[0] = preprocess(decode(data, sample_bits=spec.sample_bits), spec)
    views[1:2] = views[0, :, :, ::-1]
    if num_views > 2:
        pixels = training_image(spec, _AUGMENTATION).pixels(data)
        canvas = np.empty((*spec.size, 3), np.float32)
        for view in range(2, num_views):
            draw_view(pixels, view_rng(seed, view, position), _AUGMENTATION, spec, canvas)
            views[view] = canvas.transpose(2, 0, 1)
    return views


def _key(
    network: Classifier,
    cut: int,
    spec: ResizeCrop,
    samples: Samples,
    num_views: int,
    seed: int,
    backend: str,
) -> str:
    """Return a hash of all that the numbers depend on."""
    digest = hashlib.sha256(repr((_VERSION, cut, spec, num_views, seed, backend)).encode())
    digest.update(repr((_AUGMENTATION, network.encoder)).encode())
    for tensor in network.encoder.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().data)
    digest.update("".join(samples.hashes).encode())
    return digest.hexdigest()[:16]


class _Store:
    """Two files of rows, an image each, and a mark of how many of them are whole.

    Rows are written, not mapped: a full disk then is an error, and not the end of the process.

    Args:
        folder: Folder of the files; created.
        key: Their name.
        num_images: Rows of the whole.
        num_views: Views of each image.
    """

    def __init__(self, folder: Path, key: str, num_images: int, num_views: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._at_cut, self._features = folder / f"{key}.at_cut", folder / f"{key}.features"
        self._mark = folder / f"{key}.json"
        self._num_images, self._num_views = num_images, num_views
        self.num_done = 0
        self._shapes: tuple[list[int], list[int]] = ([], [])
        if self._mark.exists():
            mark = json.loads(self._mark.read_bytes())
            self.num_done, self._shapes = mark["num_images"], tuple(mark["shapes"])

    def append(self, at_cut: NDArray[np.float32], features: NDArray[np.float32]) -> None:
        """Write the next rows: float32 [b · v, c, h, w] and [b · v, d].

        Raises:
            AutofocusError: If the disk is full.
        """
        halves = np.clip(at_cut, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
        if not self.num_done:
            self._shapes = list(at_cut.shape[1:]), list(features.shape[1:])
            self._check_space(halves[: self._num_views].nbytes * self._num_images)
        try:
            for path, rows in ((self._at_cut, halves), (self._features, features)):
                self._write(path, rows)
            self.num_done += len(features) // self._num_views
            mark = {"num_images": self.num_done, "shapes": self._shapes}
            write_atomically(self._mark, json.dumps(mark).encode())
        except OSError as error:
            raise AutofocusError(
                f"{error.filename}: cannot be written ({error.strerror}). Activations of frozen "
                "layers need space there: free some, or name another --output-dir."
            ) from error

    def read(self) -> Activations:
        """Return all rows."""
        at_cut, features = self._shapes
        rows = self._num_images, self._num_views
        return Activations(
            np.memmap(self._at_cut, np.float16, "r", shape=(*rows, *at_cut)),
            np.fromfile(self._features, np.float32).reshape(*rows, *features),
        )

    def _write(self, path: Path, rows: NDArray[np.floating]) -> None:
        with naming_full_disk(path), path.open("r+b" if self.num_done else "wb") as file:
            # What a killed run wrote beyond its mark is written again.
            file.seek(self.num_done * self._num_views * rows[0].nbytes)
            file.write(np.ascontiguousarray(rows).data)

    def _check_space(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self._at_cut.parent).free
        if num_bytes > _DISK_SHARE * free:
            raise AutofocusError(
                f"{self._at_cut.parent}: {num_bytes / 1e9:.1f} GB of activations need twice that "
                f"free, {free / 1e9:.1f} GB are. Free some, or name another --output-dir."
            )
