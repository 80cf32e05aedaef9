"""A model folder made callable: image bytes in, published wire objects out.

Torch evaluation aside, everything that scores goes through here: `autofocus score`, the server,
the MLflow model and the check after packaging. Imports no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import input_frame, preprocess
from autofocus.data.images.decode import DEFAULT_MAX_PIXELS, decode, try_decode
from autofocus.errors import ImageError, ModelFolderError, ScoringError
from autofocus.manifest import Manifest, Preprocess, Tiling, check_files, read_manifest
from autofocus.scoring.backends.joined import Backend, JoinedBackend
from autofocus.scoring.backends.onnx import OnnxBackend
from autofocus.scoring.explain.needs import WEIGHTS_NAME
from autofocus.scoring.request import error_object, in_place
from autofocus.scoring.tiling import check_tiles, tile_views
from autofocus.structures.frames import Frame, Region
from autofocus.tasks import TASKS
from autofocus.tasks.base import Settings, Task

ONNX_NAME = "model.onnx"
MAX_BATCH = 16

Sample = tuple[NDArray[np.float32], Frame]


class Scorer:
    """Scores images with one model.

    Args:
        manifest: Description of the model.
        backend: Runs the network.
        max_pixels: Larger images are refused before they are decoded.

    Attributes:
        num_joined: Threads whose images the backend joins; 1 where it joins none.
    """

    def __init__(
        self, manifest: Manifest, backend: Backend, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        self.num_joined = 1
        self.manifest = manifest
        self.task = task_of(manifest)
        self.labels = manifest.labels
        self._backend = backend
        self._max_pixels = max_pixels
        if manifest.tiling:
            check_tiles(self.task)

    @classmethod
    def load(
        cls,
        folder: Path,
        num_threads: int = 1,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        *,
        accelerate: bool = False,
    ) -> "Scorer":
        """Load a model folder with its ONNX network.

        Args:
            folder: The model folder.
            num_threads: Threads inside one run of the network.
            max_pixels: Larger images are refused before they are decoded.
            accelerate: Run on an accelerator where there is one, and join what several threads
                score at once.

        Raises:
            ModelFolderError: If anything in the folder is missing, damaged or does not fit.
        """
        manifest = read_manifest(folder)
        # Weights are read by torch, for explanations.
        check_files(folder, manifest, optional=(WEIGHTS_NAME,))
        backend = OnnxBackend(folder / ONNX_NAME, num_threads, accelerate=accelerate)
        joins = backend.gains_from_batches
        scorer = cls(manifest, JoinedBackend(backend, MAX_BATCH) if joins else backend, max_pixels)
        scorer.num_joined = MAX_BATCH if joins else 1
        if backend.output_names != manifest.outputs:
            raise ModelFolderError(
                f"{folder / ONNX_NAME}: outputs must be {manifest.outputs} as manifest.json "
                f"says, got {backend.output_names}."
            )
        try:
            scorer.warm_up()
        except (IndexError, KeyError, ValueError, RuntimeError, ScoringError) as error:
            raise ModelFolderError(
                f"{folder}: the network and manifest.json do not fit each other: {error}"
            ) from error
        return scorer

    def score(
        self, images: Iterable[bytes], settings: Settings | None = None
    ) -> list[dict[str, Any]]:
        """Return one wire object an image, in order.

        An image that does not decode keeps its place as `{"error": {"code", "message"}}`.
        Values may be numpy arrays: orjson writes them, `runtime.plain` makes them lists.

        Args:
            images: Encoded image files.
            settings: Settings; default: the manifest's.
        """
        return self.encode(self.try_predict(images, settings))

    def encode(self, predictions: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the wire object of each prediction or `ImageError`, in order."""
        return [
            error_object(prediction)
            if isinstance(prediction, ImageError)
            else self.task.encode(prediction, self.labels)
            for prediction in predictions
        ]

    def try_predict(self, images: Iterable[bytes], settings: Settings | None = None) -> list[Any]:
        """Return one task prediction an image, or the `ImageError` in its place.

        Args:
            images: Encoded image files.
            settings: Settings; default: the manifest's.
        """
        used = self.manifest.settings if settings is None else settings
        if self.manifest.tiling:
            # One at a time: decoded images together could take gigabytes.
            decoded = (self.try_decode(image) for image in images)
            return [
                item if isinstance(item, ImageError) else self.predict(item, used)
                for item in decoded
            ]
        samples = [self._prepare(image) for image in images]
        return in_place(samples, lambda good: self._predict_samples(good, used))

    def try_decode(self, image: bytes) -> NDArray[np.uint8] | ImageError:
        """Return an encoded image as RGB pixels [h, w, 3], or the error."""
        return try_decode(image, self._max_pixels, self.manifest.preprocess.sample_bits)

    def predict(self, pixels: NDArray[np.uint8], settings: Settings | None = None) -> Any:
        """Return the task's prediction of one decoded image, RGB [h, w, 3]."""
        used = self.manifest.settings if settings is None else settings
        if self.manifest.tiling:
            return self._predict_tiles(pixels, self.manifest.tiling, used)
        return self._predict_samples([sample_of(pixels, self.manifest.preprocess)], used)[0]

    def warm_up(self) -> None:
        """Run the network once on a black image, so that the first request is not the slow one."""
        size = self.manifest.preprocess.size
        black = np.zeros((3, *size), dtype=np.float32)
        predictions = self._predict_samples([(black, Frame(size))], self.manifest.settings)
        self.task.check_prediction(predictions[0], self.labels)

    def _prepare(self, image: bytes) -> Sample | ImageError:
        pixels = self.try_decode(image)
        if isinstance(pixels, ImageError):
            return pixels
        return sample_of(pixels, self.manifest.preprocess)

    def _predict_tiles(self, image: NDArray[np.uint8], tiling: Tiling, settings: Settings) -> Any:
        predictions: list[Any] = []
        regions: list[Region] = []
        views = tile_views(image, self.manifest.preprocess, tiling)
        # A few at a time: a large grid's views together would take gigabytes.
        while some := list(islice(views, MAX_BATCH)):
            samples = [(view.tensor, view.frame) for view in some]
            predictions += self._predict_samples(samples, settings)
            regions += [view.region for view in some]
        return self.task.merge_views(predictions, regions, settings)

    def _predict_samples(self, samples: Sequence[Sample], settings: Settings) -> list[Any]:
        predictions: list[Any] = []
        for start in range(0, len(samples), MAX_BATCH):
            tensors, frames = zip(*samples[start : start + MAX_BATCH], strict=True)
            outputs = self._backend.run(np.stack(tensors))
            _check_numbers(outputs)
            predictions += self.task.postprocess(outputs, frames, settings)
        return predictions


