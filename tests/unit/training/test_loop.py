"""The loop learns, and whatever interrupts it, goes on as if nothing had been."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autofocus.tasks.multilabel import MultilabelClassification
from autofocus.training import loop
from autofocus.training.checkpoint import load_checkpoint, without_prefix
from autofocus.training.device import make_accelerator
from autofocus.training.loop import Trained, TrainingLoop
from autofocus.training.losses import multilabel
from autofocus.training.losses.classification import ClassificationObjective
from autofocus.training.recipe import Recipe

RECIPE = Recipe(num_epochs=3, batch_size=4, early_stopping=False, ema_decay=0.9, initial_share=0.5)
NUM_BATCHES = 4  # 18 photos in batches of 4; the last 2 are left out
MakeFit = Callable[..., TrainingLoop]


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without wall time, which no two runs share."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def tensors_of(folder: Path, which: str) -> dict[str, Tensor]:
    loaded = load_checkpoint(folder / which)
    assert loaded is not None
    return loaded[0]


def assert_same_run(folder: Path, other: Path, trained: Trained, other_trained: Trained) -> None:
    assert metrics_of(folder) == metrics_of(other)
    for which in ("last", "best"):
        mine, theirs = tensors_of(folder, which), tensors_of(other, which)
        assert mine.keys() == theirs.keys()
        different = [name for name in mine if not torch.equal(mine[name], theirs[name])]
        assert different == []
    weights, other_weights = trained.network.state_dict(), other_trained.network.state_dict()
    assert all(torch.equal(weights[name], other_weights[name]) for name in other_weights)
    assert (trained.status, trained.reason, trained.num_epochs, trained.improved) == (
        other_trained.status,
        other_trained.reason,
        other_trained.num_epochs,
        other_trained.improved,
    )
    assert trained.best_epoch == other_trained.best_epoch
    assert trained.initial_share == other_trained.initial_share
    assert np.array_equal(probs_of(trained), probs_of(other_trained))


def probs_of(trained: Trained) -> np.ndarray:
    return np.stack([prediction.probs for prediction in trained.evaluation.predictions])


class StopAt:
    """Asks to stop when it is asked for the n-th time, counted from 1."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


def test_learns_and_returns_the_best_epoch(make_fit: MakeFit) -> None:
    recipe = Recipe(num_epochs=12, batch_size=6, learning_rate=0.003, ema_decay=None)
    recipe = replace(recipe, freeze_norm_stats=False, early_stopping=False, backbone_scale=1.0)
    run = make_fit(recipe=recipe)
    trained = run.run()
    rows = metrics_of(run.folder)
    assert [row["epoch"] for row in rows] == list(range(13))
    assert rows[-1]["loss"] < 0.6 * rows[1]["loss"]
    assert trained.evaluation.metrics["accuracy"] == 1.0
    assert trained.improved
    assert trained.status == "completed"
    assert trained.reason == "all epochs done"
    best = max(rows, key=lambda row: row["score"])
    assert trained.evaluation.metrics["log_loss"] == best["log_loss"]
    assert [row for row in rows if row["is_best"]][-1] == best
    assert trained.best_epoch == best["epoch"]


def test_the_mean_with_the_start_is_kept_where_it_is_better(make_fit: MakeFit) -> None:
    """Trained far too fast: half of the way back is better than all of it."""
    recipe = replace(RECIPE, learning_rate=0.05, ema_decay=None, num_epochs=2, initial_share=0.5)
    start = make_fit("start", recipe=replace(recipe, num_epochs=0)).network.state_dict()
    run = make_fit(recipe=recipe, score=lambda metrics: -float(metrics["log_loss"]))
    trained = replace(run, initial_is_valid=True, sample_losses=lambda found: [0.0]).run()
    last = without_prefix("network", tensors_of(run.folder, "last"))
    name = next(name for name, value in last.items() if value.is_floating_point())
    weights = trained.network.state_dict()
    assert trained.best_epoch == 2
    assert trained.initial_share == metrics_of(run.folder)[-1]["start_share"] == 0.5
    assert torch.allclose(weights[name], (start[name] + last[name]) / 2)
    assert not torch.equal(weights[name], last[name])


