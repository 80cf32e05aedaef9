"""A classifier's AutoMode from its first head to its trained tails, on the installed encoders."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import autofocus
from autofocus.models import catalog
from autofocus.models.families import family_of
from autofocus.models.weights.save import save_tensors
from autofocus.study import default_model
from autofocus.study.automode import actions, classifiers
from autofocus.study.automode.actions import ACTIVATIONS
from autofocus.study.automode.encoders import other_sources
from autofocus.study.automode.planner import Planner
from autofocus.study.resolve import resolve
from support.tiny_jobs import decisions

NUM_IMAGES = 24
TAIL = "tail-tf_efficientnet_lite"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that a few frozen features almost tell apart."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, shade in (("dark", 100), ("grey", 120), ("light", 140)):
        (folder / name).mkdir()
        for i in range(NUM_IMAGES // 3):
            pixels = np.clip(shade + rng.normal(0, 40, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def job(photos: Path, **keys: Any) -> dict[str, Any]:
    return {
        "task": "image_classification",
        "training_data": str(photos),
        "device": "cpu",
        "training_parameters": {"validation_crop_size": 64, "validation_resize_size": 64},
        **keys,
    }


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("automode") / "run"
    return folder, autofocus.train(job(photos), output_dir=str(folder))


def test_heads_then_two_side_by_side_then_the_tail_of_the_best(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = finished
    rows = {row["id"]: row for row in result["trials"]}
    lites = [f"head-tf_efficientnet_lite{size}" for size in (1, 2)]
    assert {"probe", *lites} <= rows.keys()
    assert sum("+" in name for name in rows) == 1
    (tail,) = (row for name, row in rows.items() if name.startswith(TAIL))
    assert tail["epochs"] == 30, "of few images more epochs, for enough steps"
    assert tail["parameters"]["trained_share"] in actions.TRAINED_SHARES
    assert not (folder / ACTIVATIONS).exists(), "they are large, and made again in seconds"
    (end,) = decisions(folder, "nothing_left")
    assert end["cheapest"] is None, "without a time this is all"


def test_every_image_judges_and_every_image_is_learnt_from(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = finished
    assert result["metrics_of"] == "cross-validation"
    low, high = result["intervals"]["accuracy"]
    assert low <= result["metrics"]["accuracy"] <= high
    manifest = json.loads((folder / "best_model" / "manifest.json").read_bytes())
    assert manifest["data"] | {"fingerprint": ""} == {
        "fingerprint": "",
        "num_training": NUM_IMAGES,
        "num_validation": 0,
    }
    assert manifest["calibration"]["source"] == "cross-validation"
    assert manifest["calibration"]["num_images"] == NUM_IMAGES
    champion = decisions(folder, "champion")[-1]
    assert champion["num_images"] == NUM_IMAGES
    best = max(champion["gains"], key=lambda gain: gain["shrunk"])
    served = next(gain for gain in champion["gains"] if gain["trial"] == champion["champion"])
    assert served["shrunk"] > 0 or best["shrunk"] <= 0


def test_what_wins_is_served(finished: tuple[Path, dict[str, Any]], photos: Path) -> None:
    folder, result = finished
    assert result["best_trial"] == decisions(folder, "champion")[-1]["champion"]
    replies = autofocus.load(folder).score([str(path) for path in sorted(photos.glob("dark/*"))])
    assert all(abs(sum(reply["probs"]) - 1) < 1e-5 for reply in replies)


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that trains in no time; a job with a file has one encoder."""
    spec = catalog.resolve("test_efficientnet.r160_in1k")
    torch.manual_seed(0)
    network = family_of(spec).build(spec, 3, None, (32, 32), {})
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_tensors(network.state_dict(), path)
    return path


def tiny_job(photos: Path, weights: Path, **keys: Any) -> dict[str, Any]:
    parameters = {"model_name": "test_efficientnet", "validation_crop_size": 32}
    limits = {"max_trials": 4}
    given = {"weights": str(weights), "limits": limits, "training_parameters": parameters}
    return job(photos, **{**given, **keys})