def _check_numbers(outputs: Mapping[str, NDArray[Any]]) -> None:
    """Check that no output is NaN or infinite: JSON has neither, and a client would read null.

    Raises:
        ScoringError: If one is.
    """
    for name, values in outputs.items():
        # The greatest value is NaN where any is. Scores of minus infinity are mere zeros.
        if values.dtype.kind == "f" and values.size and not values.max() < np.inf:
            raise ScoringError(
                f"The model's output {name!r} is not a number (NaN or infinite) for an image. "
                "Its weights are broken; train it again or serve another model."
            )


def prepare(image: bytes, spec: Preprocess, max_pixels: int = DEFAULT_MAX_PIXELS) -> Sample:
    """Return the network's input of an encoded image, and its position in the image.

    Raises:
        ImageError: If the image does not decode.
    """
    return sample_of(decode(image, max_pixels, spec.sample_bits), spec)


def sample_of(pixels: NDArray[np.uint8], spec: Preprocess) -> Sample:
    """Return the network's input, float32 [3, h, w], and its position in the image."""
    height, width = pixels.shape[:2]
    return preprocess(pixels, spec), input_frame(spec, (height, width))


def task_of(manifest: Manifest) -> Task[Any, Any]:
    """Return the manifest's task.

    Raises:
        ModelFolderError: If this version does not know it.
    """
    if manifest.task not in TASKS:
        raise ModelFolderError(
            f"manifest.json: task must be one of {', '.join(TASKS)}, got {manifest.task!r}. "
            "This model needs a newer autofocus."
        )
    return TASKS[manifest.task]
