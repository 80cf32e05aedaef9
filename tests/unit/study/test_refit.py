"""Small sets: other folds say who wins, and the winner learns from what judged it."""

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import autofocus
from autofocus.study import best_model, cross_validation, refit
from autofocus.study.study import Study
from autofocus.study.trials.classifiers import ClassifierTrials
from autofocus.training import features, loop
from autofocus.training.averaging import interpolate
from autofocus.training.checkpoint import load_checkpoint
from autofocus.training.selection import Comparison
from support.tiny_jobs import decisions, tiny_job

pytestmark = pytest.mark.usefixtures("one_thread", "empty_packages")

NUM_PHOTOS = 24
CLEAR = Comparison(mean_gain=1.0, standard_error=0.1, num_pairs=6, margin=1, is_better=True)
UNCLEAR = replace(CLEAR, standard_error=0.9)


@pytest.fixture(autouse=True)
def _training_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_model, "compare", lambda before, after, margin: CLEAR)
    monkeypatch.setattr(cross_validation, "compare", lambda before, after: CLEAR)
    monkeypatch.setattr(loop, "latest_is_kept", lambda losses: True)


def job(photos: Path, **keys: Any) -> dict[str, Any]:
    return tiny_job(photos, 1, **keys)


def test_all_images_teach_and_the_metrics_stay_those_of_before(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    served: list[Any] = []
    original = Study.publish

    def publish(self: Any, trial: str, candidate: Any) -> Path:
        served.append(candidate.network.state_dict())
        return original(self, trial, candidate)

    hashed: list[bytes] = []
    hash_of = features.content_hash

    def counted(data: bytes) -> str:
        hashed.append(data)
        return hash_of(data)

    monkeypatch.setattr(features, "content_hash", counted)
    monkeypatch.setattr(Study, "publish", publish)
    result = autofocus.train(job(photo_folder), output_dir=str(folder))
    assert len(hashed) == NUM_PHOTOS, "once a run, not once a trial"
    rows = {row["id"]: row for row in result["trials"]}
    assert result["best_trial"] == "refit-1"
    assert list(rows) == ["0", "1", "refit-1"]
    assert rows["refit-1"]["value"] == rows["1"]["value"] == result["value"]
    (made,) = decisions(folder, "trained_again")
    assert (made["num_images"], made["rejected"]) == (NUM_PHOTOS, None)
    assert rows["refit-1"]["epochs"] == made["num_epochs"] > 0
    log = (folder / "trials" / "refit-1" / "log.txt").read_text()
    assert f"{NUM_PHOTOS} images" in log
    # The probe that is served has seen all images: the second training starts from it.
    best = load_checkpoint(folder / "trials" / "refit-1" / "best")
    assert best is not None
    expected = interpolate(served[0], best[0], made["start_share"])
    assert all(torch.allclose(served[2][name], expected[name]) for name in expected)
    moved = folder.rename(tmp_path / "moved")
    again = autofocus.train(job(photo_folder), output_dir=str(moved))
    assert again == result | {"run": str(moved), "best_model": str(moved / "best_model")}


def test_given_validation_images_are_not_learnt_from(photo_folder: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out"
    shutil.copytree(photo_folder, held_out)
    asked = job(photo_folder, validation_data=str(held_out))
    result = autofocus.train(asked, output_dir=str(tmp_path / "run"))
    assert result["best_trial"] == "1"
    assert not decisions(tmp_path / "run", "trained_again")


def test_without_time_for_it_the_model_stays(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "refit_s", lambda *_: 1e6)
    result = autofocus.train(job(photo_folder, budget=500), output_dir=str(tmp_path))
    assert result["best_trial"] == "1"
    (made,) = decisions(tmp_path, "not_trained_again")
    assert made["seconds_left"] < 500 < made["seconds_needed"]


def test_the_first_training_leaves_time_for_the_second(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_s: dict[str, float] = {}

    def timed(train: Any, name: str) -> Any:
        def run(spec: Any, samples: Any, context: Any, *rest: Any) -> Any:
            left_s[name] = context.deadline_s - time.monotonic()
            return train(spec, samples, context, *rest)

        return run

    first, second = timed(ClassifierTrials.train, "first"), timed(refit.refit_classifier, "second")
    monkeypatch.setattr(ClassifierTrials, "train", staticmethod(first))
    monkeypatch.setattr(refit, "refit_classifier", second)
    result = autofocus.train(job(photo_folder, budget=1000), output_dir=str(tmp_path))
    assert result["best_trial"] == "refit-1"
    # Nearly 1,000 s for both: 1 part for the first, 1.2 x as many more images for the second.
    (split,) = decisions(tmp_path, "split")
    parts = 1 + 1.2 * NUM_PHOTOS / split["num_training"]
    assert 300 < left_s["first"] < 1000 / parts
    assert left_s["second"] > 900, "what the first did not need"


@pytest.mark.parametrize("why", ["worse", "stopped", "raised"])
def test_a_second_training_that_failed_changes_nothing(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    original = refit.refit_classifier

    def spoilt(spec: Any, samples: Any, context: Any, *rest: Any) -> Any:
        if why == "raised":
            raise MemoryError
        if why == "stopped":
            context = replace(context, should_stop=lambda: True)
        made = original(spec, samples, context, *rest)
        return replace(made, losses=made.losses + 5.0)

    monkeypatch.setattr(refit, "refit_classifier", spoilt)
    result = autofocus.train(job(photo_folder), output_dir=str(tmp_path))
    assert result["best_trial"] == "1"
    (made,) = decisions(tmp_path, "trained_again")
    expected = {
        "worse": "more than before",
        "stopped": "stopped by the user after 0 of",
        "raised": "out of memory",
    }
    assert expected[why] in made["rejected"]


def test_where_the_held_out_images_cannot_tell_all_images_judge(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[int, int]] = []

    def compared(before: Any, after: Any) -> Comparison:
        judged.append((len(before), len(after)))
        return UNCLEAR if len(judged) == 1 else CLEAR

    monkeypatch.setattr(cross_validation, "compare", compared)
    result = autofocus.train(job(photo_folder), output_dir=str(tmp_path))
    assert judged[1:] == [(NUM_PHOTOS, NUM_PHOTOS)]
    assert result["best_trial"] == "refit-1"
    folds = sorted(path.name for path in (tmp_path / "trials").glob("1-fold-*"))
    assert folds == [f"1-fold-{number}" for number in (2, 3, 4, 5)]
    for fold in folds:
        facts = (tmp_path / "trials" / fold / "log.txt").read_text()
        num_taught, num_judged = map(int, re.findall(r"(\d+) images to", facts))
        assert num_taught + num_judged == NUM_PHOTOS
        assert 0 < num_judged < NUM_PHOTOS / 2
    (asked,) = decisions(tmp_path, "other_folds")
    assert asked["num_images"] == NUM_PHOTOS


def test_folds_take_no_time_that_the_winner_needs(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "compare", lambda before, after: UNCLEAR)
    monkeypatch.setattr(cross_validation, "MAX_SECONDS", 0.0)
    result = autofocus.train(job(photo_folder), output_dir=str(tmp_path))
    assert not list((tmp_path / "trials").glob("*fold*"))
    assert result["best_trial"] == "refit-1"


@pytest.mark.parametrize(
    ("gain", "error", "is_asked"), [(1.0, 0.4, False), (1.0, 0.9, True), (-1.0, 0.8, False)]
)
def test_other_folds_are_asked_only_where_it_is_unclear(
    gain: float, error: float, is_asked: bool
) -> None:
    found = replace(CLEAR, mean_gain=gain, standard_error=error)
    assert cross_validation._is_undecided(found) == is_asked


def test_a_fold_that_raises_costs_only_its_evidence(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(cross_validation, "compare", lambda before, after: UNCLEAR)
    monkeypatch.setattr(cross_validation, "_train_fold", raising)
    result = autofocus.train(job(photo_folder), output_dir=str(tmp_path))
    assert result["best_trial"] == "refit-1"
    (asked,) = decisions(tmp_path, "other_folds")
    assert "out of memory" in asked["failed"]
