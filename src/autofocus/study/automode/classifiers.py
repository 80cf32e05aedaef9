"""AutoMode for classifiers: frozen probes of several encoders decide which to train."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from autofocus.study.automode.entrants import AutoStart, Entrant, ResourceBudget, find_entrants
from autofocus.study.automode.priors import priors_of
from autofocus.study.automode.profile import median_size, training_image_s
from autofocus.study.automode.space import space_around
from autofocus.study.best_model import Score
from autofocus.study.scheduler import PROBE_ID
from autofocus.study.study import Study
from autofocus.study.trials.classifiers import begin_probed, probe_model
from autofocus.study.trials.recipes import recipe_for
from autofocus.training.device import choose_device
from autofocus.training.optim import num_layer_groups
from autofocus.training.probe_trial import Probed
from autofocus.training.selection import Comparison, compare
from autofocus.training.trial import TrialSpec

log = logging.getLogger(__name__)

# Share of the time left that probing one more encoder may take.
MAX_PROBE_SHARE = 0.2


class ClassifierAutoMode:
    """Choose by frozen probes of several encoders."""

    def begin(self, study: Study) -> AutoStart:
        """Publish a frozen probe, then probe the other entrants and rank all."""
        plan = study.plan
        priors = priors_of(plan.model.kind)
        spec, probed = begin_probed(study, plan, PROBE_ID)
        num_images, device = len(study.train), choose_device(spec.device)
        budget = ResourceBudget(
            num_images=num_images,
            image_s=training_image_s(probed.initial_model, spec.preprocess.size, device),
            is_cpu=device.type == "cpu",
            # An image is seen twice, mirrored; training computes thrice as much for each.
            needed_s=lambda one: 2 / 3 * len(study.samples) * one.image_s,
            left_s=MAX_PROBE_SHARE * study.left_s(),
            num_groups=num_layer_groups(probed.initial_model),
        )
        found = find_entrants(plan, priors, budget, study.track)
        assert study.first_score is not None, "a probe has a score"
        first = ProbedEntrant(found[0], spec, probed, study.first_score)
        ranked = _ranked(study, [first, *_probe_others(study, found[1:])])
        best = ranked[0]
        recipe = recipe_for(best.entrant.plan, num_images)
        space = [
            space_around(one.entrant, recipe_for(one.entrant.plan, num_images), one.side, priors)
            for one in ranked
        ]
        study.first_score, study.first_candidate = best.score, best.probed.candidate
        entrants = [one.entrant for one in ranked]
        facts = {"image_size": median_size(study.samples.chosen(study.train).locations)}
        return AutoStart(entrants, space, recipe.num_epochs, best.side, facts)


@dataclass(frozen=True)
class ProbedEntrant:
    """An entrant with a frozen probe.

    Attributes:
        entrant: The model.
        spec: Trial of its probe.
        probed: The probe.
        score: Score of the probe.
    """

    entrant: Entrant
    spec: TrialSpec
    probed: Probed
    score: Score

    @property
    def side(self) -> int:
        """Side of its input, in pixels."""
        return self.spec.preprocess.size[0]


def _probe_others(study: Study, others: list[Entrant]) -> list[ProbedEntrant]:
    """Probe the encoders of other entrants."""
    found = []
    for number, entrant in enumerate(others, 1):
        probe = probe_model(study, entrant.plan, f"{PROBE_ID}-{number}")
        if probe is None:
            # The budget ended before it had seen all images: there is nothing to compare.
            continue
        spec, probed, score = probe
        num_groups = num_layer_groups(probed.initial_model)
        found.append(ProbedEntrant(replace(entrant, num_groups=num_groups), spec, probed, score))
    return found


def _ranked(study: Study, entrants: list[ProbedEntrant]) -> list[ProbedEntrant]:
    """Return the entrants to train, best first, without those clearly worse than the best."""
    best = entrants[0]
    for candidate in entrants[1:]:
        comparison = _compared(best, candidate)
        study.folder.decide(
            "encoder",
            champion=_named(best),
            challenger=_named(candidate),
            evidence="out-of-fold and held-out images",
            **comparison.inputs(),
        )
        log.info(
            "%s against %s on %d images: log loss lower by %.4f ± %.4f: %s",
            _named(candidate),
            _named(best),
            comparison.num_pairs,
            comparison.mean_gain,
            comparison.standard_error,
            "taken" if comparison.is_better else "not taken",
        )
        best = candidate if comparison.is_better else best
    rest = [one for one in entrants if one is not best]
    level = [one for one in rest if not _compared(one, best).is_better]
    return [best, *sorted(level, key=lambda one: float(one.probed.losses.mean()))]


def _compared(best: ProbedEntrant, candidate: ProbedEntrant) -> Comparison:
    """Compare two probes on every image that neither head had seen."""
    before, after = best.probed.losses, candidate.probed.losses
    folds = best.probed.fold_losses, candidate.probed.fold_losses
    # Where time was short, one of them may have been fitted without folds.
    if len(folds[0]) == len(folds[1]):
        before, after = np.concatenate([folds[0], before]), np.concatenate([folds[1], after])
    return compare(before, after)


def _named(one: ProbedEntrant) -> str:
    return f"{one.entrant.plan.model.name} at {one.side} px"
