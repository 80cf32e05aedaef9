"""Why a model is served, in words."""

from typing import Any

import pytest

from autofocus.study.why_served import why_served

PAIRED = {"num_pairs": 60, "mean_gain": 0.0123, "standard_error": 0.004}
GAINS = [
    {"trial": "probe", "mean": 0.0, "standard_error": 0.0, "shrunk": 0.0},
    {"trial": "tail", "mean": 0.02, "standard_error": 0.01, "shrunk": 0.01, "alpha": 0.5},
    {"trial": "tail", "mean": 0.05, "standard_error": 0.01, "shrunk": 0.04, "alpha": 1.0},
]


def challenge(challenger: str, champion: str, *, wins: bool = True, **more: Any) -> dict[str, Any]:
    made = {"decision": "champion", "champion": champion, "challenger": challenger, "wins": wins}
    return made | more


@pytest.mark.parametrize(
    ("trial", "decisions", "why"),
    [
        ("probe", [], "the first model"),
        ("probe", [challenge("0", "probe", wins=False, **PAIRED)], "the first model"),
        (
            "1",
            [challenge("1", "probe", **PAIRED), challenge("2", "1", wins=False, **PAIRED)],
            "loss lower by 0.0123 ± 0.0040 than that of trial probe on 60 images or groups",
        ),
        ("1", [challenge("1", "0", value=0.9, best=0.8)], "accuracy 0.9000, 0.8000 for trial 0"),
        ("1", [challenge("1", "0", value=0.9, best=None)], "accuracy is undefined for trial 0"),
        ("refit-1", [challenge("1", "0", **PAIRED)], "trial 1 once more, with all images"),
        (
            "tail",
            [{"decision": "champion", "champion": "tail", "num_images": 134, "gains": GAINS}],
            "log loss lower by 0.0500 ± 0.0100 than that of probe on 134 images",
        ),
        (
            "probe",
            [{"decision": "champion", "champion": "probe", "num_images": 134, "gains": GAINS}],
            "the first model; no other is clearly better",
        ),
    ],
)
def test_the_last_decision_for_it_says_why(
    trial: str, decisions: list[dict[str, Any]], why: str
) -> None:
    assert why_served(decisions, trial, "accuracy") == why