@pytest.mark.parametrize(
    ("of_trained", "share"),
    [([0.4, 0.3, 0.4, 0.3, 0.4, 0.3], 0.0), ([0.9, 0.1, 0.9, 0.1, 0.5, 0.2], 0.5)],
    ids=["clearly better", "better by chance"],
)
def test_few_images_keep_the_mean_with_the_start_unless_clearly_worse(
    make_fit: MakeFit, of_trained: list[float], share: float
) -> None:
    of_mean = [0.5] * 6
    kept = of_trained if share == 0 else of_mean
    losses = iter([[1.0] * 6, of_mean, of_trained, kept])
    run = make_fit(recipe=replace(RECIPE, num_epochs=1))
    trained = replace(run, sample_losses=lambda found: next(losses)).run()
    assert trained.initial_share == share
    assert trained.best_epoch == 1


def test_few_images_keep_the_latest_weights_unless_clearly_worse(make_fit: MakeFit) -> None:
    losses = iter([[1.0] * 6, [0.1, 0.2, 0.1, 0.2, 0.1, 0.2], [0.2, 0.1] * 3, [0.9] * 6])
    run = make_fit(recipe=replace(RECIPE, initial_share=0.0))
    trained = replace(run, sample_losses=lambda found: next(losses)).run()
    assert [row["is_best"] for row in metrics_of(run.folder)] == [True, True, True, False]
    assert trained.best_epoch == 2


def test_returned_network_makes_the_returned_outputs(make_fit: MakeFit) -> None:
    run = make_fit()
    trained = run.run()
    (images,) = [torch.cat([torch.from_numpy(b.images) for b in run.validation.loader.epoch(0)])]
    with torch.no_grad():
        probs = trained.network(images).softmax(dim=1).numpy()
    assert np.allclose(probs, probs_of(trained), atol=1e-5)
    assert not trained.network.training
    assert all(parameter.requires_grad for parameter in trained.network.parameters())


def test_nothing_worse_than_the_start_is_kept(make_fit: MakeFit) -> None:
    recipe = replace(RECIPE, learning_rate=1e-9, optimizer="sgd", ema_decay=None, num_epochs=1)
    run = make_fit(recipe=recipe, score=lambda metrics: -metrics["log_loss"] * 0)
    start = {name: value.clone() for name, value in run.network.state_dict().items()}
    trained = run.run()
    assert not trained.improved
    assert all(torch.equal(v, start[k]) for k, v in trained.network.state_dict().items())


def test_start_is_kept_where_the_score_is_undefined(make_fit: MakeFit) -> None:
    trained = make_fit(score=lambda metrics: float("-inf")).run()
    assert trained.status == "completed"
    assert not trained.improved


def test_without_a_start_worth_keeping_what_has_learnt_longest_is_kept(
    make_fit: MakeFit,
) -> None:
    recipe = replace(RECIPE, early_stopping=True, early_stopping_patience=1, early_stopping_delay=0)
    run = make_fit(recipe=recipe, score=lambda metrics: float("-inf"), initial_is_valid=False)
    trained = run.run()
    assert (trained.improved, trained.num_epochs) == (True, RECIPE.num_epochs)
    assert [row["is_best"] for row in metrics_of(run.folder)] == [True] * (RECIPE.num_epochs + 1)
    average = without_prefix("average", tensors_of(run.folder, "last"))
    weights = trained.network.state_dict()
    assert all(torch.equal(weights[name], average[name]) for name in weights)


@pytest.mark.parametrize("nothing", [float("-inf"), 0.0])
def test_any_score_wins_over_none(make_fit: MakeFit, nothing: float) -> None:
    scores = iter([nothing, nothing, 0.5, nothing])
    run = make_fit(score=lambda metrics: next(scores), initial_is_valid=False)
    run.run()
    assert [row["is_best"] for row in metrics_of(run.folder)] == [True, True, True, False]


def test_zeros_count_for_early_stopping(make_fit: MakeFit) -> None:
    recipe = replace(RECIPE, early_stopping=True, early_stopping_patience=1, early_stopping_delay=0)
    trained = make_fit(recipe=recipe, score=lambda metrics: 0.0, initial_is_valid=False).run()
    assert (trained.improved, trained.num_epochs) == (True, 1)


