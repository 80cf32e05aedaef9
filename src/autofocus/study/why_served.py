"""Why a trial's model is served, in words, from the decisions that led to it.

A file of its own: who decides need not know how it is told.
"""

from collections.abc import Sequence
from typing import Any


def why_served(decisions: Sequence[dict[str, Any]], trial: str, metric: str) -> str:
    """Return why a model is served.

    Args:
        decisions: All decisions of the run.
        trial: Id of its trial.
        metric: The run's primary metric.
    """
    if trial.startswith("refit-"):
        return f"trial {trial.removeprefix('refit-')} once more, with all images"
    for made in reversed(decisions):
        if made["decision"] == "champion" and made.get("champion") == trial and "gains" in made:
            return _of_contest(made, trial)
        if made["decision"] == "champion" and made.get("challenger") == trial and made.get("wins"):
            return _of_challenge(made, metric)
    return "the first model"


def _of_contest(made: dict[str, Any], trial: str) -> str:
    """Return the gain of the best of all candidates over the first one."""
    gains = [gain for gain in made["gains"] if gain["trial"] == trial]
    first = made["gains"][0]["trial"]
    if trial == first or not gains:
        others = "; no other is clearly better" if len(made["gains"]) > 1 else ""
        return f"the first model{others}"
    best = max(gains, key=lambda gain: gain["shrunk"])
    return (
        f"log loss lower by {best['mean']:.4f} ± {best['standard_error']:.4f} than that of {first} "
        f"on {made['num_images']} images"
    )


def _of_challenge(made: dict[str, Any], metric: str) -> str:
    """Return the gain of a trial over the best of those before it."""
    before = made["champion"]
    if "num_pairs" in made:
        return (
            f"loss lower by {made['mean_gain']:.4f} ± {made['standard_error']:.4f} than that of "
            f"trial {before} on {made['num_pairs']} images or groups"
        )
    if made["best"] is None:
        return f"{metric} is undefined for trial {before}"
    return f"{metric} {made['value']:.4f}, {made['best']:.4f} for trial {before}"
