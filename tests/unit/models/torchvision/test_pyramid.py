import pytest
import torch

from autofocus.errors import JobError, WeightsError
from autofocus.models.base import LoadedWeights
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.torchvision.options import PyramidOptions
from autofocus.models.torchvision.pyramid import Pyramid, create_feature_encoder
from autofocus.models.weights.load import load_weights

SIZE = 64, 96
TINY = resolve("test_resnet")


def levels(
    name: str, strides: list[int], size: tuple[int, int] = SIZE, **options: bool
) -> list[list[int]]:
    encoder = create_feature_encoder(resolve(name), size, None).eval()
    pyramid = Pyramid(encoder, PyramidOptions(strides=strides, channels=32), **options).eval()
    with torch.no_grad():
        maps = encoder.forward_intermediates(
            torch.zeros(1, 3, *size),
            indices=pyramid.indices,
            norm=pyramid.normalize,
            intermediates_only=True,
        )
        return [list(level.shape[1:]) for level in pyramid(maps)]


@pytest.mark.parametrize("pool_coarse", [False, True])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("strides", [[4, 8], [8, 16, 32], [16, 32, 64], [32, 64, 128], [4]])
def test_levels_have_their_strides(name: str, strides: list[int], pool_coarse: bool) -> None:
    found = levels(name, strides, (128, 256), pool_coarse=pool_coarse)
    assert found == [[32, 128 // stride, 256 // stride] for stride in strides]


def test_odd_patches() -> None:
    found = levels("eva02_tiny_patch14_224", [7, 14, 28, 56], (112, 168))
    assert found == [[32, 112 // stride, 168 // stride] for stride in (7, 14, 28, 56)]


def test_encoder_without_the_wanted_map_is_refused() -> None:
    with pytest.raises(JobError, match=r"strides \[12, 24\].*none of \[12, 24\]"):
        levels("test_resnet", [12, 24])


def test_every_weight_of_the_pyramid_is_used() -> None:
    encoder = create_feature_encoder(TINY, SIZE, None)
    pyramid = Pyramid(encoder, PyramidOptions(strides=[8, 16], channels=32))
    maps = encoder.forward_intermediates(
        torch.randn(1, 3, *SIZE), indices=pyramid.indices, intermediates_only=True
    )
    sum(level.sum() for level in pyramid(maps)).backward()
    assert all(p.grad is not None for p in [*pyramid.parameters(), *encoder.parameters()])


def test_embedded_weights_are_those_of_the_classifier() -> None:
    spec = resolve("tf_efficientnet_lite0")
    weights = load_weights(spec)
    encoder = create_feature_encoder(spec, SIZE, weights.state_dict).eval()
    classifier = build_classifier(spec, 2, weights, 64)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours = encoder.forward_intermediates(images, indices=[4], intermediates_only=True)[0]
        theirs = classifier.encoder.forward_intermediates(images, intermediates_only=True)[-1]
    assert torch.equal(ours, theirs)
    assert not any("conv_head" in key for key in encoder.state_dict())


def own(name: str, drop: str = "nothing") -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    network = build_classifier(resolve(name), 2, None, 64)
    return {key: t for key, t in network.state_dict().items() if drop not in key}


def test_classifier_of_ours_gives_its_encoder() -> None:
    state_dict = own("test_efficientnet")
    encoder = create_feature_encoder(resolve("test_efficientnet"), SIZE, state_dict)
    loaded = encoder.state_dict()
    assert all(torch.equal(loaded[key], state_dict[f"encoder.{key}"]) for key in loaded)
    assert len(loaded) < len(state_dict) - 2  # without what follows the last map


def test_detector_of_ours_gives_its_encoder() -> None:
    torch.manual_seed(4)
    spec = resolve("test_efficientnet")
    first = create_feature_encoder(spec, SIZE, None)
    state_dict = {f"encoder.{key}": t for key, t in first.state_dict().items()}
    again = create_feature_encoder(spec, SIZE, {**state_dict, "head.weight": torch.zeros(1)})
    assert all(torch.equal(t, again.state_dict()[k]) for k, t in first.state_dict().items())


@pytest.mark.parametrize(
    "state_dict",
    [own("test_resnet", drop="layer3"), own("test_efficientnet"), {"conv1.weight": torch.zeros(1)}],
    ids=["part", "other", "foreign"],
)
def test_weights_of_something_else_are_refused(state_dict: dict[str, torch.Tensor]) -> None:
    with pytest.raises(WeightsError, match="not those of test_resnet"):
        create_feature_encoder(TINY, SIZE, state_dict)


def test_build_takes_what_the_ladder_gives() -> None:
    from autofocus.models.box_profile import TYPICAL
    from autofocus.models.families import family_of

    spec = resolve("fcos_tf_efficientnet_lite0_fpn")
    weights: LoadedWeights = load_weights(spec)
    options = family_of(spec).network_options(spec, TYPICAL, SIZE)
    network = family_of(weights.spec).build(weights.spec, 2, weights, SIZE, options)
    assert weights.state_dict is not None
    stem = network.encoder.get_parameter("conv_stem.weight")
    assert torch.equal(stem, weights.state_dict["conv_stem.weight"])
