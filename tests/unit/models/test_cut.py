"""A classifier in two parts is the same network."""

import copy

import pytest
import torch

from autofocus.models.catalog import resolve
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

# One of each class of timm's, and one of the install.
CUTS = {
    "tf_efficientnet_lite2": (5, 4),
    "tf_efficientnetv2_b0": (4, 3),
    "mobilenetv3_small_050": (4, 3),
    "mobilenetv4_conv_small_050": (3, 2),
    "test_convnext": (3, 2),
    "caformer_s18": (3, 2),
    "tiny_vit_5m_224": (3, 2),
    "test_resnet": (3, 2),
}


def built(name: str) -> Classifier:
    """Build a classifier whose norms have statistics of their own, as a pretrained one's."""
    torch.manual_seed(0)
    network = build_classifier(resolve(name), 4, input_size=64)
    for key, buffer in network.named_buffers():
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return network


def num_numbers(network: Classifier) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", CUTS)
def test_the_tail_of_the_stems_activations_is_the_network(name: str) -> None:
    network = built(name)
    assert network.cuts == CUTS[name]
    images = torch.randn(2, 3, 64, 64)
    sizes = [num_numbers(network)]
    for position in network.cuts:
        cut = network.cut_at(position)
        with torch.inference_mode():
            activations = cut.stem(images)
            torch.testing.assert_close(cut.tail.features(activations), network.features(images))
            torch.testing.assert_close(cut.tail(activations), network(images))
        sizes.insert(1, num_numbers(cut.tail))
        assert not cut.tail.cuts, "what was cut is not cut again"
    assert sizes == sorted(set(sizes), reverse=True), "an earlier cut leaves more to train"


@pytest.mark.parametrize("name", ["tf_efficientnet_lite2", "test_convnext"])
def test_a_trained_tail_goes_back_into_the_network(name: str) -> None:
    network = built(name)
    untouched = copy.deepcopy(network)
    images = torch.randn(2, 3, 64, 64)
    cut = network.cut_at(network.cuts[0])
    with torch.no_grad():
        for tensor in cut.tail.parameters():
            tensor.add_(0.01 * torch.randn_like(tensor))
    trained = network.with_tail(cut.tail)
    with torch.inference_mode():
        torch.testing.assert_close(trained(images), cut.tail(cut.stem(images)))
        assert not torch.allclose(trained(images), network(images), atol=1e-3)
        assert torch.equal(network(images), untouched(images)), "the network itself stays"


@pytest.mark.parametrize(("name", "other"), [(0, 1), (1, 0)])
def test_a_tail_of_another_architecture_is_refused(name: int, other: int) -> None:
    # They differ only in the number of blocks.
    tail = built(f"tf_efficientnet_lite{other}").cut_at(5).tail
    with pytest.raises(AssertionError, match="must be of the network's architecture"):
        built(f"tf_efficientnet_lite{name}").with_tail(tail)


def test_what_is_no_chain_of_layers_cannot_be_cut() -> None:
    network = built("test_vit")
    assert network.cuts == ()
    with pytest.raises(AssertionError, match="position must be one of"):
        network.cut_at(1)
