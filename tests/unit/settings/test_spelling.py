"""Other spellings of a name, and the nearest to a typo."""

import pytest

from autofocus.settings.spelling import did_you_mean, spelled

KNOWN = ["AUC_weighted", "mean_average_precision", "warmup_cosine"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WarmupCosine", "warmup_cosine"),
        ("MeanAveragePrecision", "mean_average_precision"),
        ("AUCWeighted", "AUC_weighted"),
        (" warmup_cosine ", "warmup_cosine"),
        ("warmup", None),
        (None, None),
        (3, None),
    ],
)
def test_spellings(name: object, meant: str | None) -> None:
    assert spelled(name, KNOWN) == meant


def test_the_nearest_name_is_proposed() -> None:
    assert did_you_mean("warmup_cosin", KNOWN) == "; did you mean 'warmup_cosine'?"
    assert did_you_mean("zzz", KNOWN) == "."
