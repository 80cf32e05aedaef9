"""Quality of explanations of boxes, measured on photos."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from autofocus.data.batches.tiles import pixel_region
from autofocus.data.sources.read import Data
from autofocus.errors import DataError, ImageError
from autofocus.explain.algorithms import names_of
from autofocus.explain.base import FoundBoxes
from autofocus.explain.measures import (
    Mask,
    Measurements,
    SaliencyMap,
    box_insertion_deletion,
    centred_gaussian,
    mean,
    pointing_game,
    random_map,
)
from autofocus.manifest import Manifest
from autofocus.runtime import Track, num_cores
from autofocus.scoring.explain.boxes import BoxExplainer, found_boxes, image_part
from autofocus.scoring.explain.measuring import Measuring, object_masks, sample_photos
from autofocus.scoring.explain.needs import WEIGHTS_NAME
from autofocus.scoring.scorer import Scorer
from autofocus.scoring.tiling import TiledView, view_of
from autofocus.structures.targets import BoxTarget

log = logging.getLogger(__name__)


def measure_boxes(
    folder: Path, data: Data[Any], measuring: Measuring, track: Track
) -> dict[str, Any]:
    """See `quality.measure_explanations`.

    A row has `num_images` (maps), `insertion`, `deletion`, `pointing` where the data has the found
    objects and, for the algorithm, `randomised` where torch is installed, and `half_agreement`.
    All are means; the areas have an `…_error`.
    """
    measurer = _Measurer(folder, measuring)
    num_images = 0
    total = min(measuring.max_images, len(data.records))
    for record, image in track(sample_photos(data, measuring), "explain", total):
        try:
            measurer.measure(record, image)
        except ImageError as error:
            log.warning("%s; left out", error)
        else:
            num_images += 1
    if not measurer.num_maps:
        raise DataError(f"{data.name}: nothing is found in any image that can be read.")
    return {
        "num_images": num_images,
        "num_explanations": measurer.num_maps,
        "algorithms": measurer.rows(),
        "refused": {},
    }


class _Measurer:
    """Explains and measures one photo after the other.

    Attributes:
        measurements: Measurements by the name of the algorithm or comparison map.
        agreements: Agreement of the maps of both halves of the masks, of D-RISE.
    """

    def __init__(self, folder: Path, measuring: Measuring) -> None:
        # The default; others of other distributions are not measured.
        self._algorithm = names_of("boxes")[0]
        names = (self._algorithm, "random map", "centred Gaussian")
        self.measurements = {name: Measurements() for name in names}
        self.agreements: list[float] = []
        self._scorer = Scorer.load(folder, num_threads=num_cores())
        self._explainer = BoxExplainer.load(folder)
        self._shuffled = _shuffled(folder, self._explainer.manifest, measuring.seed)
        self._parameters = replace(measuring.parameters, xai_algorithm=self._algorithm)
        self._seed = measuring.seed

    @property
    def num_maps(self) -> int:
        """Number of boxes so far."""
        return len(self.measurements[self._algorithm].areas)

    def measure(self, record: Any, image: bytes) -> None:
        """Explain the boxes found in a photo, and measure the maps.

        Raises:
            ImageError: If it does not decode.
        """
        pixels = self._scorer.try_decode(image)
        if isinstance(pixels, ImageError):
            raise pixels
        explainer, parameters = self._explainer, self._parameters
        prediction = self._scorer.predict(pixels)
        targets = explainer.selector.select(self._scorer.labels, prediction, parameters)
        if not targets:
            return
        boxes = found_boxes(targets)
        found = explainer.attributions(pixels, boxes, parameters)
        maps = [attribution.saliency() for attribution in found]
        truths = object_masks(self._target(record), boxes, maps[0].shape)
        regions, _ = explainer.best_views(pixels, boxes)
        for k, (saliency, truth) in enumerate(zip(maps, truths, strict=True)):
            view = view_of(pixels, explainer.manifest.preprocess, regions[k])
            self._measure(saliency, view, boxes[[k]], truth)
        self.agreements += [
            agreement
            for attribution in found
            if (agreement := attribution.metadata.get("half_agreement")) is not None
        ]
        if self._shuffled is not None:
            others = self._shuffled.attributions(pixels, boxes, parameters)
            similar = _similarities(maps, [other.saliency() for other in others])
            self.measurements[self._algorithm].similar += similar

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the quality of each algorithm and comparison map; there must be a map."""
        return {
            name: {
                **asdict(measurements.quality()),
                "half_agreement": mean(self.agreements) if name == self._algorithm else None,
            }
            for name, measurements in self.measurements.items()
        }

    def _target(self, record: Any) -> BoxTarget:
        """Return the labelled objects of classes that the model knows."""
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
        for measurements, each in zip(self.measurements.values(), maps, strict=True):
            placed = _on_canvas(each, view)
            detect = self._explainer.backend.run
            areas = box_insertion_deletion(detect, view.tensor, view.frame, box, placed, seed)
            measurements.areas.append(areas)
            if truth is not None:
                measurements.hits.append(pointing_game(each, truth))


def _on_canvas(saliency: SaliencyMap, view: TiledView) -> NDArray[np.float32]:
    """Return a map in the frame of the image as it lies on a view's canvas, padding left out."""
    height, width = saliency.shape
    left, top, right, bottom = pixel_region(view.region, (height, width))
    rows, columns = image_part(view)
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
