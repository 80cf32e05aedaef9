"""AutoMode from its plan to its refit, on pictures that take no time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import autofocus
from autofocus.study import cross_validation
from autofocus.study.automode import classifiers as classifier_automode
from autofocus.study.automode import run as automode
from autofocus.study.automode.entrants import Entrant
from autofocus.study.refit import refit_s
from autofocus.study.resolve import resolve, trial_plan
from autofocus.study.trials import classifiers as classifier_trials
from autofocus.training.checkpoint import load_checkpoint, save_checkpoint
from autofocus.training.probe_trial import fit_head
from support.tiny_jobs import decisions, tiny_job

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_TRIALS = 3


def job(photos: Path, **keys: Any) -> dict[str, Any]:
    return tiny_job(photos, NUM_TRIALS, **keys)


@pytest.fixture(scope="module")
def finished(
    photo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("automode") / "run"
    return folder, autofocus.train(job(photo_folder), output_dir=str(folder))


def test_it_probes_then_trains_the_default_recipe_then_others(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = finished
    rows = {row["id"]: row for row in result["trials"]}
    made = {name for name in rows if name.startswith("refit-")}
    assert set(rows) - made == {"probe", "0", "1", "2"}
    assert rows["0"]["parameters"] == {}, "the first trial is the default recipe"
    tried = [rows[str(number)]["parameters"] for number in (1, 2)]
    assert tried[0] != tried[1]
    assert set(tried[0]) == {"learning_rate", "augmentations", "layers_to_freeze"}
    assert result["best_trial"] in rows
    (reply,) = autofocus.load(folder).score([_photo(folder)])
    assert len(reply["probs"]) == 3


def _photo(folder: Path) -> Path:
    path = folder.parent / "photo.png"
    Image.fromarray(np.full((48, 64, 3), (200, 30, 30), np.uint8)).save(path)
    return path


def test_its_choices_and_their_inputs_are_written_down(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = finished
    (profile,) = decisions(folder, "profile")
    assert profile["num_images"] + profile["num_validation"] == 24
    assert (profile["num_classes"], profile["image_size"]) == (3, [48, 64])
    assert profile["training_image_s"] > 0
    (plan,) = decisions(folder, "automode")
    assert plan["num_trials"] == NUM_TRIALS
    assert plan["default_recipe_s"] > 0
    # What it searched is a job's own search_space.
    again = job(folder, search_space=plan["search_space"])
    del again["training_parameters"]["number_of_epochs"]
    assert resolve(again).mode == "sweep"


@pytest.mark.usefixtures("empty_packages")
def test_the_same_seed_gives_the_same_leaderboard(
    finished: tuple[Path, dict[str, Any]], photo_folder: Path, tmp_path: Path
) -> None:
    folder, result = finished
    again = autofocus.train(job(photo_folder), output_dir=str(tmp_path / "again"))
    boards = [
        json.loads((path / "leaderboard.json").read_bytes())
        for path in (folder, tmp_path / "again")
    ]
    for board in boards:
        for row in board:
            row.pop("seconds", None)
    assert boards[0] == boards[1]
    assert again["best_trial"] == result["best_trial"]


@pytest.mark.usefixtures("empty_packages")
def test_the_default_recipes_of_all_contenders_come_before_others(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two(plan: Any, *_: Any) -> list[Entrant]:
        larger = {"validation_crop_size": 48}
        return [
            Entrant({}, plan, 0.01, num_groups=5),
            Entrant(larger, trial_plan(plan, larger), 0.01),
        ]

    monkeypatch.setattr(classifier_automode, "find_entrants", two)
    monkeypatch.setattr(classifier_automode, "_ranked", lambda _, found: found)
    result = autofocus.train(job(photo_folder), output_dir=str(tmp_path / "run"))
    rows = {row["id"]: row for row in result["trials"]}
    assert rows["0"]["parameters"] == {}
    assert rows["1"]["parameters"] == {"validation_crop_size": 48}
    assert "learning_rate" in rows["2"]["parameters"]


def test_without_time_or_number_it_is_the_default_recipe(photo_folder: Path) -> None:
    study = _study(photo_folder, limits={})
    rules = automode._rules(study, _auto(num_epochs=5), automode.priors_of("classifier"))
    assert (rules.num_trials, rules.reserve_s({})) == (1, 0.0)


def test_a_budget_tries_others(photo_folder: Path) -> None:
    study = _study(photo_folder, limits={}, budget=1000)
    priors = automode.priors_of("classifier")
    rules = automode._rules(study, _auto(num_epochs=5), priors)
    assert rules.num_trials == priors.max_trials
    assert rules.reserve_s({}) == 0.0, "the default recipe may take all there is"
    assert rules.reserve_s({0: {"status": "completed", "seconds": 40.0}}) == 0.0
    assert automode._rules(study, _auto(num_epochs=0), priors).num_trials == 0


def test_what_the_default_recipe_took_says_what_a_trial_needs() -> None:
    assert automode._min_trial_s({}) == automode.MIN_TRIAL_S
    row = {"status": "completed", "seconds": 300.0}
    assert automode._min_trial_s({0: row}) == pytest.approx(100.0)
    assert automode._min_trial_s({0: row | {"status": "running"}}) == automode.MIN_TRIAL_S


def test_time_is_kept_back_to_train_the_best_once_more(photo_folder: Path) -> None:
    study = _study(photo_folder, limits={}, budget=1000)
    study.first_score = SimpleNamespace(losses=None)
    study.train, study.validation = np.arange(80), np.arange(80, 100)
    auto = _auto(num_epochs=5)
    rules = automode._rules(study, auto, automode.priors_of("classifier"))
    # 200 s, and 300 with a quarter more images and a fifth more of everything.
    assert rules.reserve_s({}) == pytest.approx(320)
    rows = {0: {"status": "completed", "seconds": 40.0}, 1: {"status": "running", "seconds": 0.0}}
    again_s = refit_s(study, 40.0)
    assert again_s > 40.0 * 100 / 80
    assert rules.reserve_s(rows) == pytest.approx(again_s + study.packaging_s)


def four(*given: Any, **options: Any) -> Any:
    """Fit a head that costs 4 for each validation image."""
    probed = fit_head(*given, **options)
    return replace(probed, losses=np.full(len(probed.losses), 4.0))


def test_the_best_of_the_trials_is_trained_once_more(
    finished: tuple[Path, dict[str, Any]], photo_folder: Path, tmp_path: Path
) -> None:
    """As if the second trial had won, on the way from the trials to the result."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder, symlinks=True)
    (folder / "result.json").unlink()
    for number in range(NUM_TRIALS):
        losses = folder / "trials" / str(number) / "losses.npy"
        np.save(losses, np.zeros(len(np.load(losses))) + (0.5 if number == 1 else 5.0))
    winner = folder / "trials" / "1" / "best"
    best = load_checkpoint(winner)
    assert best is not None
    save_checkpoint(winner, best[0], {"epoch": 2, "start_share": 0.5})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_trials, "fit_head", four)
        patch.setattr(cross_validation, "_folds", lambda *_: pytest.fail("it is clear"))
        result = autofocus.train(job(photo_folder), output_dir=str(folder))
    rows = {row["id"]: row for row in result["trials"]}
    assert result["best_trial"] == "refit-1"
    assert rows["refit-1"]["value"] == rows["1"]["value"] == result["value"]
    (made,) = decisions(folder, "trained_again")
    assert (made["trial"], made["num_images"], made["rejected"]) == ("1", 24, None)


