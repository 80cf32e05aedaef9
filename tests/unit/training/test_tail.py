"""Tail training: it learns, leaves its input alone, and is the same whatever runs beside it."""

import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from autofocus.models.network import Classifier
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.tasks.multilabel import MultilabelClassification
from autofocus.training.activations import Activations
from autofocus.training.step import DivergedError
from autofocus.training.tail import (
    fit_all,
    fit_tail,
    mixed_tail,
    num_steps,
    step_s,
    tail_logits,
    tail_recipe,
)

NUM_IMAGES, NUM_VIEWS = 40, 3
TASK = MulticlassClassification.name
RECIPE = replace(tail_recipe(num_epochs=6), batch_size=8, learning_rate=5e-3)
TRAIN = np.arange(30)


@pytest.fixture
def tail(network: Classifier) -> Classifier:
    return network.cut_at(3).tail


@pytest.fixture
def activations(network: Classifier) -> Activations:
    """Return noise, brighter in one part of the channels for each of three classes."""
    shape = network.cut_at(3).stem(torch.zeros(1, 3, 32, 32)).shape[1:]
    noise = np.random.default_rng(0).standard_normal((NUM_IMAGES, NUM_VIEWS, *shape))
    for image in range(NUM_IMAGES):
        noise[image, :, image % 3 :: 3] += 1
    return Activations(noise.astype(np.float16), np.zeros((NUM_IMAGES, NUM_VIEWS, 4), np.float32))


TARGETS = np.arange(NUM_IMAGES) % 3


def fitted(tail: Classifier, activations: Activations, **options):
    options = {"task": TASK, "recipe": RECIPE, "seed": 0, "targets": TARGETS, **options}
    return fit_tail(tail, activations, options.pop("targets"), TRAIN, **options)


def log_loss(tail: Classifier, activations: Activations, positions: np.ndarray) -> float:
    logits = torch.from_numpy(tail_logits(tail, activations, positions))
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(TARGETS[positions])))


def test_a_tail_learns_and_the_given_one_stays_as_it_was(
    tail: Classifier, activations: Activations
) -> None:
    initial = {name: value.clone() for name, value in tail.state_dict().items()}
    others = np.arange(30, NUM_IMAGES)
    before = log_loss(tail, activations, others)
    state = fitted(tail, activations)
    for name, value in tail.state_dict().items():
        assert torch.equal(value, initial[name])
    changed = {name for name, value in state.items() if not torch.equal(value, initial[name])}
    norms = {name for name in initial if name.endswith(("running_mean", "running_var"))}
    assert changed, "weights move"
    assert not changed & norms, "norms keep their statistics"
    assert log_loss(mixed_tail(tail, state, 1), activations, others) < 0.8 * before
    assert log_loss(mixed_tail(tail, state, 0.5), activations, others) < before
    assert log_loss(mixed_tail(tail, state, 0), activations, others) == before
    halves = mixed_tail(tail, state, 0.5).state_dict()
    for name, value in tail.state_dict().items():
        assert torch.equal(value, initial[name]), "mixing leaves it alone too"
        torch.testing.assert_close(halves[name] * 2, initial[name] + state[name])


def test_a_fit_is_the_same_bits_whatever_runs_beside_it(
    tail: Classifier, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autofocus.training.tail.num_cores", lambda: 3)
    num_threads = torch.get_num_threads()
    fit = partial(fitted, tail, activations)
    alone = fit_all([fit])[0]
    torch.manual_seed(99)
    beside = fit_all([fit, partial(fit, seed=1), fit, torch.get_num_threads])
    assert beside[3] == 1, "a fit takes one thread"
    assert torch.get_num_threads() == num_threads
    for name, value in alone.items():
        assert torch.equal(value, beside[0][name])
        assert torch.equal(value, beside[2][name])
    assert any(not torch.equal(value, beside[1][name]) for name, value in alone.items())


def test_each_image_shows_all_of_its_views(
    tail: Classifier, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorded(np.ndarray):
        def __getitem__(self, key):
            if isinstance(key, tuple):
                seen.extend(zip(key[0].tolist(), key[1].tolist(), strict=True))
            return np.asarray(super().__getitem__(key))

    seen: list[tuple[int, int]] = []
    watched = Activations(activations.at_cut.view(Recorded), activations.features)
    fitted(tail, watched)
    expected = [(image, view) for image in TRAIN for view in range(NUM_VIEWS)] * 2
    assert sorted(seen) == sorted(expected)


def test_labels_of_several_classes_learn_too(tail: Classifier, activations: Activations) -> None:
    targets = np.eye(3, dtype=np.int64)[TARGETS]
    state = fitted(tail, activations, task=MultilabelClassification.name, targets=targets)
    tail.load_state_dict(state)
    logits = tail_logits(tail, activations, TRAIN)
    assert logits.dtype == np.float64
    assert ((logits > 0) == targets[TRAIN]).mean() > 0.8


def test_time_and_the_user_end_a_fit(tail: Classifier, activations: Activations) -> None:
    assert fitted(tail, activations, deadline_s=time.monotonic() - 1) is None
    steps: list[int] = []
    ended = fitted(
        tail, activations, should_stop=lambda: len(steps) == 2, on_step=lambda: steps.append(0)
    )
    assert ended is None
    assert len(steps) == 2
    steps.clear()
    fitted(tail, activations, on_step=lambda: steps.append(0))
    assert len(steps) == num_steps(RECIPE, len(TRAIN)) == 24
    steps.clear()
    fitted(tail, activations, max_steps=4, on_step=lambda: steps.append(0))
    assert len(steps) == 4


def test_a_loss_that_is_no_number_is_an_error(tail: Classifier, activations: Activations) -> None:
    activations.at_cut[3] = np.nan
    with pytest.raises(DivergedError, match="exploded"):
        fitted(tail, activations)


def test_a_step_has_a_measured_cost(tail: Classifier, activations: Activations) -> None:
    assert step_s(tail, activations, TARGETS, task=TASK, recipe=RECIPE) > 0
