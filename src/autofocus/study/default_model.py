"""The default model: a better one than the embedded, where its weights can be had."""

import logging
from dataclasses import replace

from autofocus.errors import WeightsError
from autofocus.models import catalog
from autofocus.models.base import CLASSIFIER, ModelSpec
from autofocus.models.weights.hub import Timeouts
from autofocus.models.weights.load import load_weights
from autofocus.runtime import Track
from autofocus.study.folder.run_folder import RunFolder
from autofocus.study.resolve import Plan

log = logging.getLogger(__name__)

# The job does not name these: a machine without a hub should not wait for one.
BRIEF = Timeouts(connect_s=2.0, answer_s=4.0)
# A hub that did not answer once is not waited for again.
_SHORTEST = Timeouts(connect_s=0.2, answer_s=0.5)
_DECISION = "default_model"


class WeightsAtHand:
    """Says of one model after another whether its weights are here or can be downloaded at once.

    Args:
        track: Progress display of downloads.
    """

    def __init__(self, track: Track) -> None:
        self._track = track
        self._timeouts = BRIEF

    def has(self, model: ModelSpec) -> bool:
        """Return whether the weights of a model are here now; they are downloaded if need be."""
        try:
            load_weights(model, timeouts=self._timeouts, track=self._track)
        except WeightsError as error:
            log.debug("%s takes no part: %s", model.name, error.problems[0])
            self._timeouts = _SHORTEST
            return False
        return True


def with_default_model(plan: Plan, folder: RunFolder, track: Track) -> Plan:
    """Return the plan, with a better default model where the job names none.

    The choice is made once a run: whether a hub answers may change until it is resumed.

    Args:
        plan: Plan whose model needs no download.
        folder: Run folder that records the choice.
        track: Progress display of downloads.
    """
    # AutoMode of classifiers tries several.
    is_chosen = plan.mode == "automode" and plan.model.kind == CLASSIFIER
    if is_chosen or plan.user_named_model or plan.job.weights is not None:
        return plan
    before = folder.decided(_DECISION)
    if before is not None:
        return replace(plan, model=catalog.resolve(str(before["model"])))
    for name in catalog.preferred_models(plan.model.kind):
        spec = catalog.resolve(name)
        try:
            load_weights(spec, timeouts=BRIEF, track=track)
        except WeightsError as error:
            reason = error.problems[0]
            log.info("default model: no weights for %s here; %s instead", name, plan.model.name)
            folder.decide(_DECISION, model=plan.model.name, instead_of=name, reason=reason)
            continue
        folder.decide(_DECISION, model=name)
        return replace(plan, model=spec)
    return plan
