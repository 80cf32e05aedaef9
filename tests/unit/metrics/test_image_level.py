import pytest

from autofocus.metrics.image_level import image_level_metrics
from autofocus.metrics.matching import Matches
from support.detection_scenes import LEFT, RIGHT, found, match, truth


def measure(matches: Matches, score_threshold: float = 0.0) -> tuple[float | None, ...]:
    metrics = image_level_metrics(matches, matches.kept(score_threshold, 100))
    return metrics["average_precision"], metrics["precision"], metrics["recall"]


def test_an_image_is_found_by_its_best_right_detection() -> None:
    """The wrong detection of higher score on the same image does not count."""
    rows = found((RIGHT, 0.9, 0), (LEFT, 0.6, 0))
    assert measure(match([rows], [truth((LEFT, 0))])) == (1.0, 1.0, 1.0)


def test_a_false_alarm_before_the_right_image_halves_the_precision() -> None:
    predictions = [found((LEFT, 0.25, 1)), found((LEFT, 0.75, 1))]
    targets = [truth((LEFT, 1), (RIGHT, 1)), truth((RIGHT, 1))]
    assert measure(match(predictions, targets)) == (0.25, 0.5, 0.5)


def test_images_of_one_score_share_a_point() -> None:
    """One of three images found and one false alarm, at one score: 1/3 x 1/2."""
    predictions = [found((LEFT, 0.5, 0)), found((LEFT, 0.5, 1)), found(), found()]
    targets = [truth((LEFT, 0)), truth(), truth((LEFT, 1), (RIGHT, 1)), truth((RIGHT, 0))]
    expected = (1 / 6, 1 / 2, 1 / 3)
    assert measure(match(predictions, targets)) == pytest.approx(expected)
    backwards = match(predictions[::-1], targets[::-1])
    assert measure(backwards) == pytest.approx(expected)


def test_the_threshold_moves_precision_and_recall_only() -> None:
    predictions = [found((LEFT, 0.9, 0)), found((LEFT, 0.2, 0)), found((LEFT, 0.1, 0))]
    targets = [truth((LEFT, 0)), truth((LEFT, 0)), truth()]
    assert measure(match(predictions, targets)) == (1.0, 2 / 3, 1.0)
    assert measure(match(predictions, targets), 0.5) == (1.0, 1.0, 0.5)


def test_nothing_to_find_and_nothing_found() -> None:
    assert measure(match([found()], [truth()])) == (None, None, None)
    assert measure(match([found()], [truth((LEFT, 0))])) == (0.0, None, 0.0)
    assert measure(match([found((LEFT, 0.9, 0))], [truth()])) == (None, 0.0, None)


def test_crowds_are_no_objects_and_what_lies_on_them_is_no_alarm() -> None:
    matches = match([found((LEFT, 0.9, 0))], [truth((LEFT, 0), crowds=(0,))])
    assert measure(matches) == (None, None, None)