@pytest.mark.parametrize(("served", "later"), [("probe", "refit-1"), ("1", "probe")])
def test_other_folds_take_the_title_from_who_had_it_by_luck(
    finished: tuple[Path, dict[str, Any]],
    photo_folder: Path,
    tmp_path: Path,
    served: str,
    later: str,
) -> None:
    """Trial 1 and the probe, nearly level on the held-out images, and clear on the others."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder, symlinks=True)
    (folder / "result.json").unlink()
    uneven = np.resize([1.0, -1.0], len(np.load(folder / "trials" / "1" / "losses.npy")))
    for number in range(NUM_TRIALS):
        level = 4.0 + (-0.9 if served == "1" else -0.3) if number == 1 else 9.0
        np.save(folder / "trials" / str(number) / "losses.npy", level + uneven)
    winner = folder / "trials" / "1" / "best"
    best = load_checkpoint(winner)
    assert best is not None
    save_checkpoint(winner, best[0], {"epoch": 1, "start_share": 0.0})

    def judged(study: Any, rival: Any, losses: Any) -> Any:
        assert rival.trial == "1"
        sign = 1.0 if later == "refit-1" else -1.0
        return losses.joined(cross_validation.Losses(np.full(50, 4.0), np.full(50, 4.0 - sign)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_trials, "fit_head", four)
        patch.setattr(cross_validation, "cross_validate", judged)
        result = autofocus.train(job(photo_folder), output_dir=str(folder))
    assert result["best_trial"] == later
    published = json.loads((folder / "trials" / later / "published.json").read_bytes())
    assert (folder / "best_model").resolve() == (folder / published["model"]).resolve()


def _auto(num_epochs: int) -> Any:
    return SimpleNamespace(num_epochs=num_epochs)


def _study(photos: Path, **keys: Any) -> Any:
    plan = resolve(job(photos, **keys))
    return SimpleNamespace(
        plan=plan,
        packaging_s=20.0,
        left_s=lambda: 520.0,
        sources=SimpleNamespace(validation=None),
        folder=SimpleNamespace(path=photos),
        first_score=None,
    )


def test_probes_are_compared_where_time_was_too_short_for_the_folds_of_one() -> None:
    held_out, folds = np.linspace(0.1, 1.0, 20), np.ones(30)
    best, better = (
        classifier_automode.ProbedEntrant(
            *[None] * 2,  # type: ignore[arg-type]
            SimpleNamespace(losses=held_out - gain, fold_losses=known),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
        )
        for gain, known in ((0.0, folds), (0.05, folds[:0]))
    )
    assert classifier_automode._compared(best, better).num_pairs == 20
    assert classifier_automode._compared(best, best).num_pairs == 50
    assert classifier_automode._compared(best, better).is_better
