"""Explain the boxes that a model finds in an image, with any backend of its network. No torch.

Each box is explained on the one view of the image that finds it best: the whole, or a tile. Its
map lies in the frame of the whole image, at the size of the network's input.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.tiles import WHOLE, tile_regions
from autofocus.data.images.decode import DEFAULT_MAX_PIXELS
from autofocus.errors import ModelFolderError
from autofocus.explain.algorithms import box_method
from autofocus.explain.base import Attribution, FoundBoxes
from autofocus.explain.d_rise import resemblance
from autofocus.explain.parameters import Parameters
from autofocus.manifest import Manifest, check_files, read_manifest
from autofocus.pictures.maps import mapped_photo
from autofocus.runtime import num_cores
from autofocus.scoring.backends.joined import Backend
from autofocus.scoring.backends.onnx import OnnxBackend
from autofocus.scoring.explain.explainer import Explanation, ModelExplainer, explanation_of
from autofocus.scoring.explain.needs import WEIGHTS_NAME, why_unavailable
from autofocus.scoring.explain.request import BoxSelector, ExplanationTarget
from autofocus.scoring.scorer import ONNX_NAME
from autofocus.scoring.tiling import TiledView, view_of
from autofocus.structures.frames import Region


class BoxExplainer(ModelExplainer):
    """Explains boxes with one network.

    Args:
        manifest: Description of the model.
        backend: Runs the network.
        max_pixels: Larger images are refused before they are decoded.
    """

    def __init__(
        self, manifest: Manifest, backend: Backend, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        super().__init__(manifest, BoxSelector(), max_pixels)
        self.backend = backend

    @classmethod
    def load(
        cls, folder: Path, num_threads: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> "BoxExplainer":
        """Load the ONNX network of a model folder; see `explanations.load_explainer`.

        Raises:
            ModelFolderError: If anything in the folder is missing, damaged or does not fit.
        """
        if reason := why_unavailable(folder):
            raise ModelFolderError(f"{folder}: {reason}")
        manifest = read_manifest(folder)
        check_files(folder, manifest, optional=(WEIGHTS_NAME,))
        return cls(
            manifest, OnnxBackend(folder / ONNX_NAME, num_threads or num_cores()), max_pixels
        )

    def warm_up(self) -> None:
        """Run the network once."""
        self.backend.run(np.zeros((1, 3, *self.manifest.preprocess.size), np.float32))

    def explain(
        self,
        pixels: NDArray[np.uint8],
        targets: Sequence[ExplanationTarget],
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Explanation]:
        """See `ModelExplainer.explain`."""
        if not targets:
            return []
        attributions = self.attributions(pixels, found_boxes(targets), parameters, check)
        photo = None
        if parameters.visualizations:
            height, width = map_size(pixels, self.manifest.preprocess.size)
            seen = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
            photo = mapped_photo(pixels, np.asarray(seen, np.uint8))
        return [
            explanation_of(target, attribution, parameters, photo)
            for target, attribution in zip(targets, attributions, strict=True)
        ]

    def attributions(
        self,
        pixels: NDArray[np.uint8],
        boxes: FoundBoxes,
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Attribution]:
        """Return one attribution a box, in order; maps are [1, h, w], of `map_size`.

        Args:
            pixels: The decoded image, RGB [h, w, 3].
            boxes: Boxes found in it.
            parameters: `xai_algorithm`, and those of that algorithm.
            check: Called now and then; may raise to stop.
        """
        method = box_method(parameters.xai_algorithm)
        size = map_size(pixels, self.manifest.preprocess.size)
        regions, resemblances = self.best_views(pixels, boxes, check)
        found: dict[int, Attribution] = {}
        for region in dict.fromkeys(regions):
            rows = np.array([i for i, best in enumerate(regions) if best == region])
            view = view_of(pixels, self.manifest.preprocess, region)
            part = image_part(view)
            explained = method.attribute(
                self.backend.run, view.tensor, part, view.frame, boxes[rows], parameters, check
            )
            for i, attribution in zip(rows.tolist(), explained, strict=True):
                placed = _in_image(attribution.map[0], view.region, size)
                metadata = {"resemblance": float(resemblances[i]), **attribution.metadata}
                found[i] = replace(attribution, map=placed[None], metadata=metadata)
        return [found[i] for i in range(len(boxes))]

    def best_views(
        self,
        pixels: NDArray[np.uint8],
        boxes: FoundBoxes,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[list[Region], NDArray[np.float64]]:
        """Return the region of the view that finds each box best, and its resemblance, [t]."""
        best: list[Region] = [WHOLE] * len(boxes)
        resemblances = np.full(len(boxes), -1.0)
        tiles = tile_regions(self.manifest.tiling) if self.manifest.tiling else []
        for region in (WHOLE, *tiles):
            check()
            view = view_of(pixels, self.manifest.preprocess, region)
            (found,) = resemblance(self.backend.run(view.tensor[None]), view.frame, boxes)
            for i in np.flatnonzero(found > resemblances):
                best[i], resemblances[i] = region, found[i]
        return best, resemblances


def image_part(view: TiledView) -> tuple[int, int]:
    """Return the (height, width) of the part of a view's canvas that is image, not padding."""
    canvas_height, canvas_width = view.tensor.shape[1:]
    left, top, right, bottom = view.frame.region
    height = round(canvas_height * (view.region[3] - top) / (bottom - top))
    width = round(canvas_width * (view.region[2] - left) / (right - left))
    return max(1, min(height, canvas_height)), max(1, min(width, canvas_width))


def map_size(pixels: NDArray[np.uint8], canvas: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of an image's maps: its aspect, the canvas's longer side."""
    height, width = pixels.shape[:2]
    scale = max(canvas) / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def found_boxes(targets: Sequence[ExplanationTarget]) -> FoundBoxes:
    """Return boxes to explain as arrays."""
    return FoundBoxes(
        np.array([target.xyxy_frac for target in targets], np.float32),
        np.array([target.class_index for target in targets], np.int64),
    )


def _in_image(
    values: NDArray[np.float32], region: Region, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return a region's map in the frame of the image, [h, w]; 0 outside the region."""
    height, width = size
    left, right = (round(region[side] * width) for side in (0, 2))
    top, bottom = (round(region[side] * height) for side in (1, 3))
    placed = np.zeros(size, np.float32)
    within = (max(1, right - left), max(1, bottom - top))
    resized = cv2.resize(values, within, interpolation=cv2.INTER_LINEAR)
    placed[top:bottom, left:right] = resized[: bottom - top, : right - left]
    return placed
