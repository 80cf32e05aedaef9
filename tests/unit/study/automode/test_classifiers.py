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
from autofocus.study.automode import actions
from autofocus.study.automode.actions import ACTIVATIONS
from autofocus.study.automode.encoders import find_sources
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
    assert tail["epochs"] == 8
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


@pytest.mark.usefixtures("empty_packages")
def test_a_killed_tail_goes_on_with_the_fits_that_are_left(
    finished: tuple[Path, dict[str, Any]],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder, symlinks=True)
    (folder / "result.json").unlink()
    (tail,) = (folder / "trials").glob(f"{TAIL}*")
    shutil.rmtree(tail / "fit-4")
    fitted = []
    fit_tail = actions.fit_tail

    def counted(*given: Any, **how: Any) -> Any:
        fitted.append(len(given[3]))
        return fit_tail(*given, **how)

    monkeypatch.setattr(actions, "fit_tail", counted)
    again = autofocus.train(job(photos), output_dir=str(folder))
    assert len(fitted) == 1
    assert again["best_trial"] == finished[1]["best_trial"]
    assert again["metrics"] == finished[1]["metrics"]
    boards = [json.loads((run / "leaderboard.json").read_bytes()) for run in (folder, finished[0])]
    assert boards[0] == boards[1]


@pytest.mark.usefixtures("empty_packages")
def test_a_job_that_says_how_to_train_is_trained_so(photos: Path, tmp_path: Path) -> None:
    given = job(photos, limits={"max_trials": 2}, weights="random")
    given["training_parameters"] = {"model_name": "test_resnet", "number_of_epochs": 1}
    result = autofocus.train(given, output_dir=str(tmp_path / "run"))
    assert {row["id"] for row in result["trials"]} >= {"0", "1"}


def test_given_validation_images_judge_and_nothing_learns_from_them(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autofocus.study.automode.classifiers.find_sources", _only_the_first)
    keys = {"validation_data": str(photos), "limits": {"max_trials": 2}}
    result = autofocus.train(job(photos, **keys), output_dir=str(tmp_path / "run"))
    assert result["metrics_of"] == "validation"
    (leak,) = decisions(tmp_path / "run", "leak")
    assert leak["num_shared"] == NUM_IMAGES
    (folds,) = decisions(tmp_path / "run", "folds")
    assert folds["num_folds"] == 1


def _only_the_first(study: Any, priors: Any) -> Any:
    return find_sources(study, priors)[:1]


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