def test_validation_loss_and_metrics_of_training_images_stand_beside_the_others(
    make_fit: MakeFit,
) -> None:
    plain = make_fit("plain")
    watched = make_fit("watched", replace(RECIPE, log_validation_loss=True))
    plain.run()
    replace(watched, train_subset=watched.validation).run()
    for row, other in zip(metrics_of(watched.folder), metrics_of(plain.folder), strict=True):
        # The objective's loss is the log loss; and measuring changes nothing.
        assert row["validation_loss"] == pytest.approx(row["log_loss"], rel=1e-5)
        assert row["training_accuracy"] == row["accuracy"]
        assert {name: row[name] for name in other} == other
        assert "validation_loss" not in other


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "ema_decay": None, "freeze_norm_stats": False},
        {"accumulation": 3, "evaluation_frequency": 2, "mixup_alpha": 0.4},
    ],
    ids=["adamw-ema", "sgd-norms", "accumulation-mixup"],
)
def test_stopped_at_any_step_it_goes_on_bit_same(
    make_fit: MakeFit, changes: dict[str, Any]
) -> None:
    recipe = replace(RECIPE, num_epochs=2, **changes)
    whole = make_fit("whole", recipe)
    expected = whole.run()
    num_steps = metrics_of(whole.folder)[-1]["step"]
    for n in range(1, num_steps + 1):
        stopped = make_fit(f"stopped-{n}", recipe, should_stop=StopAt(n)).run()
        assert (stopped.status, stopped.reason) == ("stopped", "stopped by the user")
        resumed = make_fit(f"stopped-{n}", recipe)
        assert_same_run(resumed.folder, whole.folder, resumed.run(), expected)


def test_the_scale_of_fp16_losses_is_resumed(make_fit: MakeFit) -> None:
    """The CPU has no fp16: a scaler of its own stands in for that of accelerate on a GPU."""

    def scaled(folder: str, **changes: Any) -> TrainingLoop:
        accelerator = make_accelerator(torch.device("cpu"))
        # The scale doubles every third step, so a resumed run must know it, and the count.
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=3)
        return make_fit(folder, recipe, accelerator=accelerator, **changes)

    # Gradients are clipped while they are scaled, so the scale is seen in the losses.
    recipe = replace(RECIPE, num_epochs=2, optimizer="sgd", learning_rate=0.1)
    whole = scaled("whole")
    expected = whole.run()
    assert whole.accelerator.scaler.get_scale() == 2.0 * 2**2
    for n in (1, 4, 5):
        scaled(f"stopped-{n}", should_stop=StopAt(n)).run()
        resumed = scaled(f"stopped-{n}")
        assert_same_run(resumed.folder, whole.folder, resumed.run(), expected)
        assert resumed.accelerator.scaler.state_dict() == whole.accelerator.scaler.state_dict()


def test_stopped_at_every_step_in_turn_it_still_ends_bit_same(make_fit: MakeFit) -> None:
    whole = make_fit("whole")
    expected = whole.run()
    for _ in range(3 * NUM_BATCHES):
        assert make_fit("patchwork", should_stop=lambda: True).run().status == "stopped"
    resumed = make_fit("patchwork")
    assert_same_run(resumed.folder, whole.folder, resumed.run(), expected)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_killed_at_any_batch_it_goes_on_bit_same(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, early_stopping: bool
) -> None:
    recipe = replace(RECIPE, num_epochs=2)
    if early_stopping:
        # The rate is so small that no epoch is better: it stops after two.
        recipe = replace(recipe, num_epochs=9, learning_rate=1e-12, early_stopping=True)
        recipe = replace(recipe, early_stopping_patience=2, early_stopping_delay=0)
    whole = make_fit("whole", recipe, score=lambda metrics: round(-metrics["log_loss"], 3))
    expected = whole.run()
    assert metrics_of(whole.folder)[-1]["epoch"] == 2

    for n in range(2 * NUM_BATCHES):
        run = make_fit(f"killed-{n}", recipe, score=whole.score)
        original, calls = run.training.epoch, iter(range(1000))

        def dying(*args: Any, n: int = n, original=original, calls=calls):
            for batch in original(*args):
                if next(calls) == n:
                    raise Killed
                yield batch

        monkeypatch.setattr(run.training, "epoch", dying)
        with pytest.raises(Killed):
            run.run()
        resumed = make_fit(f"killed-{n}", recipe, score=whole.score)
        assert_same_run(resumed.folder, whole.folder, resumed.run(), expected)


