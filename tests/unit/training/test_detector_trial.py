"""What a trial says before it trains, and which training images it measures."""

import pytest

from autofocus.models.network import Network
from autofocus.training.candidate import Samples
from autofocus.training.detector_trial import MAX_SEEN_IMAGES, seen_samples, unheeded
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
    names = [str(i) for i in range(MAX_SEEN_IMAGES + 50)]
    many = Samples([None] * len(names), names, "photos")
    chosen = seen_samples(many, 3).locations
    assert len(set(chosen)) == MAX_SEEN_IMAGES
    assert chosen == seen_samples(many, 3).locations != seen_samples(many, 4).locations
    assert sorted(chosen, key=int) == chosen
    few = many.chosen(range(5))
    assert seen_samples(few, 3).locations == few.locations
