"""Frozen features of many images: threads read and preprocess while the network computes."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autofocus.data.batches.preprocess import preprocess
from autofocus.data.images.decode import decode
from autofocus.data.images.fetch import content_hash, open_bytes, open_tagged
from autofocus.errors import AutofocusError, InputError
from autofocus.manifest import ResizeCrop
from autofocus.models.network import Classifier
from autofocus.runtime import Track, no_progress, num_cores
from autofocus.training.feature_cache import FeatureCache
from autofocus.training.frozen import Frozen
from autofocus.training.thumbnails import Thumbnails

BATCH_SIZE = 16
NUM_PREFETCHED = 2

# Batches that are timed; the first one sets up kernels and memory.
_NUM_TIMED = 4

View = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# Views of an image [3, h, w] for the encoder; each gives a row of features.
VIEWS: dict[str, View] = {
    "plain": lambda image: image,
    "flip": lambda image: image[:, :, ::-1],
}


@dataclass
class Features:
    """Features of the images that could be read, in input order.

    Attributes:
        rows: float32 [n, v, d]: images, views, feature size.
        index: Positions in the input, [n]; without images that failed or were not reached.
        hashes: n content hashes.
        tags: n tags of the files, see `fetch`; "" of those that were not read.
        failures: Position and reason of each image that could not be used.
        num_skipped: Images not reached before the deadline.
    """

    rows: NDArray[np.float32]
    index: NDArray[np.int64]
    hashes: list[str]
    tags: list[str]
    failures: list[tuple[int, InputError]] = field(default_factory=list)
    num_skipped: int = 0


@dataclass
class _Loaded:
    position: int
    image_hash: str
    tag: str
    cached: NDArray[np.float32] | None
    tensors: NDArray[np.float32] | None  # [v, 3, h, w]


def extract_features(
    model: Classifier,
    spec: ResizeCrop,
    locations: Sequence[str],
    *,
    views: Sequence[str] = ("plain",),
    cache: FeatureCache,
    device: torch.device,
    hashes: Sequence[str] | None = None,
    thumbnails: Thumbnails | None = None,
    order: Sequence[int] | None = None,
    deadline_s: float | None = None,
    track: Track = no_progress,
) -> Features:
    """Return the features of `locations`.

    Args:
        model: The frozen encoder; stays as it is, on the CPU.
        spec: Preprocessing.
        locations: Paths or URLs of the images.
        views: Names in `VIEWS`.
        cache: Cache to read from and to fill.
        device: Device to compute on.
        hashes: Content hashes where they are known: then images in the cache are not read.
        thumbnails: Takes the thumbnails of the images; None where nobody wants them.
        order: Order of work; matters only when a deadline ends it early.
        deadline_s: Time (`time.monotonic()`) after which no batch starts; None for no limit.
        track: Progress display.
    """
    frozen = Frozen(_Pooled(model), device, len(locations) * len(views))
    if frozen.backend == "onnx":
        cache = cache.of("onnx")
    positions = list(order if order is not None else range(len(locations)))
    found: dict[int, tuple[str, NDArray[np.float32]]] = {}
    tags: dict[int, str] = {}
    failures: list[tuple[int, InputError]] = []
    chunks = _batches(positions)
    reached = 0
    for chunk, loaded in zip(
        track(chunks, "features", len(chunks)),
        _prefetched(chunks, locations, spec, views, cache, hashes, thumbnails),
        strict=True,
    ):
        failures += [(p, e) for p, e in loaded if isinstance(e, InputError)]
        good = [item for _, item in loaded if isinstance(item, _Loaded)]
        for item, features in zip(good, _compute(model, frozen, good), strict=True):
            found[item.position] = (item.image_hash, features)
            tags[item.position] = item.tag
        fresh = [item for item in good if item.cached is None]
        cache.put([(item.image_hash, found[item.position][1]) for item in fresh], views)
        reached += len(chunk)
        if deadline_s is not None and time.monotonic() > deadline_s:
            break
    index = sorted(found)
    width = model.num_features
    rows = [found[i][1] for i in index]
    return Features(
        rows=np.stack(rows) if rows else np.zeros((0, len(views), width), np.float32),
        index=np.array(index, dtype=np.int64),
        hashes=[found[i][0] for i in index],
        tags=[tags[i] for i in index],
        failures=sorted(failures, key=lambda failure: failure[0]),
        num_skipped=len(positions) - reached,
    )


def measure_view_s(
    model: Classifier, size: tuple[int, int], device: torch.device, num_views: int
) -> float:
    """Return the seconds that the features of a view take here, after a warm-up.

    Args:
        model: Network in eval mode.
        size: (height, width) of its input, in pixels.
        device: Device to compute on.
        num_views: Views to come, which decide what computes them.
    """
    frozen = Frozen(_Pooled(model), device, num_views)
    images = np.zeros((BATCH_SIZE, 3, *size), np.float32)
    times = []
    for _ in range(_NUM_TIMED):
        started_s = time.monotonic()
        frozen(images)
        times.append(time.monotonic() - started_s)
    return min(times) / BATCH_SIZE


def _batches(positions: Sequence[int]) -> list[Sequence[int]]:
    return [positions[i : i + BATCH_SIZE] for i in range(0, len(positions), BATCH_SIZE)]


Result = tuple[int, "_Loaded | InputError"]


def _prefetched(
    chunks: Sequence[Sequence[int]],
    locations: Sequence[str],
    spec: ResizeCrop,
    views: Sequence[str],
    cache: FeatureCache,
    hashes: Sequence[str] | None,
    thumbnails: Thumbnails | None,
) -> Iterator[list[Result]]:
    """Yield each chunk's images, loading the next ones meanwhile."""

    def load(position: int) -> Result:
        try:
            data, tag = (b"", "") if hashes else open_tagged(locations[position])
            image_hash = hashes[position] if hashes else content_hash(data)
            cached = cache.get(image_hash, views)
            is_seen = thumbnails is None or thumbnails.has(image_hash)
            if cached is None or not is_seen:
                data = data or open_bytes(locations[position])
                pixels = decode(data, sample_bits=spec.sample_bits)
            if thumbnails is not None and not is_seen:
                thumbnails.add(image_hash, pixels)
            if cached is not None:
                return position, _Loaded(position, image_hash, tag, cached, None)
            tensor = preprocess(pixels, spec)
        except InputError as error:
            # It is kept, and the frames of its traceback would keep file and pixels.
            return position, error.with_traceback(None)
        tensors = np.stack([VIEWS[view](tensor) for view in views])
        return position, _Loaded(position, image_hash, tag, None, tensors)

    with ThreadPoolExecutor(num_cores()) as pool:
        waiting: deque[list[Future[Result]]] = deque()
        for chunk in chunks:
            waiting.append([pool.submit(load, position) for position in chunk])
            if len(waiting) > NUM_PREFETCHED:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]


class _Pooled(nn.Module):
    """A network's features, for an engine that calls modules."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self._network = network

    def forward(self, images: Tensor) -> Tensor:
        return self._network.features(images)


def _compute(
    model: Classifier, frozen: Frozen, items: Sequence[_Loaded]
) -> Iterator[NDArray[np.float32]]:
    """Yield the features of each item, float32 [v, d], in order; from the cache where there.

    Raises:
        AutofocusError: If the network's features are not what its head takes.
    """
    fresh = [item.tensors for item in items if item.tensors is not None]
    computed: Iterator[NDArray[np.float32]] = iter(())
    if fresh:
        images = np.stack(fresh)  # [b, v, 3, h, w]
        (rows,) = frozen(images.reshape(-1, *images.shape[2:]))
        if rows.shape[1:] != (model.num_features,):
            raise AutofocusError(
                f"{type(model).__name__}.features: must be [{len(rows)}, {model.num_features}], a "
                f"row an image, as its head takes them, got {list(rows.shape)}."
            )
        computed = iter(rows.reshape(*images.shape[:2], -1))
    for item in items:
        yield item.cached if item.cached is not None else next(computed)
