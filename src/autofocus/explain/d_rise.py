"""D-RISE: resemblance to a box while random parts are hidden, averaged by the pixels shown.

Black-box Explanation of Object Detectors via Saliency Maps (Petsiuk et al., CVPR 2021), with masks
as in RISE (BMVC 2018). Any network that returns candidates can be explained: no gradient, no torch.

- A mask is a coarse grid of open and closed cells, shifted at random, with soft edges. Hidden
  pixels take the mean colour, which is zero after normalisation, as padding is.
- A candidate resembles a box by their overlap (IoU) times the candidate's score, if it is of the
  same class, else not at all: networks here name one class a candidate, so that the cosine of two
  score vectors is 1 or 0. The best candidate counts.
- A pixel's value is the mean resemblance over the masks that show it, by how much they do, less the
  mean over all masks: positive where seeing it helps. The order of pixels is the paper's.

Notation: h, w the canvas; h', w' its part that is image, from the upper left; t boxes; c candidates
an image; n masks.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.explain.base import Attribution, Detect, FoundBoxes
from autofocus.explain.parameters import Parameters
from autofocus.structures.boxes import box_iou, clip_boxes
from autofocus.structures.frames import Frame

OPEN_FRAC: Final = 0.5
# Pixels of one batch of masked images.
_PIXELS_PER_BATCH: Final = 1 << 20


@dataclass(frozen=True)
class BoxMaps:
    """D-RISE saliency map of each box.

    Attributes:
        maps: float32 [t, h', w'].
        mean_resemblance: float64 [t], over all masks.
        half_agreement: float64 [t], Pearson's correlation of the maps that either half of the
            masks alone gives; NaN where one of them is constant. Low: more masks.
    """

    maps: NDArray[np.float32]
    mean_resemblance: NDArray[np.float64]
    half_agreement: NDArray[np.float64]


class DRise:
    """See `explain.base.BoxMethod`."""

    name: ClassVar[str] = "d_rise"

    def attribute(
        self,
        detect: Detect,
        canvas: NDArray[np.float32],
        part: tuple[int, int],
        frame: Frame,
        boxes: FoundBoxes,
        parameters: Parameters,
        check: Callable[[], None],
    ) -> list[Attribution]:
        """See `BoxMethod.attribute`."""
        maps = box_maps(detect, canvas, part, frame, boxes, parameters, check)
        return [
            Attribution(
                maps.maps[k][None],
                self.name,
                int(boxes.classes[k]),
                "resemblance",
                "value",
                _metadata(maps, k, parameters),
            )
            for k in range(len(boxes))
        ]


def _metadata(maps: BoxMaps, k: int, parameters: Parameters) -> dict[str, Any]:
    agreement = float(maps.half_agreement[k])
    return {
        "mean_resemblance": float(maps.mean_resemblance[k]),
        "half_agreement": None if np.isnan(agreement) else agreement,
        "num_masks": parameters.num_masks,
        "grid": parameters.grid,
        "seed": parameters.seed,
    }


def box_maps(
    detect: Detect,
    canvas: NDArray[np.float32],
    part: tuple[int, int],
    frame: Frame,
    boxes: FoundBoxes,
    parameters: Parameters,
    check: Callable[[], None] = lambda: None,
) -> BoxMaps:
    """Explain boxes that were found on one canvas, all with the same masks.

    Args:
        detect: Runs the network.
        canvas: Input of the network, float32 [3, h, w].
        part: (h', w').
        frame: Position of the canvas in the image.
        boxes: Found boxes.
        parameters: `num_masks`, `grid` and `seed` are used.
        check: Called before each batch; may raise to stop.
    """
    halves = [_Sums(len(boxes), part), _Sums(len(boxes), part)]
    for i, masks in enumerate(_batches(parameters, part, canvas.shape[1:])):
        check()
        found = resemblance(detect(_hidden(canvas, masks)), frame, boxes)
        halves[i % 2].add(masks, found)
    first, second = (half.maps() for half in halves)
    both = halves[0].plus(halves[1])
    return BoxMaps(
        maps=both.maps().astype(np.float32),
        mean_resemblance=both.resemblance / both.num,
        half_agreement=np.array([_correlation(a, b) for a, b in zip(first, second, strict=True)]),
    )


def resemblance(
    outputs: Mapping[str, NDArray[Any]], frame: Frame, boxes: FoundBoxes
) -> NDArray[np.float64]:
    """Return how well the best candidate of each image resembles each box, [n, t], in [0, 1]."""
    found = np.zeros((len(outputs["scores"]), len(boxes)))
    for i, (placed, scores, classes) in enumerate(
        zip(outputs["boxes"], outputs["scores"], outputs["classes"], strict=True)
    ):
        # Candidates of other classes resemble nothing.
        rows = np.flatnonzero(np.isin(classes, boxes.classes))
        candidates = clip_boxes(frame.boxes_to_image(placed[rows]))
        same = boxes.classes[:, None] == classes[rows]
        alike = box_iou(boxes.xyxy_frac, candidates) * same * scores[rows]
        found[i] = alike.max(axis=1, initial=0.0)
    return found


def random_masks(
    rng: np.random.Generator, num: int, grid: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return masks [num, h', w'] in [0, 1]; 1 shows a pixel."""
    height, width = size
    cell_height, cell_width = -(-height // grid), -(-width // grid)
    masks = np.empty((num, height, width), np.float32)
    for mask in masks:
        cells = (rng.random((grid + 1, grid + 1)) < OPEN_FRAC).astype(np.float32)
        enlarged = ((grid + 1) * cell_width, (grid + 1) * cell_height)
        top, left = int(rng.integers(cell_height)), int(rng.integers(cell_width))
        soft = cv2.resize(cells, enlarged, interpolation=cv2.INTER_LINEAR)
        mask[:] = soft[top : top + height, left : left + width]
    return masks


def _batches(
    parameters: Parameters, part: tuple[int, int], canvas: tuple[int, ...]
) -> Iterator[NDArray[np.float32]]:
    """Yield all masks, a few at a time, in at least two batches."""
    rng = np.random.default_rng(parameters.seed)
    total = parameters.num_masks
    size = min(max(1, _PIXELS_PER_BATCH // (canvas[0] * canvas[1])), -(-total // 2))
    for start in range(0, total, size):
        yield random_masks(rng, min(size, total - start), parameters.grid, part)


def _hidden(canvas: NDArray[np.float32], masks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the canvas behind each mask, [n, 3, h, w]."""
    images = np.repeat(canvas[None], len(masks), axis=0)
    images[:, :, : masks.shape[1], : masks.shape[2]] *= masks[:, None]
    return images


class _Sums:
    """Sums over masks, from which the maps follow."""

    def __init__(self, num_boxes: int, size: tuple[int, int]) -> None:
        self.num = 0
        self.resemblance = np.zeros(num_boxes)
        self._size = size
        self._visible = np.zeros(size[0] * size[1])
        self._weighted = np.zeros((num_boxes, size[0] * size[1]))

    def add(self, masks: NDArray[np.float32], found: NDArray[np.float64]) -> None:
        flat = masks.reshape(len(masks), -1)
        self.num += len(masks)
        self.resemblance += found.sum(axis=0)
        self._visible += flat.sum(axis=0, dtype=np.float64)
        self._weighted += found.T.astype(np.float32) @ flat

    def plus(self, other: "_Sums") -> "_Sums":
        both = _Sums(len(self.resemblance), self._size)
        both.num = self.num + other.num
        both.resemblance = self.resemblance + other.resemblance
        both._visible = self._visible + other._visible
        both._weighted = self._weighted + other._weighted
        return both

    def maps(self) -> NDArray[np.float64]:
        """Return the maps, [t, h', w']; 0 where no mask showed a pixel."""
        mean = self.resemblance / self.num
        was_visible = self._visible > 0
        maps = np.zeros_like(self._weighted)
        np.divide(self._weighted, self._visible, out=maps, where=was_visible)
        maps[:, was_visible] -= mean[:, None]
        return maps.reshape(-1, *self._size)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
