import numpy as np
import pytest

from autofocus.explain.base import Attribution, Ranking


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [("positive", [[3.0, 0.0]]), ("size", [[5.0, 6.0]]), ("value", [[2.0, -1.0]])],
)
def test_saliency_merges_the_channels_as_the_algorithm_ranks(
    ranking: Ranking, expected: list[list[float]]
) -> None:
    channels = np.array([[[1, -1]], [[-2, -2]], [[2, -3]]], np.float32)
    saliency = Attribution(channels, "any", 0, "logit", ranking).saliency()
    assert saliency.dtype == np.float32
    assert saliency.tolist() == expected
