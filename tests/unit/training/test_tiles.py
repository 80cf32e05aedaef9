"""Tiled training and evaluation: the same views and the same figures as the packaged model's."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from autofocus.data.batches.cache.budget import CacheBudget
from autofocus.data.batches.tiles import evaluation_entries
from autofocus.data.rows.records import BoxLabel, DetectionRecord
from autofocus.manifest import DataInfo, Manifest, ResizeFit, Tiling, WeightsInfo
from autofocus.models.network import Network
from autofocus.scoring.scorer import Scorer
from autofocus.tasks.detection import ObjectDetection
from autofocus.training.candidate import Samples
from autofocus.training.evaluate import EvaluationSet, evaluate
from autofocus.training.loaders import evaluation_loader, training_loader
from autofocus.training.losses.detection import DetectionObjective
from autofocus.training.recipe import Recipe

TASK = ObjectDetection()
SPEC = ResizeFit(96, 96, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
TILING = Tiling(3, 2)
NUM_CANDIDATES = 60
CACHE = CacheBudget(1 << 26)


class RedSquares(Network):
    """Finds red squares of at least five pixels."""

    output_names = ("boxes", "scores", "classes")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        num, _, height, width = images.shape
        boxes = torch.zeros(num, NUM_CANDIDATES, 4)
        scores = torch.zeros(num, NUM_CANDIDATES)
        for i, image in enumerate(images.numpy()):
            red = ((image[0] > 0.7) & (image[1] < 0.3)).astype(np.uint8)
            for j, (x, y, w, h, _) in enumerate(cv2.connectedComponentsWithStats(red)[2][1:]):
                if min(w, h) >= 5:
                    edges = [x / width, y / height, (x + w) / width, (y + h) / height]
                    boxes[i, j] = torch.tensor(edges)
                    scores[i, j] = 0.9
        return boxes, scores, torch.zeros(num, NUM_CANDIDATES, dtype=torch.int64)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """As a backend of the scorer."""
        outputs = self(torch.from_numpy(images))
        return {k: v.numpy() for k, v in zip(self.output_names, outputs, strict=True)}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("photos")
    records, locations = [], []
    for number in range(3):
        image = np.full((600, 900, 3), 100, np.uint8)
        label = []
        for x in range(40 + 10 * number, 860, 131):
            for y in range(30, 560, 120):
                image[y : y + 40, x : x + 40] = (20, 20, 230)
                corners = {"top_x": x / 900, "top_y": y / 600}
                corners |= {"bottom_x": (x + 40) / 900, "bottom_y": (y + 40) / 600}
                label.append(BoxLabel(label="red", **corners))
        path = folder / f"{number}.png"
        assert cv2.imwrite(str(path), image)
        records.append(DetectionRecord(image_url=path.name, label=label))
        locations.append(str(path))
    targets = TASK.encode_targets(records, ["red"])
    return Samples(records, locations, targets, locations, locations, "red")


def scorer(tiling: Tiling | None) -> Scorer:
    manifest = Manifest(
        task=TASK.name,
        labels=["red"],
        model_name="red",
        preprocess=SPEC,
        weights=WeightsInfo("random", "none"),
        data=DataInfo("0" * 64, 1, 1),
        tiling=tiling,
        outputs=list(RedSquares.output_names),
    )
    return Scorer(manifest, RedSquares())


@pytest.mark.parametrize("tiling", [TILING, None])
def test_evaluation_finds_what_the_scorer_finds(samples: Samples, tiling: Tiling | None) -> None:
    entries = evaluation_entries(len(samples), tiling) if tiling else []
    objective = DetectionObjective(RedSquares())
    recipe = Recipe(batch_size=4)
    with evaluation_loader(samples, objective, SPEC, recipe, CACHE, entries) as loader:
        data = EvaluationSet(loader, samples.targets, ["red"], {}, entries)
        result = evaluate(RedSquares(), TASK, data, torch.device("cpu"))
    settings = TASK.evaluation_settings({})
    contents = [Path(location).read_bytes() for location in samples.locations]
    for left, right in zip(
        result.predictions, scorer(tiling).try_predict(contents, settings), strict=True
    ):
        np.testing.assert_array_equal(left.xyxy_frac, right.xyxy_frac)
        np.testing.assert_array_equal(left.scores, right.scores)
    found = result.metrics["mean_average_precision"]
    assert found > 0.99 if tiling else found < 0.01


def test_training_draws_the_image_and_its_tiles(samples: Samples) -> None:
    recipe = Recipe(augmentation="light", batch_size=4)
    numbers = []
    for tiling in (None, TILING):
        with training_loader(
            samples,
            DetectionObjective(RedSquares()),
            SPEC,
            recipe,
            0,
            CACHE,
            tiling,
        ) as loader:
            batches = list(loader.epoch(0))
        index = np.concatenate([batch.index for batch in batches])
        assert len(set(index.tolist())) == len(index)
        numbers.append(len(index))
        assert all(len(target) for batch in batches for target in batch.targets)
    assert numbers == [3, 20]  # 21, without the last batch that is not full
