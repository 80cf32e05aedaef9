"""Tiled scoring with a network that finds red squares of at least five pixels of what it sees."""

from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from autofocus.data.batches.tiles import WHOLE, tile_regions
from autofocus.errors import ImageError, ModelFolderError
from autofocus.manifest import DataInfo, Manifest, ResizeFit, Tiling, WeightsInfo
from autofocus.scoring.scorer import MAX_BATCH, Scorer
from autofocus.scoring.tiling import tile_views
from autofocus.tasks.detection import ObjectDetection
from autofocus.tasks.instance_segmentation import InstanceSegmentation
from autofocus.tasks.multiclass import MulticlassClassification

NUM_CANDIDATES = 60
SPEC = ResizeFit(160, 160, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class RedSquares:
    """A backend whose candidates are the red parts of its input, with masks if wanted."""

    def __init__(self, *, has_masks: bool = False) -> None:
        self.has_masks = has_masks
        self.batches: list[int] = []

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(images))
        num, _, height, width = images.shape
        outputs = {
            "boxes": np.zeros((num, NUM_CANDIDATES, 4), np.float32),
            "scores": np.zeros((num, NUM_CANDIDATES), np.float32),
            "classes": np.zeros((num, NUM_CANDIDATES), np.int64),
        }
        if self.has_masks:
            outputs["box_masks"] = np.ones((num, NUM_CANDIDATES, 8, 8), np.float32)
        for i, image in enumerate(images):
            red = ((image[0] > 0.7) & (image[1] < 0.3)).astype(np.uint8)
            for j, (x, y, w, h, _) in enumerate(cv2.connectedComponentsWithStats(red)[2][1:]):
                if min(w, h) >= 5:
                    edges = [x / width, y / height, (x + w) / width, (y + h) / height]
                    outputs["boxes"][i, j] = edges
                    outputs["scores"][i, j] = 0.9
        return outputs


def manifest(tiling: Tiling | None, task: str = ObjectDetection.name) -> Manifest:
    return Manifest(
        task=task,
        labels=["square"],
        model_name="red",
        preprocess=SPEC,
        weights=WeightsInfo("random", "none"),
        data=DataInfo("0" * 64, 1, 1),
        tiling=tiling,
        outputs=["boxes", "scores", "classes"],
    )


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    """Boxes in pixels: many small squares and two that are larger than a tile's overlap."""
    small = [[80 + 113 * x, 40 + 97 * y] for x in range(9) for y in range(5)]
    boxes = [[x, y, x + 26, y + 26] for x, y in small]
    return np.array([*boxes, [100, 560, 420, 840], [500, 520, 1160, 880]])


@pytest.fixture(scope="module")
def photo(squares: np.ndarray) -> bytes:
    image = np.full((900, 1200, 3), 90, np.uint8)
    for left, top, right, bottom in squares:
        image[top:bottom, left:right] = (230, 20, 20)
    done, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return png.tobytes()


def corners(response: dict[str, Any]) -> np.ndarray:
    boxes = [list(item["box"].values()) for item in response["boxes"]]
    return np.array(boxes).reshape(-1, 4) * [1200, 900, 1200, 900]


def test_whole_image_alone_shows_only_the_large(photo: bytes) -> None:
    (response,) = Scorer(manifest(None), RedSquares()).score([photo])
    assert len(response["boxes"]) == 2


@pytest.mark.parametrize("tiling", [Tiling(4, 3), Tiling(5, 4, 0.1), Tiling(3, 3, 0.0)])
def test_tiles_show_every_object_once(photo: bytes, squares: np.ndarray, tiling: Tiling) -> None:
    (response,) = Scorer(manifest(tiling), RedSquares()).score([photo])
    found = corners(response)
    apart = np.abs(found[:, None] - squares).max(axis=2)
    assert sorted(apart.argmin(axis=1)) == list(range(len(squares)))
    # Two pixels of what the network saw: of a tile for the small, of the image for the large.
    tile = 1200 / (tiling.overlap_frac + (1 - tiling.overlap_frac) * min(tiling.cols, tiling.rows))
    assert apart.min(axis=1)[apart.argmin(axis=1) < 45].max() <= 2 * tile / 160
    assert apart.min(axis=1).max() <= 2 * 1200 / 160


def test_outlines_are_tiled_too(photo: bytes, squares: np.ndarray) -> None:
    scorer = Scorer(manifest(Tiling(4, 3), InstanceSegmentation.name), RedSquares(has_masks=True))
    (response,) = scorer.score([photo])
    assert len(response["boxes"]) == len(squares)
    assert all(item["polygon"] for item in response["boxes"])


def test_cap_holds_for_the_image_and_not_for_each_tile(photo: bytes) -> None:
    capped = msgspec.structs.replace(
        manifest(Tiling(4, 3)), settings={"box_detections_per_image": 7}
    )
    (response,) = Scorer(capped, RedSquares()).score([photo])
    assert len(response["boxes"]) == 7


def test_broken_images_keep_their_place_and_nothing_red_is_no_object(photo: bytes) -> None:
    blank = cv2.imencode(".png", np.full((50, 70, 3), 90, np.uint8))[1].tobytes()
    scorer = Scorer(manifest(Tiling(3, 2)), RedSquares())
    responses = scorer.score([b"", photo, blank])
    assert responses[0]["error"]["code"] == "image.empty"
    assert responses[1]["boxes"]
    assert responses[2] == {"boxes": []}
    assert isinstance(scorer.try_predict([b"text"])[0], ImageError)


def test_large_grids_run_in_batches(photo: bytes) -> None:
    backend = RedSquares()
    Scorer(manifest(Tiling(6, 5)), backend).score([photo])
    assert sum(backend.batches) == 31
    assert max(backend.batches) == MAX_BATCH


def test_warm_up_of_a_tiled_model_runs_the_network_once() -> None:
    backend = RedSquares()
    Scorer(manifest(Tiling(3, 2)), backend).warm_up()
    assert backend.batches == [1]


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (100, 333)])
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_views_lie_where_they_were_cut(size: tuple[int, int], keep_aspect: bool) -> None:
    """A point of the image is the same point in every view that shows it."""
    height, width = size
    image = np.zeros((*size, 3), np.uint8)
    tiling = Tiling(3, 2)
    spec = msgspec.structs.replace(SPEC, keep_aspect=keep_aspect)
    views = list(tile_views(image, spec, tiling))
    for view, wanted in zip(views, [WHOLE, *tile_regions(tiling)], strict=True):
        assert view.tensor.shape == (3, 160, 160)
        assert view.frame.size == size
        pixels = np.array(view.region) * [width, height, width, height]
        np.testing.assert_allclose(pixels, pixels.round(), atol=1e-9)
        # Whole pixels, and less than one more than the tile.
        beyond = (pixels - np.array(wanted) * [width, height, width, height]) * [-1, -1, 1, 1]
        assert ((beyond >= -1e-9) & (beyond < 1 + 1e-9)).all()
        # The canvas begins where the part does, and shows all of it.
        assert view.frame.region[:2] == pytest.approx(view.region[:2])
        assert (np.array(view.frame.region[2:]) >= np.array(view.region[2:]) - 1e-9).all()
        if not keep_aspect:
            assert view.frame.region == pytest.approx(view.region)


def test_tiling_is_refused_for_whole_image_tasks() -> None:
    wrong = manifest(Tiling(3, 2), MulticlassClassification.name)
    with pytest.raises(ModelFolderError, match=r"tiling is for models that find objects"):
        Scorer(wrong, RedSquares())
