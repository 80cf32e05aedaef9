"""The mean of several trials' networks (soup), scored like a trial of its own."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from autofocus.data.batches.cache.budget import free_budget
from autofocus.manifest import MANIFEST_NAME, Manifest, encode_manifest
from autofocus.models.families import build_described
from autofocus.runtime import write_atomically
from autofocus.study.automode.entrants import AutoMode
from autofocus.study.best_model import Score
from autofocus.study.folder.trial_folder import forget_result, read_result
from autofocus.study.scheduler import TrialController
from autofocus.study.study import Study, format_metric
from autofocus.training.averaging import StateDict, greedy_soup
from autofocus.training.candidate import NUM_CHECK_IMAGES, Candidate
from autofocus.training.checkpoint import load_checkpoint
from autofocus.training.device import choose_device
from autofocus.training.evaluate import evaluate
from autofocus.training.losses import OBJECTIVES
from autofocus.training.recipe import Recipe
from autofocus.training.selection import selection_score
from autofocus.training.trial_loop import evaluation_set

log = logging.getLogger(__name__)

SOUP_ID = "soup"
# Each ingredient costs an evaluation.
MAX_INGREDIENTS = 5
_BATCH_SIZE = 8


def try_soup(study: Study, scheduler: TrialController, auto_mode: AutoMode) -> None:
    """Average the best trials of one network, and add the mean to the study's candidates."""
    started_s = time.monotonic()
    folder = study.folder.path / "trials" / SOUP_ID
    forget_result(folder)
    trials = _alike(study.folder.path, scheduler.scores)
    if len(trials) < 2:
        study.folder.decide("soup", trials=list(trials), reason="nothing to mix")
        return
    deadline_s = study.deadline(study.packaging_s)
    score, candidate, added = _soup(study, scheduler, auto_mode, trials, deadline_s)
    names = [list(trials)[position] for position in added]
    row: dict[str, Any] = {
        "id": SOUP_ID,
        "model": candidate.manifest.model_name,
        "status": "completed",
        "value": score.value,
        "epochs": 0,
        "seconds": round(time.monotonic() - started_s, 3),
        "reason": f"mean of trials {', '.join(map(str, names))}",
        "parameters": {},
    }
    study.folder.decide("soup", trials=list(trials), chosen=names, value=score.value)
    if len(added) < 2:
        log.info("no mean of trials %s is better than the best of them", _format_trials(trials))
        return
    log.info(
        "mean of trials %s: %s %s", _format_trials(names), study.metric, format_metric(score.value)
    )
    write_atomically(folder / MANIFEST_NAME, encode_manifest(candidate.manifest))
    scheduler.add_candidate(row, score, candidate)


def _alike(run: Path, scores: Mapping[int, float]) -> dict[int, Manifest]:
    """Return the manifests of the trials whose networks can be averaged, best first.

    They are those of the best trial's architecture and options; inputs may differ in size, the
    mean takes the best one's.
    """
    ranked = sorted(scores, key=lambda number: (-scores[number], number))
    found: dict[int, Manifest] = {}
    for number in ranked:
        manifest = read_result(run / "trials" / str(number))
        if manifest is None:
            continue
        first = next(iter(found.values()), manifest)
        if _shape(manifest) == _shape(first) and len(found) < MAX_INGREDIENTS:
            found[number] = manifest
    return found


def _shape(manifest: Manifest) -> tuple[Any, ...]:
    return manifest.model_name, manifest.network, manifest.tiling


def _weights(run: Path, number: int) -> StateDict:
    best = load_checkpoint(run / "trials" / str(number) / "best")
    assert best is not None, "a trial with a manifest has weights"
    return best[0]


def _soup(
    study: Study,
    scheduler: TrialController,
    auto_mode: AutoMode,
    trials: Mapping[int, Manifest],
    deadline_s: float | None,
) -> tuple[Score, Candidate, list[int]]:
    """Return the soup's score, the soup, and the positions of its ingredients."""
    best, manifest = next(iter(trials.items()))
    recipe = Recipe(batch_size=_BATCH_SIZE)
    spec = replace(scheduler.spec_of(best), id=SOUP_ID, recipe=recipe)
    states, device = [_weights(study.folder.path, n) for n in trials], choose_device(spec.device)
    network = build_described(manifest)
    network.load_state_dict(dict(states[0]))
    _, validation = spec.of(study.samples)
    objective = OBJECTIVES[spec.task.name](spec.recipe, validation.targets, network)
    rank = selection_score(spec.primary_metric, len(validation))
    with evaluation_set(spec, validation, objective, free_budget()) as images:

        def score(state: StateDict) -> float:
            network.load_state_dict(dict(state))
            return rank(evaluate(network.to(device), spec.task, images, device).metrics)

        soup = greedy_soup(states, score, _clock(deadline_s))
        network.to("cpu").load_state_dict(soup.state)
        calibration, metrics, losses = auto_mode.finish_soup(network, spec, images)
    finished = msgspec.structs.replace(manifest, calibration=calibration, metrics=metrics)
    candidate = Candidate(network.eval(), finished, validation.locations[:NUM_CHECK_IMAGES])
    return Score(SOUP_ID, metrics[spec.primary_metric], losses), candidate, soup.chosen


def _clock(deadline_s: float | None) -> Callable[[], bool]:
    """Return a function that tells whether another evaluation, of the longest time, is too late.

    The last network is evaluated twice: once more with its temperature.
    """
    before_s, longest_s = time.monotonic(), 0.0

    def is_late() -> bool:
        nonlocal before_s, longest_s
        now_s = time.monotonic()
        before_s, longest_s = now_s, max(longest_s, now_s - before_s)
        return deadline_s is not None and now_s + 3 * longest_s > deadline_s

    return is_late


def _format_trials(numbers: Sequence[int] | Mapping[int, Any]) -> str:
    return ", ".join(map(str, numbers))
