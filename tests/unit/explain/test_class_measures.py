import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autofocus.explain.class_measures import (
    insertion_deletion,
    measure,
    rank_correlation,
    shuffle_weights,
)
from autofocus.explain.frozen import FrozenClassifier, freeze
from autofocus.explain.measures import centred_gaussian, pointing_game, random_map
from autofocus.explain.parameters import Parameters
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32


class _Corner(nn.Module):
    """Sees the upper left quarter only: the mean of its red, times ten."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, 0, : SIZE // 2, : SIZE // 2].mean(dim=(1, 2)) * 10
        return torch.stack([torch.zeros_like(red), red], dim=1)


def _image() -> Tensor:
    image = torch.zeros(3, SIZE, SIZE)
    image[0, : SIZE // 2, : SIZE // 2] = 1
    return image


def _corner_map() -> np.ndarray:
    saliency = np.zeros((SIZE, SIZE), np.float32)
    saliency[: SIZE // 2, : SIZE // 2] = 1
    return saliency


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_right_map_inserts_early_and_deletes_early(kind: str) -> None:
    truth, inverse = _corner_map(), -_corner_map()
    right = insertion_deletion(_Corner(), _image(), 1, truth, kind)
    wrong = insertion_deletion(_Corner(), _image(), 1, inverse, kind)
    assert right[0] > wrong[0]
    assert right[1] < wrong[1] - 0.2


def test_areas_are_those_of_the_curves() -> None:
    # Deletion of the quarter in 4 of 16 steps: the logit falls 10, 7.5, 5, 2.5, 0, 0, …
    _, deletion = insertion_deletion(_Corner(), _image(), 1, _corner_map(), "softmax", num_steps=16)
    logits = np.concatenate([[10, 7.5, 5, 2.5], np.zeros(13)])
    probs = 1 / (1 + np.exp(-logits))
    assert deletion == pytest.approx(np.trapezoid(probs, dx=1 / 16), abs=1e-5)


def test_equal_values_are_ordered_by_the_seed_and_not_by_place() -> None:
    flat = np.zeros((SIZE, SIZE), np.float32)
    areas = {insertion_deletion(_Corner(), _image(), 1, flat, "softmax", seed=s) for s in range(3)}
    assert len(areas) == 3
    _, from_the_corner = insertion_deletion(_Corner(), _image(), 1, _corner_map(), "softmax")
    assert min(deletion for _, deletion in areas) > from_the_corner + 0.1


def test_pointing_game() -> None:
    truth = np.zeros((4, 4), np.bool_)
    truth[1, 1:3] = True
    saliency = np.zeros((4, 4), np.float32)
    saliency[1, 1] = 2
    assert pointing_game(saliency, truth) == 1
    saliency[3, 3] = 3
    assert pointing_game(saliency, truth) == 0
    saliency[1, 1] = saliency[1, 2] = 3
    assert pointing_game(saliency, truth) == pytest.approx(2 / 3)


def test_rank_correlation_is_scipys_and_none_for_constants() -> None:
    saliency = random_map(8, 8, 0)
    assert rank_correlation(saliency, saliency**3) == pytest.approx(1)
    assert rank_correlation(saliency, -saliency) == pytest.approx(-1)
    assert rank_correlation(saliency, np.ones((8, 8), np.float32)) is None


def test_the_gaussian_is_highest_in_the_centre() -> None:
    saliency = centred_gaussian(9, 15)
    assert np.unravel_index(saliency.argmax(), saliency.shape) == (4, 7)
    np.testing.assert_allclose(saliency, saliency[::-1, ::-1])


def _network() -> FrozenClassifier:
    torch.manual_seed(0)
    return freeze(build_classifier(resolve("test_resnet"), 3, input_size=64))


def test_shuffling_keeps_each_tensors_numbers_and_not_their_places() -> None:
    network = _network()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    shuffled = shuffle_weights(network, seed=1)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    for key, tensor in shuffled.named_parameters():
        assert torch.equal(tensor.flatten().sort().values, before[key].flatten().sort().values)
    weight = "classifier.head.weight"
    assert not torch.equal(shuffled.state_dict()[weight], before[weight])
    again = shuffle_weights(network, seed=1).state_dict()
    assert torch.equal(again[weight], shuffled.state_dict()[weight])


def test_measure_gives_a_row_for_each_algorithm_and_both_ignorant_maps() -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    truths = [centred_gaussian(64, 64) > 0.5] * 2
    algorithms = {
        "guided_backprop": Parameters("guided_backprop"),
        "xrai": Parameters("xrai", n_steps=2),
    }
    rows = measure(_network(), images, [0, 1], "softmax", algorithms, truths=truths)
    assert list(rows) == ["guided_backprop", "xrai", "random map", "centred Gaussian"]
    for row in rows.values():
        assert row.num_images == 2
        assert 0 <= row.insertion <= 1
        assert 0 <= row.deletion <= 1
    assert rows["centred Gaussian"].pointing == 1
    assert rows["centred Gaussian"].randomised is None
    similar = rows["guided_backprop"].randomised
    assert similar is not None
    assert -1 <= similar < 0.9
    without = measure(_network(), images, [0, 1], "sigmoid", {})
    assert without["random map"].pointing is None