@pytest.mark.parametrize("where", ["save_checkpoint", "write_atomically"])
def test_killed_around_any_write_it_goes_on_bit_same(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    recipe = replace(RECIPE, num_epochs=2)
    whole = make_fit("whole", recipe)
    expected = whole.run()
    owner = loop.checkpoint if where == "save_checkpoint" else loop
    original = getattr(owner, where)
    for n in range(100):
        for moment in ("before", "after"):
            calls = iter(range(1000))

            def dying(*args: Any, n: int = n, moment: str = moment, calls=calls) -> None:
                is_it = next(calls) == n
                if is_it and moment == "before":
                    raise Killed
                original(*args)
                if is_it:
                    raise Killed

            monkeypatch.setattr(owner, where, dying)
            folder = f"{moment}-{n}"
            try:
                make_fit(folder, recipe).run()
                was_killed = False
            except Killed:
                was_killed = True
            monkeypatch.setattr(owner, where, original)
            resumed = make_fit(folder, recipe)
            assert_same_run(resumed.folder, whole.folder, resumed.run(), expected)
        if not was_killed:
            assert n >= 3, "there are at least three writes to be killed at"
            return
    pytest.fail("never ran to the end")


def test_finished_run_is_not_trained_again(make_fit: MakeFit) -> None:
    recipe = replace(RECIPE, num_epochs=1)
    first = make_fit(recipe=recipe).run()
    again = make_fit(recipe=recipe)
    again = replace(again, on_epoch=lambda report: pytest.fail("nothing is left to do"))
    second = again.run()
    assert second.reason == first.reason
    assert second.evaluation.metrics == first.evaluation.metrics


def test_early_stopping_ends_the_run(make_fit: MakeFit) -> None:
    recipe = replace(RECIPE, num_epochs=30, early_stopping=True, early_stopping_patience=2)
    recipe = replace(recipe, early_stopping_delay=3)
    run = make_fit(recipe=recipe, score=lambda metrics: 0.0)
    trained = run.run()
    # Nothing beats the start: two evaluations after the delay of three epochs.
    assert trained.num_epochs == 5
    assert trained.reason == "early stopping: no better for 2 evaluations"
    assert trained.status == "completed"
    assert [row["is_best"] for row in metrics_of(run.folder)] == [True] + 5 * [False]


def test_evaluation_frequency(make_fit: MakeFit) -> None:
    run = make_fit(recipe=replace(RECIPE, num_epochs=5, evaluation_frequency=2))
    run.run()
    assert [row["epoch"] for row in metrics_of(run.folder)] == [0, 2, 4, 5]


def test_exploding_loss_fails_the_trial_and_keeps_the_best(
    make_fit: MakeFit, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(RECIPE, learning_rate=1e5, optimizer="sgd", clip_norm=None, ema_decay=None)
    run = make_fit(recipe=replace(recipe, backbone_scale=1.0, layer_decay=1.0))
    start = {name: value.clone() for name, value in run.network.state_dict().items()}
    trained = run.run()
    assert trained.status == "failed"
    assert "Try a smaller learning_rate" in trained.reason
    assert all(torch.equal(v, start[k]) for k, v in trained.network.state_dict().items())
    assert np.isfinite(probs_of(trained)).all()


def test_nan_fails_the_trial_and_keeps_the_last_good_epoch(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_fit(recipe=replace(RECIPE, ema_decay=None, initial_share=0.0))
    original, calls = run.training.epoch, iter(range(1000))

    def poisoned(*args: Any) -> Any:
        for batch in original(*args):
            if next(calls) == NUM_BATCHES + 1:
                batch.images[0] = np.nan
            yield batch

    monkeypatch.setattr(run.training, "epoch", poisoned)
    score = iter([0.0, 1.0, 2.0])
    trained = replace(run, score=lambda metrics: next(score)).run()
    assert trained.status == "failed"
    assert "nan" in trained.reason
    assert trained.improved
    assert trained.num_epochs == 1
    assert np.isfinite(probs_of(trained)).all()
    assert all(torch.isfinite(v).all() for v in trained.network.state_dict().values())


def test_weights_that_became_nan_fail_the_trial_at_the_evaluation(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_fit(recipe=replace(RECIPE, ema_decay=None, num_epochs=1))
    original = loop.evaluate
    calls = iter(range(10))

    def after_a_bad_step(network: Any, *args: Any) -> Any:
        if next(calls) == 1:
            network.head.weight.data.fill_(float("nan"))
        return original(network, *args)

    monkeypatch.setattr(loop, "evaluate", after_a_bad_step)
    trained = run.run()
    assert trained.status == "failed"
    assert "not numbers" in trained.reason
    assert np.isfinite(probs_of(trained)).all()


def test_on_epoch_ends_training_for_good(make_fit: MakeFit) -> None:
    seen: list[int] = []

    def on_epoch(report: dict[str, Any]) -> bool:
        seen.append(report["epoch"])
        return report["epoch"] == 2

    trained = make_fit(on_epoch=on_epoch).run()
    assert seen == [0, 1, 2]
    assert trained.num_epochs == 2
    assert "ended early" in trained.reason
    assert make_fit().run().num_epochs == 2


def test_a_slow_start_does_not_end_training_early(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    run = make_fit(recipe=replace(RECIPE, num_epochs=10_000))
    original_epoch, num_steps = run.training.epoch, iter(range(10_000))

    def slow_at_first(*args: Any):
        for batch in original_epoch(*args):
            clock.now_s += 2.0 if next(num_steps) < 6 else 0.1
            yield batch

    monkeypatch.setattr(run.training, "epoch", slow_at_first)
    started_s = clock.now_s
    assert replace(run, deadline_s=started_s + 20.0).run().reason == "budget"
    assert clock.now_s - started_s > 0.9 * 20.0


class Clock:
    """A clock that moves only where the test says, whatever else the machine does."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.mark.parametrize("budget_s", [0.0, 0.7, 2.0, 20.0])
def test_deadline_is_planned_for_and_kept(
    make_fit: MakeFit, budget_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    run = make_fit(recipe=replace(RECIPE, num_epochs=10_000, initial_share=0.0))
    original_epoch, original_evaluate = run.training.epoch, loop.evaluate

    def slow(*args: Any):
        for batch in original_epoch(*args):
            clock.now_s += 0.1
            yield batch

    def slow_evaluate(*args: Any) -> Any:
        clock.now_s += 0.15
        return original_evaluate(*args)

    monkeypatch.setattr(run.training, "epoch", slow)
    monkeypatch.setattr(loop, "evaluate", slow_evaluate)
    started_s = clock.now_s
    trained = replace(run, deadline_s=started_s + budget_s).run()
    seconds = clock.now_s - started_s
    assert trained.status == "completed"
    assert trained.reason == "budget"
    # Three evaluations and a step are the least that a run does.
    assert seconds <= max(budget_s, 3 * 0.15 + 0.1) + 1e-9
    if budget_s >= 2:
        rows = metrics_of(run.folder)
        # The rate has come down by then, and the time was used.
        assert rows[-1]["learning_rate"] < 0.2 * max(row["learning_rate"] for row in rows)
        assert seconds > 0.8 * budget_s


def test_budget_that_ended_stays_ended(make_fit: MakeFit) -> None:
    """Killed while the model is packaged, the same command must not train on."""
    recipe = replace(RECIPE, num_epochs=1000)
    first = make_fit(recipe=recipe, deadline_s=time.monotonic() + 0.5).run()
    again = make_fit(recipe=recipe, deadline_s=time.monotonic() + 60).run()
    assert again.reason == first.reason == "budget"
    assert again.evaluation.metrics == first.evaluation.metrics


def test_what_time_ended_trains_on_where_it_is_let(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, num_epochs=5)
    for ends_at in (NUM_BATCHES + 1, 2 * NUM_BATCHES):
        monkeypatch.setattr(TrainingLoop, "_is_late", lambda run, at=ends_at: run.at.step >= at)
        first = make_fit(recipe=recipe).run()
        assert first.reason == "budget"
        loop.let_go_on(make_fit(recipe=recipe).folder)
    monkeypatch.setattr(TrainingLoop, "_is_late", lambda run: False)
    run = make_fit(recipe=recipe)
    whole = run.run()
    assert (whole.reason, whole.num_epochs) == ("all epochs done", 5)
    assert run.at.step == 5 * NUM_BATCHES
    epochs = [row["epoch"] for row in metrics_of(run.folder)]
    assert epochs == sorted(epochs)


def test_mean_loss_counts_steps(make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch) -> None:
    """With accumulation an epoch has fewer losses than batches."""
    monkeypatch.setattr(loop.Stepper, "step", lambda self, images, targets, loss: 2.5)
    run = make_fit(recipe=replace(RECIPE, accumulation=3, ema_decay=None))
    run.run()
    assert [row["loss"] for row in metrics_of(run.folder)] == [None, 2.5, 2.5, 2.5]


def test_accumulation_computes_no_more_than_a_batch_at_once(
    make_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_fit(recipe=replace(RECIPE, accumulation=4, num_epochs=1, ema_decay=None))
    sizes: list[int] = []
    run.network.register_forward_pre_hook(
        lambda module, images: sizes.append(len(images[0])) if module.training else None
    )
    run.run()
    # Before that, two images were looked at for what they take.
    assert sizes == [2, 4, 4, 4, 4]
    assert metrics_of(run.folder)[-1]["step"] == 1


class RowsOfClasses(ClassificationObjective):
    """Turns the class indices that the loader gives into multi-hot rows."""

    def collate(self, targets: Any, device: torch.device) -> torch.Tensor:
        return torch.eye(3, dtype=torch.int64)[super().collate(targets, device)]


def test_multi_label_learns(make_fit: MakeFit) -> None:
    run = make_fit(recipe=replace(RECIPE, num_epochs=2))
    as_rows = np.eye(3, dtype=np.int64)
    task = MultilabelClassification()
    run = replace(
        run,
        task=task,
        objective=RowsOfClasses(multilabel, run.recipe, as_rows, run.network),
        validation=replace(run.validation, targets=as_rows[run.validation.targets]),
    )
    trained = run.run()
    losses = [row["loss"] for row in metrics_of(run.folder)][1:]
    assert losses[1] < losses[0]
    assert trained.status == "completed"


def test_frozen_parts_do_not_move(make_fit: MakeFit) -> None:
    run = make_fit(recipe=replace(RECIPE, layers_to_freeze=2, freeze_norm_stats=False))
    start = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.run()
    after = {
        name.removeprefix("network/"): value
        for name, value in tensors_of(run.folder, "last").items()
        if name.startswith("network/")
    }
    moved = {name for name, value in after.items() if not torch.equal(value, start[name])}
    assert not [name for name in moved if name.startswith(("encoder.conv1", "encoder.bn1"))]
    assert not [name for name in moved if name.startswith("encoder.layer1")]
    assert "encoder.layer2.0.conv1.weight" in moved
    assert "encoder.layer2.0.bn1.running_mean" in moved


def test_progress_says_speed_and_time_left(
    make_fit: MakeFit, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_fit(recipe=replace(RECIPE, num_epochs=1), primary_metric="accuracy")
    line = progress_of(run, caplog)
    assert "· validation accuracy 0." in line
    assert ", log loss " in line
    assert "images/s" in line
    assert line.endswith("· 0 s to go")


def test_progress_says_no_score_where_nothing_is_judged(
    make_fit: MakeFit, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, nothing = replace(RECIPE, num_epochs=1), float("-inf")
    run = make_fit(recipe=recipe, score=lambda metrics: nothing, primary_metric="accuracy")
    line = progress_of(run, caplog)
    assert "validation" not in line
    assert "images/s" in line


def progress_of(run: TrainingLoop, caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.INFO, "autofocus")
    run.run()
    messages = [record.getMessage() for record in caplog.records]
    (line,) = [message for message in messages if message.startswith("epoch 1/1 ")]
    return line


def test_metrics_are_strict_json(make_fit: MakeFit) -> None:
    run = make_fit(recipe=replace(RECIPE, num_epochs=1), score=lambda metrics: float("nan"))
    run.run()
    text = (run.folder / "metrics.jsonl").read_text()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [row["score"] for row in rows] == [None, None]


def test_mixed_precision_leaves_the_network_as_it_was(make_fit: MakeFit) -> None:
    """Accelerate wraps `forward`; a package must be made of the network alone."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    trained = make_fit(recipe=replace(RECIPE, num_epochs=1), accelerator=accelerator).run()
    assert "forward" not in vars(trained.network)
