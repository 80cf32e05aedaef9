"""Boxes explained with a detector whose needs are known: maps, tiles, replies, quality."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import autofocus
from autofocus.data.images.decode import decode, try_decode
from autofocus.data.options import ReadOptions
from autofocus.errors import DataError, ImageError, RequestError
from autofocus.explain.algorithms import ALGORITHMS, Algorithm
from autofocus.explain.base import Attribution, FoundBoxes
from autofocus.explain.parameters import Parameters
from autofocus.manifest import Tiling
from autofocus.scoring.explain.boxes import BoxExplainer
from autofocus.scoring.explain.explainer import Explanation
from autofocus.scoring.explain.explanations import explain_images, load_explainer
from autofocus.scoring.explain.measuring import Measuring, box_mask, object_masks
from autofocus.scoring.explain.needs import why_unavailable
from autofocus.scoring.explain.quality import measure_explanations, read_photos
from autofocus.scoring.explain.request import ExplainRow, checked_parameters
from autofocus.scoring.scorer import Scorer
from autofocus.structures.targets import BoxTarget, OutlineTarget
from autofocus.tasks.detection import ObjectDetection
from support.counting import count_calls
from support.tiny_detector import BOXES, CANVAS, LABELS, bright_photo, write_tiny_detector

QUICK = Parameters(xai_algorithm="d_rise", num_masks=200, grid=6)
TALL, WIDE = (128, 96), (96, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_detector(tmp_path_factory.mktemp("boxes") / "model", ObjectDetection.name)


@pytest.fixture(scope="module")
def explainer(folder: Path) -> BoxExplainer:
    explainer = load_explainer(folder, num_threads=1)
    assert isinstance(explainer, BoxExplainer)
    explainer.warm_up()
    return explainer


def explained(
    folder: Path, explainer: BoxExplainer, image: bytes, parameters: Parameters = QUICK
) -> list[Explanation]:
    scorer = Scorer.load(folder)
    (found,) = scorer.try_predict([image])
    chosen = explainer.selector.select(scorer.labels, found, parameters)
    return explainer.explain(decode(image), chosen, parameters)


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_maps_are_highest_in_their_boxes_in_the_frame_of_the_image(
    folder: Path, explainer: BoxExplainer, size: tuple[int, int]
) -> None:
    found = explained(folder, explainer, bright_photo(size))
    # The second box of a tall image lies in the padding.
    assert sorted(e.label for e in found) == (["lamp", "star"] if size == WIDE else ["lamp"])
    for explanation in found:
        assert explanation.map.shape == (1, *(np.array(size) * 64 // 128))
        highest = explanation.map[0].ravel().argmax()
        assert explanation.xyxy_frac is not None
        where = box_mask(explanation.xyxy_frac, explanation.map[0].shape)
        assert where.ravel()[highest]
        metadata = explanation.attribution.metadata
        assert metadata["resemblance"] == pytest.approx(explanation.probability, abs=1e-4)
        assert metadata["mean_resemblance"] < metadata["resemblance"]
        assert metadata["half_agreement"] > 0.5
        assert explanation.attribution.output == "resemblance"


class Inside:
    """Marks the pixels of each box on its canvas."""

    name = "inside"

    def attribute(self, detect, canvas, part, frame, boxes, parameters, check):
        found = []
        for xyxy_frac, target in zip(boxes.xyxy_frac, boxes.classes.tolist(), strict=True):
            mask = box_mask(tuple(xyxy_frac), part)[None].astype(np.float32)
            found.append(Attribution(mask, self.name, target, "resemblance", "value", {"own": 1}))
        return found


def test_an_algorithm_from_outside_explains_boxes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALGORITHMS, "inside", Algorithm("boxes", "Inside", Inside))
    (found,) = autofocus.load(folder).explain([bright_photo()], xai_algorithm="inside")
    assert sorted(each.label for each in found) == ["lamp", "star"]
    for each in found:
        assert each.xyxy_frac is not None
        assert (each.map[0] == box_mask(each.xyxy_frac, each.map[0].shape)).all()
        assert each.attribution.metadata["own"] == 1
        assert each.attribution.metadata["resemblance"] > 0
        assert each.png is not None


def test_pictures_have_the_images_aspect_and_show_the_box(
    folder: Path, explainer: BoxExplainer
) -> None:
    image = bright_photo()
    small = Parameters(xai_algorithm="d_rise", num_masks=20, visualization_style="overlay")
    first, second = explained(folder, explainer, image, small)
    pictures = []
    for explanation in (first, second):
        assert explanation.png is not None
        picture = cv2.imdecode(np.frombuffer(explanation.png, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (*CANVAS, 3)
        pictures.append(picture)
    # White lines within black ones, where the lamp is.
    lamp = pictures[[first.label, second.label].index("lamp")]
    left, top = round(BOXES[0][0] * CANVAS[1]), round(BOXES[0][1] * CANVAS[0])
    assert (lamp[top + 5, left] == 255).all()
    assert (lamp[top + 5, left - 1] < 40).all()


def test_an_explained_image_is_decoded_once(
    folder: Path, explainer: BoxExplainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, few = Scorer.load(folder), Parameters(xai_algorithm="d_rise", num_masks=4)
    calls = count_calls(monkeypatch, try_decode)
    (found,) = explain_images(scorer, explainer, [bright_photo()], few)
    assert not isinstance(found, ImageError)
    assert len(found) == 2
    assert len(calls) == 1


def test_answers_have_the_places_of_the_boxes(folder: Path, explainer: BoxExplainer) -> None:
    image = bright_photo()
    scorer = Scorer.load(folder)
    (found,) = scorer.try_predict([image])
    wanted = checked_parameters(
        {"xai_algorithm": "d_rise", "num_masks": 10, "target": "star", "attributions": True},
        explainer.selector,
        LABELS,
    )
    chosen = explainer.selector.select(LABELS, found, wanted)
    row = ExplainRow(0, image, wanted, chosen, explainer.selector.num_boxes(found))
    answer = {key: json.loads(text) for key, text in explainer.answer(row).items()}
    labels = [box["label"] for box in scorer.score([image])[0]["boxes"]]
    for key in ("visualizations", "attributions"):
        assert [value is not None for value in answer[key]] == [name == "star" for name in labels]
    attribution = answer["attributions"][labels.index("star")]
    assert np.array(attribution).shape == (1, *CANVAS)


def test_boxes_that_only_a_tile_finds_are_explained_there(
    explainer: BoxExplainer, tmp_path: Path
) -> None:
    tiled = write_tiny_detector(tmp_path / "tiled", ObjectDetection.name, Tiling(2, 1, 0.0))
    pixels = cv2.imdecode(np.frombuffer(bright_photo((96, 256)), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    # The right half's lamp: in the frame of the whole image, and not where the whole finds one.
    lamp = np.array([[0.5 + 0.05, 0.1, 0.5 + 0.2, 0.5]], np.float32)
    (found,) = BoxExplainer.load(tiled, 1).attributions(
        np.asarray(pixels, np.uint8), FoundBoxes(lamp, np.array([0])), QUICK
    )
    assert found.map.shape == (1, 24, 64)
    assert not found.map[:, :, :32].any()
    row, column = np.unravel_index(found.map[0].argmax(), (24, 64))
    assert lamp[0, 0] <= column / 64 <= lamp[0, 2]
    assert lamp[0, 1] <= row / 24 <= lamp[0, 3]


def test_python_explains_boxes_without_being_told_how(folder: Path) -> None:
    model = autofocus.load(folder)
    (found,) = model.explain([bright_photo()], num_masks=10, visualizations=False)
    assert [e.label for e in found] == [
        b["label"] for b in model.score([bright_photo()])[0]["boxes"]
    ]
    assert found[0].xyxy_frac is not None
    assert found[0].png is None
    with pytest.raises(RequestError, match=r"must be one of d_rise, got 'xrai'\."):
        model.explain([bright_photo()], xai_algorithm="xrai")


def test_boxes_need_neither_torch_nor_its_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autofocus.scoring.explain.needs.find_spec", lambda name: None)
    assert why_unavailable(folder) is None


def test_an_object_is_the_one_of_its_class_that_the_box_overlaps() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0.2, 0.2]], np.float32)
    found = FoundBoxes(boxes, np.array([0, 1, 0]))
    labelled = np.array([[0.5, 0.5, 1, 0.9], [0, 0, 0.5, 0.4], [0, 0, 0.2, 0.2]], np.float32)
    target = BoxTarget(labelled, np.array([0, 0, 0]), np.array([False, False, True]), (10, 10))
    first, second, third = object_masks(target, found, (10, 10))
    assert first is not None
    assert np.argwhere(first).max(axis=0).tolist() == [3, 4]
    # Of another class, and a crowd.
    assert second is third is None
    ring = np.array([[0, 0], [0.5, 0], [0, 0.4]], np.float32)
    outlined = OutlineTarget(
        labelled[1:2], np.array([0]), np.array([False]), (10, 10), polygons=((ring,),)
    )
    (mask, *_) = object_masks(outlined, found, (10, 10))
    assert mask is not None
    assert 0 < mask.sum() < first.sum()
    nothing = BoxTarget(labelled[:0], np.zeros(0, np.int64), np.zeros(0, np.bool_), (10, 10))
    assert object_masks(nothing, found, (10, 10)) == [None] * 3


def test_quality_of_boxes_beside_maps_that_know_nothing(folder: Path, tmp_path: Path) -> None:
    rows = []
    corners = ("topX", "topY", "bottomX", "bottomY")
    lamp = {"label": "lamp", **dict(zip(corners, BOXES[0], strict=True))}
    # One of the three boxes that are found has an object: a crowd is none, nor is another class.
    labels = ([lamp, lamp | {"label": "pink"}], [lamp | {"isCrowd": True}], [])
    images = (bright_photo(WIDE), bright_photo(TALL), b"no image")
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / f"{i}.png").write_bytes(image)
        rows.append(json.dumps({"image_url": f"{i}.png", "label": label}))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    data = read_photos(folder, tmp_path / "rows.jsonl", ReadOptions())
    result = measure_explanations(folder, data, Measuring(QUICK, 3))
    assert (result["num_images"], result["num_explanations"]) == (2, 3)
    assert list(result["algorithms"]) == ["d_rise", "random map", "centred Gaussian"]
    best, random, centred = result["algorithms"].values()
    assert (best["pointing"], centred["pointing"]) == (1, 0)
    # A blurred white image is white: insertion tells nothing here.
    assert best["insertion"] == pytest.approx(random["insertion"], abs=0.01)
    assert best["deletion"] < min(random["deletion"], centred["deletion"])
    assert best["insertion_error"] >= 0
    assert best["half_agreement"] > 0.5
    # The folder holds no weights to shuffle.
    assert best["randomised"] is random["randomised"] is None
    nothing = Measuring(QUICK, 3, seed=0)
    data.locations[:] = data.locations[2:]
    with pytest.raises(DataError, match="nothing is found"):
        measure_explanations(folder, data, nothing)
