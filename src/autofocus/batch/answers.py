"""From images to the objects of a batch's output, in whichever thread asks.

Imports no torch: explanations of classes and features do, and come as `Extra`s.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autofocus.batch.stream import Cores, in_order, pieces
from autofocus.data.images.fetch import LocateError, open_bytes
from autofocus.errors import ImageError
from autofocus.runtime import num_cores, plain
from autofocus.scoring.request import RequestRow, error_object, score_rows
from autofocus.scoring.scorer import Scorer

# Images that a thread takes at once. CPU time is the same for 1, 4 and 8, memory is not; and alone
# an image's numbers are bit for bit the same wherever a kill came.
MINI_BATCH = 1
# Threads that may wait for a file while all cores compute; a store answers in 0.1 s.
NUM_READERS = 2
NUM_REMOTE_READERS = 16
RETRIES = 3
_FIRST_PAUSE_S = 0.5

Image = bytes | str | Path | ImageError


class Extra(Protocol):
    """What an image's object has beside its scores."""

    def __call__(
        self, position: int, name: str, pixels: NDArray[np.uint8], prediction: Any
    ) -> dict[str, Any]:
        """Return the keys that are added.

        Args:
            position: Position of the image in the whole batch.
            name: Its `filename`.
            pixels: The decoded image, RGB [h, w, 3].
            prediction: The task's prediction.
        """


@dataclass(frozen=True)
class Numbered:
    """An image of a batch.

    Attributes:
        position: Position in the whole batch.
        name: Its `filename`.
        image: Encoded file, path, URL, or the reason why there is none.
    """

    position: int
    name: str
    image: Image


@dataclass(frozen=True)
class Answers:
    """Answers images with one model.

    Attributes:
        scorer: Model, with a network of one thread.
        extras: What the objects have beside scores.
        cores: Threads that compute at once.
        retries: How often an image is asked for again whose store cannot be reached.
    """

    scorer: Scorer
    extras: Sequence[Extra] = ()
    cores: Cores = field(default_factory=lambda: Cores(num_cores()))
    retries: int = RETRIES

    def __call__(self, piece: Sequence[Numbered]) -> list[dict[str, Any]]:
        """Return one wire object an image, in order; `{"error": …}` where it cannot be read."""
        images = [self._read(item.image) for item in piece]
        with self.cores:
            if not self.extras:
                return score_rows(self.scorer, [RequestRow(image) for image in images])
            # One at a time: its pixels are wanted more than once, and may take gigabytes.
            pairs = zip(piece, images, strict=True)
            return [self._with_extras(item, image) for item, image in pairs]

    def _with_extras(self, item: Numbered, image: bytes | ImageError) -> dict[str, Any]:
        pixels = image if isinstance(image, ImageError) else self.scorer.try_decode(image)
        if isinstance(pixels, ImageError):
            return error_object(pixels)
        prediction = self.scorer.predict(pixels)
        (result,) = self.scorer.encode([prediction])
        for extra in self.extras:
            result |= extra(item.position, item.name, pixels, prediction)
        return result

    def _read(self, image: Image) -> bytes | ImageError:
        if isinstance(image, bytes | ImageError):
            return image
        for attempt in range(self.retries + 1):
            try:
                return open_bytes(str(image))
            except LocateError as error:
                failure = ImageError(error.code, error.message)
            if failure.code != "url.unreachable":
                break
            if attempt < self.retries:
                time.sleep(_FIRST_PAUSE_S * 2**attempt)
        return failure


def score_images(scorer: Scorer, images: Iterable[bytes | str | Path]) -> Iterator[dict[str, Any]]:
    """Yield one published wire object an image, in order; see `api.Model.batch`."""
    answers = Answers(scorer)
    numbered = (Numbered(i, "", image) for i, image in enumerate(images))
    num_threads = answers.cores.number + NUM_READERS
    for results in in_order(answers, pieces(numbered, MINI_BATCH), num_threads):
        yield from map(plain, results)
