"""A classifier of any family: an encoder and a linear head."""

import pytest
import torch
from torch import nn

from autofocus.errors import InputError, WeightsError
from autofocus.explain.algorithms import attribution_method
from autofocus.explain.base import Parameters
from autofocus.explain.frozen import freeze
from autofocus.models.catalog import resolve
from autofocus.models.network import Classifier, load_encoder


def classifier(num_features: int = 4) -> Classifier:
    encoder = nn.Sequential(nn.Conv2d(3, num_features, 8, stride=8), nn.ReLU(), nn.Flatten())
    return Classifier(encoder, nn.Linear(num_features, 2), 8).eval()


@pytest.mark.parametrize("is_whole", [True, False])
def test_an_encoder_takes_its_own_weights_and_a_whole_network_s(is_whole: bool) -> None:
    source, network = classifier(), classifier()
    given = source if is_whole else source.encoder
    load_encoder(network.encoder, resolve("resnet18"), given.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(network.features(images), source.features(images))


def test_weights_of_another_encoder_are_refused_in_one_line() -> None:
    with pytest.raises(WeightsError, match=r"not those of resnet18 .*model_name") as caught:
        load_encoder(classifier(5).encoder, resolve("resnet18"), classifier().state_dict())
    assert len(str(caught.value).splitlines()) == 1


def test_what_only_timms_encoders_have_is_missed_in_words() -> None:
    network = freeze(classifier())
    method = attribution_method("guided_gradcam")
    with pytest.raises(InputError, match=r"Sequential lacks .forward_features. .*xrai"):
        method.attribute(network, torch.randn(1, 3, 8, 8), [0], Parameters())
