"""Encoders side by side: one name, one network, one package."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from autofocus.data.images.decode import decode
from autofocus.errors import InputError, JobError, WeightsError
from autofocus.explain.algorithms import attribution_method, names_of
from autofocus.explain.frozen import freeze
from autofocus.explain.parameters import Parameters
from autofocus.manifest import DataInfo, Manifest, ResizeCrop, WeightsInfo
from autofocus.models.catalog import resolve
from autofocus.models.families import family_of
from autofocus.models.network import Classifier
from autofocus.models.weights.embedded import EMBEDDED
from autofocus.models.weights.load import load_weights
from autofocus.package.mlflow_model import write_package
from autofocus.package.verify import verify_package
from autofocus.scoring.explain.classes import ClassExplainer
from autofocus.scoring.explain.explanations import load_explainer
from autofocus.scoring.explain.request import ExplanationTarget
from autofocus.scoring.scorer import prepare
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.training.optim import freeze_layers

pytestmark = pytest.mark.usefixtures("one_thread")

LITES = "tf_efficientnet_lite1.in1k+tf_efficientnet_lite2.in1k"
TINY = "test_resnet.r160_in1k+test_convnext.r160_in1k"


def built(name: str, side: int = 64) -> Classifier:
    torch.manual_seed(0)
    spec = resolve(name)
    network = family_of(spec).build(spec, 3, None, (side, side), {})
    assert isinstance(network, Classifier)
    return network


def test_a_name_with_a_plus_is_one_model() -> None:
    spec = resolve("tf_efficientnet_lite1+tf_efficientnet_lite2")
    assert spec.name == LITES
    assert spec.members == tuple(LITES.split("+"))
    assert spec.architecture == "tf_efficientnet_lite1+tf_efficientnet_lite2"
    assert spec.licence == "apache-2.0"
    assert spec.num_params == 5_416_680 + 6_092_072
    assert spec.preprocess == resolve("tf_efficientnet_lite2").preprocess
    assert resolve(spec.name) == spec


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet18+resnet81",
            r"resnet18\+resnet81: model_name must be .* got 'resnet81'",
        ),
        ("resnet18+tf_efficientnet_lite0", r"one normalisation, got means of resnet18\.a1_in1k"),
        ("resnet18+vit_small_patch14_dinov2", r"vit_small_patch14_dinov2\.lvd142m is not such"),
        ("resnet18+fcos_resnet18_fpn", r"fcos_resnet18_fpn is not such a one"),
        ("resnet18+timm/resnet18", r"must differ, got 'resnet18\+timm/resnet18'"),
        ("fcos_resnet18+resnet34_fpn", r"must be a model that autofocus knows"),
    ],
)
def test_encoders_that_cannot_be_one_network_are_refused(name: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        resolve(name)


def test_features_are_the_members_one_after_another() -> None:
    spec = resolve(LITES)
    loaded = load_weights(spec)
    network = family_of(spec).build(spec, 3, loaded, (96, 96), {})
    assert isinstance(network, Classifier)
    images = torch.randn(2, 3, 96, 96)
    parts = []
    for name in spec.members:
        member = resolve(name)
        alone = family_of(member).build(member, 3, load_weights(member), (96, 96), {})
        assert isinstance(alone, Classifier)
        parts.append(alone.features(images))
    assert torch.equal(network.features(images), torch.cat(parts, dim=1))
    assert not network.cuts


def test_weights_are_those_of_each_member() -> None:
    loaded = load_weights(resolve(LITES))
    assert loaded.info.source == "embedded+embedded"
    assert loaded.info.licence == "apache-2.0"
    assert loaded.info.sha256 == "+".join(EMBEDDED[name].sha256 for name in LITES.split("+"))
    for name in LITES.split("+"):
        assert f"{name}, embedded" in loaded.line


def test_a_member_that_cannot_be_had_is_named_or_stood_in_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec = resolve("resnet18+resnet34")
    with pytest.raises(WeightsError, match=r"model 'resnet18\.a1_in1k'.*cannot be had"):
        load_weights(spec)
    assert load_weights(spec, on_missing="substitute").spec.name == "tf_efficientnet_lite0.in1k"
    with pytest.raises(WeightsError, match=r"accept_license: cc-by-nc-4\.0"):
        load_weights(resolve("convnextv2_atto+convnextv2_femto"), on_missing="substitute")


def test_a_file_of_ours_gives_its_encoders(tmp_path: Path) -> None:
    spec, trained = resolve(TINY), built(TINY)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(trained.state_dict(), path)
    network = family_of(spec).build(spec, 7, load_weights(spec, str(path)), (64, 64), {})
    images = torch.randn(2, 3, 64, 64)
    assert isinstance(network, Classifier)
    assert torch.equal(network.features(images), trained.features(images))
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(built("test_resnet").state_dict(), other)
    with pytest.raises(WeightsError, match=r"none of them starts with members\.0\."):
        family_of(spec).build(spec, 7, load_weights(spec, str(other)), (64, 64), {})


def test_layers_are_frozen_in_all_members_alike() -> None:
    network = built("tf_efficientnet_lite0+tf_efficientnet_lite1")
    num_groups = freeze_layers(network, 1)
    frozen = [name for name, p in network.encoder.named_parameters() if not p.requires_grad]
    assert {name.split(".")[2] for name in frozen} == {"conv_stem", "bn1"}
    assert {name.split(".")[1] for name in frozen} == {"0", "1"}
    assert num_groups > 3


@pytest.mark.parametrize("algorithm", names_of("classes"))
def test_every_algorithm_explains_it(algorithm: str) -> None:
    network = freeze(built("tf_efficientnet_lite0+tf_efficientnet_lite1"))
    images = torch.randn(1, 3, 64, 64)
    method = attribution_method(algorithm)
    (found,) = method.attribute(
        network, images, [1], Parameters(xai_algorithm=algorithm, n_steps=2)
    )
    assert found.map.shape == (3, 64, 64)
    assert np.isfinite(found.map).all()
    assert np.ptp(found.map) > 0 or not found.metadata["positive_evidence"]


def test_maps_of_two_sizes_are_no_map_of_places() -> None:
    # 80 px: 3 places a side where convolutions are padded, 2 where patches are.
    network = freeze(built("test_resnet.r160_in1k+test_convnext.r160_in1k", 80))
    method = attribution_method("guided_gradcam")
    with pytest.raises(InputError, match=r"maps of .*which are no one map.*xrai"):
        method.attribute(network, torch.randn(1, 3, 80, 80), [0], Parameters())


def test_its_package_scores_and_is_explained_as_the_network(tmp_path: Path, photo: bytes) -> None:
    network = built(TINY)
    manifest = Manifest(
        task=MulticlassClassification.name,
        labels=["can", "carton", "milk"],
        model_name=resolve(TINY).name,
        preprocess=ResizeCrop(72, 64),
        weights=WeightsInfo("random", "none"),
        data=DataInfo("0" * 64, 24, 6),
    )
    folder = tmp_path / "1"
    write_package(folder, network, manifest)
    assert verify_package(folder, network, manifest, [photo]) < 1e-3
    explainer = load_explainer(folder)
    assert isinstance(explainer, ClassExplainer)
    parameters = Parameters(xai_algorithm="guided_backprop")
    (found,) = explainer.explain(decode(photo), [ExplanationTarget(1, "carton", 0.5)], parameters)
    images = torch.from_numpy(prepare(photo, manifest.preprocess)[0])[None]
    (expected,) = attribution_method("guided_backprop").attribute(
        freeze(network), images, [1], parameters
    )
    assert np.ptp(expected.map) > 0
    np.testing.assert_allclose(found.map, expected.map, rtol=1e-3, atol=1e-6)
