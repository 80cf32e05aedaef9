"""Explanations from a model folder: the network is the packaged one, the replies the published."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from autofocus.data.images.decode import decode, try_decode
from autofocus.errors import ImageError, ModelFolderError, RequestError
from autofocus.explain.parameters import Parameters
from autofocus.scoring.explain.classes import ClassExplainer
from autofocus.scoring.explain.explanations import (
    explain_images,
    load_explainer,
)
from autofocus.scoring.explain.needs import WEIGHTS_NAME
from autofocus.scoring.explain.request import ExplainRow, ExplanationTarget, checked_parameters
from autofocus.scoring.scorer import Scorer, prepare
from support.counting import count_calls

GUIDED = Parameters(xai_algorithm="guided_backprop")
LABELS = ["blue", "green", "red"]
BLUE, RED = ExplanationTarget(0, "blue", 0.1), ExplanationTarget(2, "red", 0.6)


@pytest.fixture(scope="module")
def explainer(model_folder: Path) -> ClassExplainer:
    explainer = load_explainer(model_folder)
    assert isinstance(explainer, ClassExplainer)
    return explainer


def test_network_answers_as_the_packaged_one(
    explainer: ClassExplainer, model_folder: Path, photo: bytes
) -> None:
    (expected,) = Scorer.load(model_folder).score([photo])
    with torch.inference_mode():
        logits = explainer.network(
            torch.from_numpy(prepare(photo, explainer.manifest.preprocess)[0])[None]
        )
    assert logits.softmax(dim=1)[0].numpy() == pytest.approx(expected["probs"], abs=1e-5)


def test_one_map_and_picture_a_class_in_order(explainer: ClassExplainer, photo: bytes) -> None:
    first, second = explainer.explain(decode(photo), [RED, BLUE], GUIDED)
    assert [first.label, second.label] == ["red", "blue"]
    assert first.probability == 0.6
    assert first.map.shape == (3, 64, 64)
    assert first.map.dtype == np.float32
    assert not np.array_equal(first.map, second.map)
    (alone,) = explainer.explain(decode(photo), [BLUE], GUIDED)
    assert np.allclose(alone.map, second.map, atol=1e-6)
    assert first.png is not None
    assert cv2.imdecode(np.frombuffer(first.png, np.uint8), cv2.IMREAD_COLOR) is not None


def test_pictures_have_the_asked_style_or_are_not_drawn(
    explainer: ClassExplainer, photo: bytes
) -> None:
    small = Parameters(xai_algorithm="guided_backprop", visualization_style="heatmap")
    (drawn,) = explainer.explain(decode(photo), [RED], small)
    assert drawn.png is not None
    pixels = cv2.imdecode(np.frombuffer(drawn.png, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (64, 64, 3)
    none = Parameters(xai_algorithm="guided_backprop", visualizations=False)
    (undrawn,) = explainer.explain(decode(photo), [RED], none)
    assert undrawn.png is None


def test_answer_is_json_of_single_precision_numbers(
    explainer: ClassExplainer, photo: bytes
) -> None:
    parameters = Parameters(xai_algorithm="integrated_gradients", n_steps=4, attributions=True)
    (expected,) = explainer.explain(decode(photo), [RED], parameters)
    answer = explainer.answer(ExplainRow(0, photo, parameters, (RED,)))
    assert list(answer) == ["visualizations", "attributions"]
    written = np.array(json.loads(answer["attributions"]), np.float32)
    assert np.array_equal(written, expected.map)


def test_the_caller_may_stop_between_batches_of_classes(
    explainer: ClassExplainer, photo: bytes
) -> None:
    calls = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise RequestError("late", 408)

    with pytest.raises(RequestError, match="late"):
        explainer.explain(decode(photo), [RED] * 20, GUIDED, check)


def test_images_that_cannot_be_read_keep_their_place(
    explainer: ClassExplainer, model_folder: Path, photo: bytes
) -> None:
    scorer = Scorer.load(model_folder)
    missing = ImageError("image.missing", "No such file.")
    found = list(explain_images(scorer, explainer, [photo, missing, b"text", photo], GUIDED))
    assert [isinstance(item, ImageError) for item in found] == [False, True, True, False]
    (best,) = scorer.score([photo])
    assert not isinstance(found[0], ImageError)
    assert found[0][0].label == scorer.labels[int(np.argmax(best["probs"]))]


def test_an_explained_image_is_decoded_once(
    explainer: ClassExplainer, model_folder: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer.load(model_folder)
    calls = count_calls(monkeypatch, try_decode)
    list(explain_images(scorer, explainer, [photo, photo], GUIDED))
    assert len(calls) == 2
    # The process that explains for a server has not seen the image before.
    explainer.answer(ExplainRow(0, photo, GUIDED, (RED,)))
    assert len(calls) == 3


def test_parameters_are_checked_against_the_model(explainer: ClassExplainer) -> None:
    assert checked_parameters({"target": "red"}, explainer.selector, LABELS) == Parameters(
        target="red"
    )
    with pytest.raises(RequestError, match=r"\(blue, green, red\), got 'pink'"):
        checked_parameters({"target": "pink"}, explainer.selector, LABELS)


def test_folder_without_or_with_other_weights_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"][WEIGHTS_NAME]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "model_name": "test_vit"}))
    with pytest.raises(ModelFolderError, match="not the weights of test_vit"):
        load_explainer(folder)
    (folder / WEIGHTS_NAME).write_bytes(b"damaged")
    with pytest.raises(ModelFolderError, match=r"model\.safetensors: not the weights"):
        load_explainer(folder)
    (folder / WEIGHTS_NAME).unlink()
    with pytest.raises(ModelFolderError, match=r"no model\.safetensors"):
        load_explainer(folder)