@pytest.fixture(scope="module")
def tiny(
    photos: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tiny") / "run"
    return folder, autofocus.train(tiny_job(photos, tiny_weights), output_dir=str(folder))


def test_after_the_first_tail_come_an_earlier_cut_more_epochs_and_all_layers(
    tiny: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = tiny
    kinds = [row["id"].partition("-")[0] for row in result["trials"]]
    assert sorted(kinds) == ["probe", "tail", "tail", "tail", "whole"]
    order = [made["trial"] for made in decisions(folder, "action")]
    assert order[0].startswith("tail-test_efficientnet-cut-")
    assert order[0].endswith("-epochs-30")
    whole = next(row for row in result["trials"] if row["id"].startswith("whole-"))
    assert whole["epochs"] > 8
    (end,) = decisions(folder, "nothing_left")
    assert end["cheapest"] is None


@pytest.mark.usefixtures("empty_packages")
def test_the_same_seed_gives_the_same_leaderboard(
    tiny: tuple[Path, dict[str, Any]], photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    autofocus.train(tiny_job(photos, tiny_weights), output_dir=str(tmp_path / "run"))
    assert _board(tmp_path / "run") == _board(tiny[0])


@pytest.mark.usefixtures("empty_packages")
def test_a_killed_tail_goes_on_with_the_fits_that_are_left(
    tiny: tuple[Path, dict[str, Any]],
    photos: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny[0], folder, symlinks=True)
    (folder / "result.json").unlink()
    tails = sorted((folder / "trials").glob("tail-*-epochs-30"))
    shutil.rmtree(tails[0] / "fit-4")
    whole = next((folder / "trials").glob("whole-*"))
    shutil.rmtree(whole / "fit-2")
    fitted, trained = [], []
    fit_tail, train_from_head = actions.fit_tail, actions.train_from_head

    def counted_tail(*given: Any, **how: Any) -> Any:
        fitted.append(given[3])
        return fit_tail(*given, **how)

    def counted_whole(*given: Any) -> Any:
        trained.append(given[0])
        return train_from_head(*given)

    monkeypatch.setattr(actions, "fit_tail", counted_tail)
    monkeypatch.setattr(actions, "train_from_head", counted_whole)
    again = autofocus.train(tiny_job(photos, tiny_weights), output_dir=str(folder))
    # The first tail is timed once more before anything trains.
    assert len(fitted) == 1
    assert len(trained) == 1
    assert again["metrics"] == tiny[1]["metrics"]
    assert _board(folder) == _board(tiny[0])


def _board(run: Path) -> Any:
    return json.loads((run / "leaderboard.json").read_bytes())


@pytest.mark.usefixtures("empty_packages")
def test_a_budget_ends_with_the_cheapest_of_what_is_left(
    photos: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Planner, "left_s", lambda self: 1.0)
    given = tiny_job(photos, tiny_weights, budget="5m")
    result = autofocus.train(given, output_dir=str(tmp_path / "run"))
    assert [row["id"] for row in result["trials"]] == ["probe"]
    (end,) = decisions(tmp_path / "run", "nothing_left")
    assert end["cheapest"].startswith("tail-test_efficientnet-cut-")
    assert end["cost_s"] > 1.0
    assert end["expected_gain"] > 0


@pytest.mark.usefixtures("empty_packages")
def test_of_very_many_images_a_part_gives_the_first_model(
    photos: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifiers, "MAX_FOLDED_IMAGES", 20)
    monkeypatch.setattr("autofocus.training.folds.MAX_FOLDED_IMAGES", 20)
    monkeypatch.setattr("autofocus.training.folds.MAX_JUDGED_IMAGES", 6)
    monkeypatch.setattr(actions, "_MAX_VIEWS", 16)
    monkeypatch.setattr(classifiers, "_FIRST_LOOK_S", 0.0)
    folder = tmp_path / "run"
    result = autofocus.train(
        tiny_job(photos, tiny_weights, limits={"max_trials": 2}), output_dir=str(folder)
    )
    seen = [made["num_images"] for made in decisions(folder, "folds")]
    assert len(seen) == 2
    assert seen[0] < seen[1] == NUM_IMAGES
    assert decisions(folder, "folds")[-1]["num_folds"] == 1
    assert not decisions(folder, "images_left_out")
    assert result["metrics_of"] == "validation"


@pytest.mark.usefixtures("empty_packages")
def test_given_validation_images_judge_and_nothing_learns_from_them(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    keys = {"validation_data": str(photos), "limits": {"max_trials": 2}}
    result = autofocus.train(
        tiny_job(photos, tiny_weights, **keys), output_dir=str(tmp_path / "run")
    )
    assert result["metrics_of"] == "validation"
    (leak,) = decisions(tmp_path / "run", "leak")
    assert leak["num_shared"] == NUM_IMAGES
    (folds,) = decisions(tmp_path / "run", "folds")
    assert folds["num_folds"] == 1


@pytest.mark.usefixtures("empty_packages")
def test_a_job_that_says_how_to_train_is_trained_so(photos: Path, tmp_path: Path) -> None:
    given = job(photos, limits={"max_trials": 2}, weights="random")
    given["training_parameters"] = {"model_name": "test_resnet", "number_of_epochs": 1}
    result = autofocus.train(given, output_dir=str(tmp_path / "run"))
    assert {row["id"] for row in result["trials"]} >= {"0", "1"}


def test_two_networks_as_one_give_the_mean_of_their_logits() -> None:
    names = ["test_efficientnet.r160_in1k", "test_efficientnet_ln.r160_in1k"]

    def build(name: str) -> Any:
        spec = catalog.resolve(name)
        return family_of(spec).build(spec, 3, None, (64, 64), {})

    torch.manual_seed(0)
    networks, joined = [build(name) for name in names], build("+".join(names))
    temperatures = (0.5, 2.0)
    both: Any = tuple(
        SimpleNamespace(id=f"tail-{i}", raw=np.ones((4, 3)) * i, temperature=t, build=lambda n=n: n)
        for i, (n, t) in enumerate(zip(networks, temperatures, strict=True))
    )
    encoder: Any = SimpleNamespace(network=joined)
    context: Any = None
    contest: Any = SimpleNamespace(judge=lambda *given: given)
    ((_, _, raw, make, _),) = actions.Pair(encoder, both, 0.1).run(contest, context)
    assert raw.tolist() == pytest.approx(np.full((4, 3), 0.25))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        mean = sum(n(images) / t for n, t in zip(networks, temperatures, strict=True)) / 2
        assert torch.allclose(make()(images), mean, atol=1e-5)


@pytest.mark.parametrize(
    ("num_images", "num_epochs", "num_views"), [(200, 20, 8), (200, 4, 4), (8_000, 8, 2)]
)
def test_no_more_views_are_computed_than_epochs_see(
    num_images: int, num_epochs: int, num_views: int
) -> None:
    encoder: Any = SimpleNamespace(source=SimpleNamespace(name="x"))
    study = SimpleNamespace(samples=range(num_images))
    contest: Any = SimpleNamespace(study=study, folds=None)
    assert actions.Tail(encoder, 5, num_epochs, 0.2).num_views(contest) == num_views


def test_an_earlier_cut_costs_more() -> None:
    network = SimpleNamespace(cuts=(5, 4))
    encoder: Any = SimpleNamespace(source=SimpleNamespace(name="x", gmacs=1.0), network=network)
    folds = SimpleNamespace(fits=[range(200)], judged=range(200))
    contest: Any = SimpleNamespace(
        study=SimpleNamespace(samples=range(200)), folds=folds, encoders=[encoder]
    )
    late, early = (actions.Tail(encoder, cut, 8, 0.2).passes(contest) for cut in (5, 4))
    assert late == pytest.approx(8 + 8 * 0.7)
    assert early == pytest.approx(8 + 8 * 0.7 * 1.7)


def test_a_trained_network_is_joined_with_the_best_of_the_other_encoder() -> None:
    def candidate(name: str, model: str, loss: float, **parameters: float) -> Any:
        losses = np.full(4, loss)
        return SimpleNamespace(id=name, model=model, losses=losses, parameters=parameters)

    spec = SimpleNamespace(members=("a", "b"), name="a+b")
    joined: Any = SimpleNamespace(weights=SimpleNamespace(spec=spec))
    heads = [candidate("head-a", "a", 0.3, C=1.0), candidate("head-b", "b", 0.2, C=1.0)]
    contest: Any = SimpleNamespace(encoders=[joined], candidates=list(heads))
    assert classifiers._pairs(contest) == []
    contest.candidates += [
        candidate("tail-a", "a", 0.1, trained_share=0.5),
        candidate("tail-a", "a", 0.25, trained_share=1.0),
    ]
    (pair,) = classifiers._pairs(contest)
    assert pair.id == "pair-a-head-b"
    contest.candidates.append(candidate("tail-b", "b", 0.15, trained_share=1.0))
    (pair,) = classifiers._pairs(contest)
    assert pair.id == "pair-a-b"


def test_of_a_hub_that_has_everything_two_encoders_are_downloaded(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(model: Any, **how: Any) -> None:
        asked.append(model.name)

    monkeypatch.setattr(default_model, "load_weights", download)
    plan = resolve({"task": "image_classification", "training_data": str(photos)})
    study: Any = SimpleNamespace(plan=plan, samples=range(100), track=None)
    names = [source.plan.model.name for source in other_sources(study)]
    assert names == asked
    installed = ["tf_efficientnet_lite2.in1k", "tf_efficientnet_lite1.in1k"]
    assert [name for name in names if name in installed] == installed
    assert len(names) == 4
