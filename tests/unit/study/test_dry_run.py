"""`train --dry-run`: the whole plan, nothing written."""

import json
from pathlib import Path
from typing import Any

import pytest

from autofocus.errors import DataError, JobError
from autofocus.study.dry_run import describe
from support.object_sources import CAN, CUP, write_masks


@pytest.fixture
def rows(tmp_path: Path) -> str:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"image_url": f"./{n}.jpg", "label": "xy"[n % 2]}) for n in range(10)]
    for n in range(10):
        (tmp_path / f"{n}.jpg").write_bytes(b"\xff\xd8\xff")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def plan(rows: str, **keys: Any) -> dict[str, Any]:
    return describe({"task": "image_classification", "training_data": rows, **keys})


def test_a_job_says_how_formats_are_read(tmp_path: Path) -> None:
    cans = write_masks(tmp_path, {"a": [CAN, CUP], "b": [CAN]})
    job = {"task": "image_instance_segmentation", "training_data": str(cans)}

    def labels(**rules: str) -> list[str]:
        found: list[str] = describe({**job, "data": rules})["data"]["training"]["labels"]
        return found

    assert labels() == ["object"]
    assert labels(class_name="cell") == ["cell"]
    assert len(labels(masks="classes")) == 2
    with pytest.raises(DataError, match=r"data\.coordinates"):
        labels(coordinates="fractions")


def test_every_default_is_filled_in_and_nothing_is_written(
    rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(rows).parent
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    document = plan(rows, compute="azureml:gpu", training_parameters={"distributed": True})
    assert sorted(folder.iterdir()) == before
    assert json.loads(json.dumps(document)) == document
    assert (document["mode"], document["primary_metric"]) == ("automode", "accuracy")
    assert document["data"]["training"]["num_images"] == 10
    assert document["data"]["training"]["labels"] == ["x", "y"]
    (model,) = document["models"]
    assert model["recipe"]["num_epochs"] > 0
    assert (model["licence"], model["needs_accept_license"]) == ("apache-2.0", False)
    assert document["limits"]["max_trials"] == 1, "without a budget, the default recipe"
    assert "tf_efficientnet_lite0.in1k" in document["automode"]["models_by_expected_rank"]
    assert document["not_used_here"] == ["compute", "distributed"]
    assert document["job"]["validation_data_size"] == 0.2


def test_automode_shows_what_it_may_try(rows: str) -> None:
    document = plan(rows, budget="10m")
    assert document["limits"]["max_trials"] > 1
    ranked = document["automode"]["models_by_expected_rank"]
    assert ranked.index("tf_efficientnet_lite2.in1k") < ranked.index("tf_efficientnet_lite1.in1k")
    named = plan(rows, training_parameters={"model_name": "resnet18"}, limits={"max_trials": 4})
    assert named["automode"]["models_by_expected_rank"] == ["resnet18.a1_in1k"]
    assert plan(rows, limits={"max_trials": 1})["automode"] is None


def test_the_splits_of_the_data_are_the_plans(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        row = {"image_url": f"{name}.png", "label": name}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        (tmp_path / f"{name}.png").write_bytes(b"x")
    document = describe({"task": "image_classification", "training_data": str(tmp_path)})
    assert set(document["data"]) == {"training", "validation", "test"}


def test_a_sweep_shows_its_models_and_first_trials(rows: str) -> None:
    document = plan(
        rows,
        limits={"max_trials": 5},
        sweep={
            "sampling_algorithm": "grid",
            "early_termination": {"type": "median_stopping", "delay_evaluation": 2},
        },
        search_space=[
            {"model_name": "choice('resnet18','vits16r224')", "number_of_epochs": "choice(2,3)"},
            {"layers_to_freeze": "choice(0,1)"},
        ],
    )
    assert [model["name"].partition(".")[0] for model in document["models"]] == [
        "resnet18",
        "vit_small_patch16_224",
        "tf_efficientnet_lite0",
    ]
    assert [model["recipe"]["batch_size"] for model in document["models"]] == [78, 128, 16]
    sweep = document["sweep"]
    assert sweep["num_trials"] == 5
    assert sweep["early_termination"]["delay_evaluation"] == 2
    assert sweep["first_trials"][:2] == [
        {"model_name": "resnet18", "number_of_epochs": 2},
        {"layers_to_freeze": 0},
    ]
    assert document["notes"] == ["limits.max_trials of 5 leaves out part of the grid of 6"]


def test_wrong_jobs_and_wrong_data_are_refused(rows: str) -> None:
    with pytest.raises(JobError, match="beta1"):
        plan(rows, search_space=[{"beta1": 3}])
    with pytest.raises(DataError, match="no such file"):
        plan("nowhere.jsonl")
