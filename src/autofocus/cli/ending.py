"""The last lines of a run: what its model is worth, what limited it, what to do next.

A file of its own: `train` and `runs` end with it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from autofocus.cli.output import emit

_MINUTE_S = 60.0


def show_result(result: Mapping[str, Any], node: str = "") -> None:
    """Print the result of a run for people.

    Args:
        result: Document of `train --json`.
        node: Name of the job's node in a pipeline.
    """
    if node:
        emit(f"job     {node}")
    for line in end_lines(result):
        emit(line)


def end_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the last lines of a run, six at most, and one or two for each fitted threshold."""
    from autofocus.metrics.thresholds import threshold_line

    verdict = result.get("verdict") or {}
    is_useless = verdict.get("is_useful") is False
    yield _worth(result, verdict, is_useless)
    metric = result["primary_metric"]
    if result["test_metrics"] is not None:
        yield f"test    {metric} {_number(result['test_metrics'][metric])} on test data"
    for fitted in (*result.get("thresholds", ()), *result.get("test_thresholds", ())):
        yield f"score   {threshold_line(fitted)}"
    limit = _limit(result, verdict.get("limited_by"))
    if limit:
        yield f"limit   {limit}"
    if photos := verdict.get("more_photos"):
        yield f"photos  {_more_photos(photos)}"
    yield f"model   {result['best_model']}  after {result['seconds']:.0f} s"
    if is_useless:
        first = "give it that time; " if limit else ""
        labels = f"are the labels right? autofocus data check {verdict['training_data']}"
        yield f"next    {first}{labels}; if so, more photos"
    else:
        yield f"try it: autofocus serve {result['best_model']}"


def _worth(result: Mapping[str, Any], verdict: Mapping[str, Any], is_useless: bool) -> str:
    """Return the primary metric, where it was measured, and beside what."""
    metric, baseline = result["primary_metric"], verdict.get("baseline")
    interval = (result.get("intervals") or {}).get(metric)
    gain = verdict.get("gain") or {}
    if interval is None and gain.get("metric") == metric:
        interval = gain["interval"]
    between = "" if interval is None else f" (90 %: {interval[0]:.3f} to {interval[1]:.3f})"
    images = f" on {verdict['num_images']} images" if "num_images" in verdict else ""
    where = verdict.get("measured_on", "validation")
    place = f" by {where}{images}" if where == "cross-validation" else f" on {where}{images}"
    if where == "validation" and images:
        place = f"{images} held out"
    measured = f"{metric} {_number(result['value'])}{between}{place}"
    if baseline is None:
        return measured
    value = _number(baseline["metrics"].get(metric))
    beside = _baseline_text(result["task"], baseline)
    if is_useless:
        return f"warning: no better than {beside} ({metric} {value}): {measured}"
    return f"{measured}; {beside}: {value}"


def _baseline_text(task: str, baseline: Mapping[str, Any]) -> str:
    if baseline["class"] is not None:
        return f"always guessing {baseline['class']!r}, the commonest class"
    is_of_classes = "log_loss" in baseline["metrics"]
    return "how often each class occurs" if is_of_classes else "finding nothing"


def _limit(result: Mapping[str, Any], limited: Mapping[str, Any] | None) -> str:
    """Return what kept the run from more, and the command for more; empty where nothing did."""
    if limited is None:
        return ""
    if limited["reason"] == "epochs":
        return (
            f"{limited['epochs']} of {limited['num_epochs']} epochs; all need about "
            f"{_duration(limited['seconds_for_all'])} here: "
            f"{_resume(result, limited['seconds_more'])}"
        )
    if limited["reason"] == "no_more_trials":
        needed_s = limited["seconds_needed"]
        return (
            f"no time for another trial, which takes about {_duration(needed_s)}: "
            f"{_resume(result, needed_s)}"
        )
    if limited.get("cheapest") is None:
        return f"everything was tried in {_duration(result['seconds'])}; more time gives no more"
    cost_s = limited["cost_s"]
    gain = f"more {limited['metric']}" if "metric" in limited else "less log loss"
    return (
        f"nothing left to try in the time; next is {limited['cheapest']}: about "
        f"{limited['expected_gain']:.3f} {gain} in {_duration(cost_s)}: {_resume(result, cost_s)}"
    )


def _resume(result: Mapping[str, Any], seconds: float) -> str:
    """Return the command that goes on for about so long, with time to start and to package."""
    minutes = int((seconds * 1.2 + 30.0) // _MINUTE_S) + 1
    return f"autofocus runs resume {result['run']} --budget {minutes}m"


def _more_photos(photos: Mapping[str, Any]) -> str:
    low, high = photos["interval"]
    gain, points = photos["gain_of_doubling"], photos["points"]
    sizes = ", ".join(str(point["num_images"]) for point in points)
    if high < 0.005:
        return f"twice as many should change little, by what {sizes} of them taught"
    return (
        f"twice as many: about {gain:.3f} less log loss ({low:.3f} to {high:.3f}), by what {sizes} "
        "of them taught"
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    if seconds < 2 * _MINUTE_S:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / _MINUTE_S
    return f"{round(minutes)} min" if minutes < 120 else f"{minutes / 60:.1f} h"
