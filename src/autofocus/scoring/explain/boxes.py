"""Explain the boxes that a model finds in an image, with whatever runs its network. No torch.

Each box is explained on the one view of the image that finds it best: the whole, or a tile. Its
map lies in the frame of the whole image, which is as large as the network sees it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.tiles import WHOLE, Region, tile_regions
from autofocus.data.images.decode import DEFAULT_MAX_PIXELS, decode
from autofocus.errors import ModelFolderError
from autofocus.explain.base import Attribution
from autofocus.explain.d_rise import BoxMaps, FoundBoxes, box_maps, resemblance
from autofocus.explain.parameters import Parameters
from autofocus.manifest import Manifest, check_files, read_manifest
from autofocus.pictures.maps import Caption, method_text, visualize
from autofocus.runtime import num_cores
from autofocus.scoring.backends.onnx import OnnxBackend
from autofocus.scoring.explain.explanations import Explanation, ModelExplainer
from autofocus.scoring.explain.needs import WEIGHTS_NAME, why_unavailable
from autofocus.scoring.explain.request import BoxChoice, Explained
from autofocus.scoring.scorer import ONNX_NAME, Backend
from autofocus.scoring.tiling import TiledView, view_of

ALGORITHM = "d_rise"


class BoxExplainer(ModelExplainer):
    """Explains boxes with one network.

    Args:
        manifest: What the model is.
        backend: What runs its network.
        max_pixels: Larger images are refused before they are decoded.
    """

    def __init__(
        self, manifest: Manifest, backend: Backend, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        super().__init__(manifest, BoxChoice())
        self.backend = backend
        self._max_pixels = max_pixels

    @classmethod
    def load(
        cls, folder: Path, num_threads: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> "BoxExplainer":
        """Load the ONNX network of a model folder.

        Args:
            folder: A model folder.
            num_threads: Inside one run; None takes all cores.
            max_pixels: Larger images are refused before they are decoded.

        Raises:
            ModelFolderError: If anything in the folder is missing, damaged or does not fit.
        """
        if reason := why_unavailable(folder):
            raise ModelFolderError(f"{folder}: {reason}")
        manifest = read_manifest(folder)
        check_files(folder, manifest, may_lack=(WEIGHTS_NAME,))
        return cls(
            manifest, OnnxBackend(folder / ONNX_NAME, num_threads or num_cores()), max_pixels
        )

    def warm_up(self) -> None:
        """Run the network once."""
        self.backend.run(np.zeros((1, 3, *self.manifest.preprocess.size), np.float32))

    def explain(
        self,
        image: bytes,
        explained: Sequence[Explained],
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Explanation]:
        """See `ModelExplainer.explain`."""
        if not explained:
            return []
        pixels = decode(image, self._max_pixels)
        boxes = FoundBoxes(
            np.array([box.xyxy_frac for box in explained], np.float32),
            np.array([box.index for box in explained], np.int64),
        )
        attributions = self.attributions(pixels, boxes, parameters, check)
        photo = shown_photo(pixels, self.manifest.preprocess.size)
        return [
            Explanation(box, attribution, _png(photo, box, attribution, parameters))
            for box, attribution in zip(explained, attributions, strict=True)
        ]

    def attributions(
        self,
        pixels: NDArray[np.uint8],
        boxes: FoundBoxes,
        parameters: Parameters,
        check: Callable[[], None] = lambda: None,
    ) -> list[Attribution]:
        """Return one attribution a box, in order; maps are [1, h, w] of `shown_photo`.

        Args:
            pixels: The decoded image, RGB [h, w, 3].
            boxes: What was found in it.
            parameters: `num_masks`, `grid` and `seed` are used.
            check: Called now and then; may raise to stop.
        """
        size = shown_size(pixels, self.manifest.preprocess.size)
        regions, alike = self.best_views(pixels, boxes, check)
        found: dict[int, Attribution] = {}
        for region in dict.fromkeys(regions):
            rows = np.array([i for i, best in enumerate(regions) if best == region])
            view = view_of(pixels, self.manifest.preprocess, region)
            shown = part_shown(view)
            maps = box_maps(
                self.backend.run, view.tensor, shown, view.frame, boxes[rows], parameters, check
            )
            for k, i in enumerate(rows.tolist()):
                placed = placed_in_image(maps.maps[k], view.region, size)
                metadata = {"resemblance": float(alike[i]), **_metadata(maps, k, parameters)}
                target = int(boxes.classes[i])
                found[i] = Attribution(
                    placed[None], ALGORITHM, target, "resemblance", "value", metadata
                )
        return [found[i] for i in range(len(boxes))]

    def best_views(
        self,
        pixels: NDArray[np.uint8],
        boxes: FoundBoxes,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[list[Region], NDArray[np.float64]]:
        """Return the region of the view that finds each box best, and how well, [t]."""
        best: list[Region] = [WHOLE] * len(boxes)
        alike = np.full(len(boxes), -1.0)
        tiles = tile_regions(self.manifest.tiling) if self.manifest.tiling else []
        for region in (WHOLE, *tiles):
            check()
            view = view_of(pixels, self.manifest.preprocess, region)
            (found,) = resemblance(self.backend.run(view.tensor[None]), view.frame, boxes)
            for i in np.flatnonzero(found > alike):
                best[i], alike[i] = region, found[i]
        return best, alike


def part_shown(view: TiledView) -> tuple[int, int]:
    """Return the (height, width) of what on a view's canvas is image; the rest is padding."""
    canvas_height, canvas_width = view.tensor.shape[1:]
    left, top, right, bottom = view.frame.region
    height = round(canvas_height * (view.region[3] - top) / (bottom - top))
    width = round(canvas_width * (view.region[2] - left) / (right - left))
    return max(1, min(height, canvas_height)), max(1, min(width, canvas_width))


def shown_size(pixels: NDArray[np.uint8], canvas: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of an image whose longer side is the canvas's, aspect kept."""
    height, width = pixels.shape[:2]
    scale = max(canvas) / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def shown_photo(pixels: NDArray[np.uint8], canvas: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the image at `shown_size`."""
    height, width = shown_size(pixels, canvas)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def placed_in_image(
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


def _metadata(maps: BoxMaps, k: int, parameters: Parameters) -> dict[str, Any]:
    agreement = float(maps.half_agreement[k])
    return {
        "mean_resemblance": float(maps.mean_resemblance[k]),
        "half_agreement": None if np.isnan(agreement) else agreement,
        "num_masks": parameters.num_masks,
        "grid": parameters.grid,
        "seed": parameters.seed,
    }


def _png(
    photo: NDArray[np.uint8], box: Explained, attribution: Attribution, parameters: Parameters
) -> bytes | None:
    if not parameters.visualizations:
        return None
    method = method_text(attribution, parameters)
    caption = Caption(box.label, box.probability, method, box.xyxy_frac)
    return visualize(photo, attribution.saliency(), caption, parameters.visualization_style)
