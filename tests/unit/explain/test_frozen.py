import pytest
import torch
from torch import Tensor, nn

from autofocus.errors import InputError
from autofocus.explain.algorithms import attribution_method, names_of
from autofocus.explain.frozen import freeze
from autofocus.explain.parameters import Parameters
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import TimmClassifier, build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")


class _SharedConv(nn.Module):
    """One convolution before two different norms: folding either would be wrong."""

    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
        self.norms[0].running_mean.fill_(0.5)

    def forward_features(self, images: Tensor) -> Tensor:
        for norm in self.norms:
            images = norm(self.conv(images)).relu()
        return images

    def forward_head(self, features: Tensor, pre_logits: bool) -> Tensor:
        return features.mean(dim=(2, 3))


class _NormBesideConv(_SharedConv):
    """A convolution whose raw output is used besides the norm's."""

    def forward_features(self, images: Tensor) -> Tensor:
        raw = self.conv(images)
        return raw + self.norms[0](raw)


@pytest.mark.parametrize("encoder", [_SharedConv, _NormBesideConv])
def test_what_cannot_be_folded_keeps_its_norms_and_its_answers(encoder: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = TimmClassifier(encoder(), nn.Linear(3, 2), 8).eval()
    frozen = freeze(network)
    assert frozen.num_folded == 0
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(frozen(images), network(images))


def test_the_original_is_not_touched() -> None:
    network = build_classifier(resolve("test_resnet"), 3, input_size=64)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    frozen = freeze(network)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert frozen.num_folded == len(norms) > 0
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (torch.zeros(3, 64, 64), [0], r"must be \[n, 3, h, w\], got \[3, 64, 64\]"),
        (torch.zeros(1, 1, 64, 64), [0], r"got \[1, 1, 64, 64\]"),
        (torch.zeros(1, 3, 0, 64), [0], r"got \[1, 3, 0, 64\]"),
        (torch.zeros(2, 3, 64, 64), [0], "2 images need as many targets, got 1"),
        (torch.zeros(1, 3, 64, 64), [3], "targets must be in 0…2, got 3"),
        (torch.zeros(1, 3, 64, 64), [-1], "targets must be in 0…2, got -1"),
        (torch.full((1, 3, 64, 64), float("nan")), [0], "must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(images: Tensor, targets: list[int], message: str) -> None:
    frozen = freeze(build_classifier(resolve("test_resnet"), 3, input_size=64))
    for explainer in map(attribution_method, names_of("classes")):
        with pytest.raises(InputError, match=message):
            explainer.attribute(frozen, images, targets, Parameters(n_steps=2))


def test_a_size_that_the_network_cannot_take_is_refused() -> None:
    frozen = freeze(build_classifier(resolve("deit_tiny_patch16_224"), 3, input_size=64))
    with pytest.raises(InputError, match="built for 64 × 64 pixels and cannot take 32 × 48"):
        attribution_method("xrai").attribute(frozen, torch.zeros(1, 3, 32, 48), [0], Parameters())
