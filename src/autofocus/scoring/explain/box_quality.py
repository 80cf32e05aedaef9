"""What explanations of boxes are worth on photos: does the map show what finds the box."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.tiles import pixel_region
from autofocus.data.images.decode import decode
from autofocus.data.sources.read import Data
from autofocus.errors import DataError, ImageError
from autofocus.explain.d_rise import FoundBoxes
from autofocus.explain.measures import (
    Mask,
    SaliencyMap,
    box_insertion_deletion,
    centred_gaussian,
    pointing_game,
    random_map,
)
from autofocus.manifest import Manifest
from autofocus.runtime import Track, num_cores
from autofocus.scoring.explain.boxes import ALGORITHM, BoxExplainer, part_shown
from autofocus.scoring.explain.needs import WEIGHTS_NAME
from autofocus.scoring.explain.quality import Measuring, drawn
from autofocus.scoring.scorer import Scorer
from autofocus.scoring.tiling import TiledView, view_of
from autofocus.structures.boxes import box_iou
from autofocus.structures.polygons import rasterize
from autofocus.structures.targets import BoxTarget, OutlineTarget

log = logging.getLogger(__name__)

# A found box is of the labelled object of its class that it overlaps by this much.
_SAME_OBJECT_IOU: Final = 0.5


@dataclass
class _Row:
    """What one way of making maps reached, box by box."""

    areas: list[tuple[float, float]] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    similar: list[float] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        areas = np.array(self.areas)
        insertion, deletion = areas.mean(axis=0).tolist()
        errors = (areas.std(axis=0) / np.sqrt(len(areas))).tolist()
        return {
            "num_images": len(areas),
            "insertion": insertion,
            "insertion_error": errors[0],
            "deletion": deletion,
            "deletion_error": errors[1],
            "pointing": _mean(self.hits),
            "randomised": _mean(self.similar),
            "half_agreement": _mean(self.agreement),
        }


def measure_boxes(
    folder: Path, data: Data[Any], measuring: Measuring, track: Track
) -> dict[str, Any]:
    """See `explain_quality.measure_explanations`.

    A row has `num_images` (maps), `insertion`, `deletion`, `pointing` where the data has the found
    objects and, of the algorithm, `randomised` where torch is installed, and `half_agreement`.
    All are means; the areas have an `…_error`.
    """
    judge = _Judge(folder, measuring)
    num_images = 0
    total = min(measuring.max_images, len(data.records))
    for record, image in track(drawn(data, measuring), "explain", total):
        try:
            judge.see(record, image)
        except ImageError as error:
            log.warning("%s; left out", error)
        else:
            num_images += 1
    if not judge.num_maps:
        raise DataError(f"{data.name}: nothing is found in any image that can be read.")
    return {
        "num_images": num_images,
        "num_explanations": judge.num_maps,
        "algorithms": {name: row.summary() for name, row in judge.rows.items()},
        "refused": {},
    }


class _Judge:
    """Explains and measures one photo after the other.

    Attributes:
        rows: By the name of what makes the maps.
    """

    def __init__(self, folder: Path, measuring: Measuring) -> None:
        self.rows = {name: _Row() for name in (ALGORITHM, "random map", "centred Gaussian")}
        self._scorer = Scorer.load(folder, num_threads=num_cores())
        self._explainer = BoxExplainer.load(folder)
        self._shuffled = _shuffled(folder, self._explainer.manifest, measuring.seed)
        self._parameters = replace(measuring.parameters, xai_algorithm=ALGORITHM)
        self._seed = measuring.seed

    @property
    def num_maps(self) -> int:
        """Boxes so far."""
        return len(self.rows[ALGORITHM].areas)

    def see(self, record: Any, image: bytes) -> None:
        """Explain what is found in a photo.

        Raises:
            ImageError: If it does not decode.
        """
        (prediction,) = self._scorer.try_predict([image])
        if isinstance(prediction, ImageError):
            raise prediction
        explainer, parameters = self._explainer, self._parameters
        chosen = explainer.choice.choose(self._scorer.labels, prediction, parameters)
        if not chosen:
            return
        pixels = decode(image)
        boxes = FoundBoxes(
            np.array([box.xyxy_frac for box in chosen], np.float32),
            np.array([box.index for box in chosen], np.int64),
        )
        found = explainer.attributions(pixels, boxes, parameters)
        maps = [attribution.saliency() for attribution in found]
        truths = found_objects(self._target(record), boxes, maps[0].shape)
        regions, _ = explainer.best_views(pixels, boxes)
        for k, (saliency, truth) in enumerate(zip(maps, truths, strict=True)):
            view = view_of(pixels, explainer.manifest.preprocess, regions[k])
            self._measure(saliency, view, boxes[[k]], truth)
        row = self.rows[ALGORITHM]
        row.agreement += [
            agreement
            for attribution in found
            if (agreement := attribution.metadata["half_agreement"]) is not None
        ]
        if self._shuffled is not None:
            others = self._shuffled.attributions(pixels, boxes, parameters)
            row.similar += _similarities(maps, [other.saliency() for other in others])

    def _target(self, record: Any) -> BoxTarget:
        """Return what a record says of classes that the model knows."""
        scorer = self._scorer
        known = [item for item in record.label if item.label in scorer.labels]
        record = msgspec.structs.replace(record, label=known)
        target: BoxTarget = scorer.task.encode_targets([record], scorer.labels)[0]
        return target

    def _measure(
        self, saliency: SaliencyMap, view: TiledView, box: FoundBoxes, truth: Mask | None
    ) -> None:
        height, width = saliency.shape
        seed = self._seed + self.num_maps
        maps = (saliency, random_map(height, width, seed), centred_gaussian(height, width))
        for row, each in zip(self.rows.values(), maps, strict=True):
            placed = _on_canvas(each, view)
            detect = self._explainer.backend.run
            areas = box_insertion_deletion(detect, view.tensor, view.frame, box, placed, seed)
            row.areas.append(areas)
            if truth is not None:
                row.hits.append(pointing_game(each, truth))


def found_objects(target: BoxTarget, boxes: FoundBoxes, size: tuple[int, ...]) -> list[Mask | None]:
    """Return where the labelled object of each found box is, bool [h, w]; None where there is none.

    Args:
        target: What is labelled in the image.
        boxes: t boxes that were found.
        size: (height, width) of the masks, in pixels.
    """
    overlaps = box_iou(boxes.xyxy_frac, target.xyxy_frac)  # [t, m]
    overlaps = overlaps * (boxes.classes[:, None] == target.classes) * ~target.is_crowd
    masks: list[Mask | None] = []
    for row in overlaps:
        is_found = len(row) > 0 and row.max() >= _SAME_OBJECT_IOU
        masks.append(_object_mask(target, int(row.argmax()), size) if is_found else None)
    return masks


def _object_mask(target: BoxTarget, i: int, size: tuple[int, ...]) -> Mask:
    height, width = size
    if isinstance(target, OutlineTarget):
        (pixels,) = rasterize([target.polygons[i]], (height, width))
        if pixels.any():
            return np.asarray(pixels, np.bool_)
    return inside(target.xyxy_frac[i], (height, width))


def inside(xyxy_frac: Sequence[float] | NDArray[np.float32], size: tuple[int, int]) -> Mask:
    """Return which pixels lie in a box in fractions, at least one, bool [h, w]."""
    height, width = size
    left, top, right, bottom = np.array(xyxy_frac) * (width, height, width, height)
    first = int(min(top, height - 1)), int(min(left, width - 1))
    mask: NDArray[np.bool_] = np.zeros(size, np.bool_)
    mask[
        first[0] : max(first[0] + 1, round(bottom)), first[1] : max(first[1] + 1, round(right))
    ] = True
    return mask


def _on_canvas(saliency: SaliencyMap, view: TiledView) -> NDArray[np.float32]:
    """Return a map in the frame of the image as it lies on a view's canvas, padding left out."""
    height, width = saliency.shape
    left, top, right, bottom = pixel_region(view.region, (height, width))
    rows, columns = part_shown(view)
    part = np.ascontiguousarray(saliency[top:bottom, left:right], np.float32)
    placed = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(placed, np.float32)


def _shuffled(folder: Path, manifest: Manifest, seed: int) -> BoxExplainer | None:
    """Return the explainer of the same network with shuffled weights, or None without torch."""
    if find_spec("torch") is None or not (folder / WEIGHTS_NAME).is_file():
        log.warning("weights are not shuffled: that needs torch and %s", WEIGHTS_NAME)
        return None
    from autofocus.explain.class_measures import shuffle_weights
    from autofocus.scoring.backends.torch import TorchBackend, load_network

    network = shuffle_weights(load_network(folder, manifest), seed)
    return BoxExplainer(manifest, TorchBackend(network, manifest.outputs))


def _similarities(maps: Sequence[SaliencyMap], others: Sequence[SaliencyMap]) -> list[float]:
    """Return the rank correlation of each pair of maps, none of which is constant."""
    from autofocus.explain.class_measures import rank_correlation

    pairs = zip(maps, others, strict=True)
    similar = [rank_correlation(one, other) for one, other in pairs]
    return [value for value in similar if value is not None and np.isfinite(value)]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
