import importlib.resources
from dataclasses import replace

import pytest
import timm
import torch

from autofocus.data.batches.preprocess import preprocess
from autofocus.errors import WeightsError
from autofocus.models.catalog import DEFAULT_MODEL, resolve
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights import embedded
from autofocus.models.weights.embedded import EMBEDDED
from autofocus.models.weights.load import load_weights

ESPRESSO = 967


def change(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Change the default model's entry."""
    entry = replace(EMBEDDED[DEFAULT_MODEL], **values)
    monkeypatch.setattr(embedded, "EMBEDDED", {DEFAULT_MODEL: entry})


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_tensor_has_one_place_in_timms_network(name: str) -> None:
    tensors = embedded.load_embedded(name)
    network = timm.create_model(name)
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in tensors.items()} == expected
    module = EMBEDDED[name].distribution.replace("-", "_")
    with importlib.resources.as_file(importlib.resources.files(module)) as folder:
        raw = torch.load(folder / EMBEDDED[name].path, weights_only=True)
    assert len(raw) == len(tensors)  # no two of them were mapped onto one


@pytest.mark.parametrize("name", EMBEDDED)
def test_coffee_is_espresso(name: str) -> None:
    from skimage.data import coffee

    spec = resolve(name)
    loaded = load_weights(spec)
    assert (loaded.info.source, loaded.info.sha256) == ("embedded", EMBEDDED[name].sha256)
    network = build_classifier(spec, 1000, loaded)
    images = torch.from_numpy(preprocess(coffee(), spec.preprocess))[None]
    with torch.inference_mode():
        probs = network(images).softmax(1)[0]
    assert int(probs.argmax()) == ESPRESSO
    assert float(probs[ESPRESSO]) > 0.5


def test_preprocessing_is_the_weights() -> None:
    spec = resolve(DEFAULT_MODEL)
    assert (spec.preprocess.resize_size, spec.preprocess.crop_size) == (256, 224)
    assert spec.preprocess.mean == spec.preprocess.std == (0.5, 0.5, 0.5)


def test_other_bytes_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, sha256="0" * 64)
    with pytest.raises(WeightsError, match=r"must have sha256 000000000000…, got 579344248a93…"):
        embedded.load_embedded(DEFAULT_MODEL)


@pytest.mark.parametrize("missing", ["distribution", "path"])
def test_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, **{missing: "no-such-package-or-file"})
    name = embedded.EMBEDDED[DEFAULT_MODEL].distribution
    with pytest.raises(WeightsError, match=f"{name} is not installed"):
        load_weights(resolve(DEFAULT_MODEL))
