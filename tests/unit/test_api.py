"""The door for Python: keys of the job, and those that are short for others."""

import os
from pathlib import Path

import pytest

from autofocus import api
from autofocus.errors import JobError, StoppedError
from autofocus.study.folder.run_folder import driver_of


def test_a_model_goes_with_parameters_beside_it(photo_folder: Path) -> None:
    keys = {"task": "image_classification", "data": str(photo_folder), "model": "resnet18"}
    plan = api.plan(**keys, training_parameters={"number_of_epochs": 3})
    (model,) = plan["models"]
    assert model["name"].startswith("resnet18")
    assert model["recipe"]["num_epochs"] == 3


def test_a_model_wins_over_the_one_of_the_job(photo_folder: Path) -> None:
    job = {
        "task": "image_classification",
        "training_data": str(photo_folder),
        "training_parameters": {"model_name": "resnet34", "number_of_epochs": 3},
    }
    (model,) = api.plan(job, model="resnet18")["models"]
    assert model["name"].startswith("resnet18")
    assert model["recipe"]["num_epochs"] == 3


def test_parameters_are_a_mapping(photo_folder: Path) -> None:
    keys = {"task": "image_classification", "data": str(photo_folder), "model": "resnet18"}
    with pytest.raises(JobError, match="training_parameters: must be a mapping"):
        api.plan(**keys, training_parameters=[3])


def test_a_run_tells_its_folder_once_it_holds_it(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(folder: Path) -> None:
        raise StoppedError(f"{folder.parent} {folder.exists()} {driver_of(folder) == os.getpid()}")

    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoppedError, match="runs True True"):
        api.train(task="image_classification", data=str(photo_folder), on_folder=stop)
