"""The last lines of a run, as a person reads them."""

from typing import Any

import pytest

from autofocus.cli.ending import end_lines

RESULT: dict[str, Any] = {
    "task": "image_classification",
    "best_model": "runs/fridge/best_model",
    "run": "runs/fridge",
    "primary_metric": "accuracy",
    "value": 0.963,
    "intervals": {"accuracy": [0.93, 0.985]},
    "test_metrics": {"accuracy": 0.95},
    "seconds": 179.6,
    "verdict": {
        "is_useful": True,
        "measured_on": "cross-validation",
        "num_images": 134,
        "baseline": {"class": "can", "metrics": {"accuracy": 0.269, "log_loss": 1.38}},
        "gain": {"metric": "log_loss", "mean": 1.3, "interval": [1.2, 1.4]},
        "training_data": "data/fridge",
        "limited_by": {
            "reason": "nothing_left",
            "cheapest": "tail-lite1",
            "expected_gain": 0.004,
            "cost_s": 40.0,
            "seconds_left": 12.0,
        },
        "more_photos": {
            "points": [{"num_images": n, "log_loss": 0.2} for n in (34, 67, 134)],
            "gain_of_doubling": 0.02,
            "interval": [0.01, 0.04],
        },
    },
}


def lines(**changes: Any) -> list[str]:
    return list(end_lines(RESULT | {"verdict": RESULT["verdict"] | changes}))


def test_a_good_model_is_said_to_be_one_in_six_lines() -> None:
    assert lines() == [
        "accuracy 0.9630 (90 %: 0.930 to 0.985) by cross-validation on 134 images; "
        "always guessing 'can', the commonest class: 0.2690",
        "test    accuracy 0.9500 on test data",
        "limit   nothing left to try in the time; next is tail-lite1: about 0.004 less log loss "
        "in 40 s: autofocus runs resume runs/fridge --budget 2m",
        "photos  twice as many: about 0.020 less log loss (0.010 to 0.040), by what 34, 67, 134 "
        "of them taught",
        "model   runs/fridge/best_model  after 180 s",
        "try it: autofocus serve runs/fridge/best_model",
    ]


def test_what_is_left_for_a_detector_is_told_in_its_metric() -> None:
    left = {**RESULT["verdict"]["limited_by"], "metric": "mean_average_precision"}
    assert "about 0.004 more mean_average_precision in 40 s" in lines(limited_by=left)[2]


def test_a_useless_model_is_no_success() -> None:
    first, *_, last = lines(is_useful=False, measured_on="validation", limited_by=None)
    assert first.startswith(
        "warning: no better than always guessing 'can', the commonest class (accuracy 0.2690): "
        "accuracy 0.9630 (90 %: 0.930 to 0.985) on 134 images held out"
    )
    assert last == (
        "next    are the labels right? autofocus data check data/fridge; if so, more photos"
    )
    assert not any("serve" in line for line in lines(is_useful=False))
    assert lines(is_useful=False)[-1].startswith("next    give it that time; are the labels right")


@pytest.mark.parametrize(
    ("limited", "said"),
    [
        (
            {
                "reason": "epochs",
                "epochs": 11,
                "num_epochs": 80,
                "seconds_for_all": 2400.0,
                "seconds_more": 2070.0,
            },
            "11 of 80 epochs; all need about 40 min here: "
            "autofocus runs resume runs/fridge --budget 42m",
        ),
        (
            {"reason": "no_more_trials", "seconds_needed": 50.0},
            "no time for another trial, which takes about 50 s: "
            "autofocus runs resume runs/fridge --budget 2m",
        ),
        (
            {"reason": "nothing_left", "seconds_left": 100.0},
            "everything was tried in 3 min; more time gives no more",
        ),
    ],
)
def test_what_limited_it_names_the_command_for_more(limited: dict[str, Any], said: str) -> None:
    assert f"limit   {said}" in lines(limited_by=limited)


def test_each_fitted_threshold_has_a_line() -> None:
    fitted = {"label": "cat", "threshold": 0.61, "min_precision": 0.95, "min_recall": None}
    fitted |= {"is_reached": True, "source": "cross-validation", "recall": 0.8}
    fitted |= {"precision": 0.96, "precision_interval": [0.9, 0.99], "recall_interval": [0.7, 0.9]}
    assert [*end_lines({**RESULT, "thresholds": [fitted]})][2] == (
        "score   cat: threshold 0.61: precision 0.960 [0.900, 0.990], recall 0.800 [0.700, 0.900] "
        "on cross-validation"
    )


def test_what_is_not_known_is_not_said() -> None:
    result = RESULT | {"verdict": None, "test_metrics": None, "intervals": None, "value": None}
    assert list(end_lines(result)) == [
        "accuracy undefined on validation",
        "model   runs/fridge/best_model  after 180 s",
        "try it: autofocus serve runs/fridge/best_model",
    ]
    flat = RESULT["verdict"]["more_photos"] | {"gain_of_doubling": 0.0, "interval": [0.0, 0.003]}
    said = [line for line in lines(more_photos=flat, limited_by=None) if "photos" in line]
    assert said == [
        "photos  twice as many should change little, by what 34, 67, 134 of them taught"
    ]


def test_objects_are_beside_finding_nothing() -> None:
    metric = "mean_average_precision"
    verdict = RESULT["verdict"] | {
        "measured_on": "validation",
        "baseline": {"class": None, "metrics": {metric: 0.0}},
        "gain": {"metric": metric, "interval": [0.41, 0.59]},
    }
    changes = {"primary_metric": metric, "value": 0.5, "test_metrics": None, "intervals": {}}
    first = next(iter(end_lines(RESULT | changes | {"verdict": verdict})))
    assert first == (
        f"{metric} 0.5000 (90 %: 0.410 to 0.590) on 134 images held out; finding nothing: 0.0000"
    )
