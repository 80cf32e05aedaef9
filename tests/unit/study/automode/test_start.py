"""The start of a detector's training: enough epochs first, then the best expected design."""

import math
import random

import pytest

from autofocus.study.automode.start import (
    ENOUGH_EPOCHS,
    MIN_SIDE,
    Cost,
    Images,
    StartOption,
    choose_start,
    enough_epochs,
    enough_for_others,
    option_of,
    sides_below,
)


def option(epoch_s: float, least_epochs: int = 10, num_epochs: int = 40) -> StartOption:
    return StartOption({"epoch_s": epoch_s}, epoch_s, 0.0, num_epochs, least_epochs)


def test_the_first_with_enough_epochs_is_taken() -> None:
    options = [option(100.0, least_epochs=20), option(50.0), option(20.0)]
    assert choose_start(options, math.inf) is options[0]
    assert choose_start(options, 2300.0) is options[0]
    assert choose_start(options, 600.0) is options[1]
    assert choose_start(options, 300.0) is options[2]


def test_where_none_has_enough_the_most_epochs_are_taken() -> None:
    options = [option(50.0), option(20.0), option(30.0)]
    assert choose_start(options, 100.0) is options[1]
    assert choose_start(options, 0.0) is options[1], "with no time at all the cheapest"


@pytest.mark.parametrize("seed", range(200))
def test_ten_epochs_are_had_wherever_some_side_allows_them(seed: int) -> None:
    chance = random.Random(seed)
    side, num_epochs = chance.choice([320, 416, 640]), chance.choice([24, 39, 100, 300])
    default = Cost(side, chance.uniform(0.1, 2), chance.uniform(0.01, 1))
    smallest = Cost(MIN_SIDE, chance.uniform(0.3, 1) * default.train_s, default.evaluate_s / 3)
    images = Images(chance.randint(20, 300), chance.randint(5, 300))
    options = [
        option_of(
            {"image_size": each},
            default.at(each, smallest),
            images,
            num_epochs,
            enough_epochs(num_epochs),
            evaluates_all=False,
        )
        for each in [side, *sides_below(side)]
    ]
    left_s = chance.uniform(10, 3000)
    most = max(one.epochs_in(left_s) for one in options)
    chosen = choose_start(options, left_s).epochs_in(left_s)
    assert chosen >= min(most, ENOUGH_EPOCHS)


def test_sides_go_down_to_the_shortest() -> None:
    assert sides_below(416) == [384, 352, 320, 288, 256]
    assert sides_below(MIN_SIDE) == []


def test_costs_lie_on_a_line_in_pixels_through_both_measured_points() -> None:
    large, small = Cost(512, 5.0, 2.0), Cost(256, 2.0, 0.5)
    assert large.at(512, small) == large
    assert large.at(256, small) == small
    # Pixels half-way between those of 256 and of 512.
    between = large.at(round(math.sqrt((256**2 + 512**2) / 2)), small)
    assert between.train_s == pytest.approx(3.5, abs=0.01)
    assert large.at(256) == Cost(256, 1.25, 0.5), "one point: in proportion to pixels"


def test_evaluation_takes_half_as_long_as_training_at_most() -> None:
    cost, images = Cost(416, 0.1, 0.1), Images(100, 300)
    every = option_of({}, cost, images, 30, 10, evaluates_all=True)
    assert (every.parameters, every.epoch_s) == ({}, pytest.approx(40.0))
    some = option_of({}, cost, images, 30, 10, evaluates_all=False)
    assert some.parameters == {"evaluation_frequency": 6}
    assert some.epoch_s == pytest.approx(15.0)
    few = option_of({}, cost, Images(100, 50), 30, 10, evaluates_all=False)
    assert few.parameters == {}


def test_a_recipe_of_few_epochs_needs_no_more_than_it_has() -> None:
    assert enough_epochs(24) == 10
    assert enough_epochs(100) == 20
    assert enough_for_others(39) == 20
    assert option_of({}, Cost(416, 1, 1), Images(1, 1), 3, 10, evaluates_all=True).least_epochs == 3
