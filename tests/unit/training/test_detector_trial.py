"""What a trial says before it trains, and which training images it measures."""

import pytest

from autofocus.models.network import Network
from autofocus.training.candidate import Samples
from autofocus.training.detector_trial import MAX_TRAIN_SUBSET, train_subset, unheeded
from autofocus.training.recipe import Recipe


class AnySize(Network):
    takes_any_size = True


@pytest.mark.parametrize(
    ("network", "multi_scale", "said"),
    [(AnySize(), True, 0), (Network(), True, 1), (Network(), False, 0), (Network(), None, 0)],
)
def test_a_network_of_one_size_says_that_multi_scale_is_not_used(
    network: Network, multi_scale: bool | None, said: int
) -> None:
    lines = list(unheeded(network, "d_fine_n", Recipe(multi_scale=multi_scale)))
    assert lines == ["multi_scale is not used: d_fine_n takes one size"] * said


def test_the_same_training_images_are_measured_each_time() -> None:
    names = [str(i) for i in range(MAX_TRAIN_SUBSET + 50)]
    many = Samples([None] * len(names), names, names, names, names, "photos")
    chosen = train_subset(many, 3).locations
    assert len(set(chosen)) == MAX_TRAIN_SUBSET
    assert chosen == train_subset(many, 3).locations != train_subset(many, 4).locations
    assert sorted(chosen, key=int) == chosen
    few = many.chosen(range(5))
    assert train_subset(few, 3).locations == few.locations
