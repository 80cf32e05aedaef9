"""The eight official standalone jobs, as they lie on disk, from photos to a model that answers.

Only `--set` changes them: local paths, random weights, two trials of one epoch, small sizes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from autofocus.api import load
from autofocus.settings.job_file import override
from support.commands import run
from support.photo_tables import COLORS, write_table

SAMPLES = Path(__file__).parents[3] / "shared" / "reference" / "azure-jobs"
NUM_TRAINING, NUM_VALIDATION, NUM_TRIALS = 12, 6, 2

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"the official sample jobs are not at {SAMPLES}"
)


@dataclass(frozen=True)
class Official:
    """A sample job.

    Attributes:
        name: Of the file.
        labels: How its rows say what an image shows.
        assignments: `--set`, besides those of all jobs.
    """

    name: str
    labels: str
    assignments: Sequence[str]

    @property
    def path(self) -> Path:
        return SAMPLES / f"cli-automl-img-{self.name}.yml"


SMALL_PHOTOS = ("training_parameters.validation_crop_size=64",)
SMALL_CANVAS = ("training_parameters.image_size=96",)
# With this seed both sub-spaces have a trial where there are two.
SWEPT = "seed=1"
JOBS = [
    Official("cls-mc-task-fridge-items-automode", "class", SMALL_PHOTOS),
    Official(
        "cls-mc-task-fridge-items",
        "class",
        [SWEPT, *SMALL_PHOTOS, "search_space.0.number_of_epochs.values=[1]"],
    ),
    Official("cls-ml-task-fridge-items-automode", "classes", SMALL_PHOTOS),
    Official(
        "cls-ml-task-fridge-items",
        "classes",
        [
            SWEPT,
            *SMALL_PHOTOS,
            "search_space.0.number_of_epochs.values=[1]",
            "search_space.1.validation_resize_size.values=[72, 80, 88]",
            "search_space.1.validation_crop_size.values=[56, 64]",
            "search_space.1.training_crop_size.values=[56, 64]",
        ],
    ),
    Official("od-task-fridge-items-automode", "boxes", SMALL_CANVAS),
    Official(
        "od-task-fridge-items",
        "boxes",
        [SWEPT, "search_space.0.image_size=96", "search_space.1.min_size.values=[72, 96]"],
    ),
    Official("ins-seg-task-fridge-items-automode", "outlines", SMALL_CANVAS),
    Official(
        "ins-seg-task-fridge-items",
        "outlines",
        [SWEPT, "search_space.0.min_size.values=[72, 96]"],
    ),
]
SMALLEST = Official(
    "cls-mc-task-fridge-items",
    "class",
    [
        SWEPT,
        "limits.max_concurrent_trials=1",
        "training_parameters.validation_crop_size=32",
        "search_space.0.number_of_epochs.values=[1]",
        "search_space.0.model_name.values=[test_vit]",
        "search_space.1.model_name.values=[test_resnet]",
    ],
)


def test_the_smallest_official_job(tmp_path: Path) -> None:
    check(SMALLEST, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("official", JOBS, ids=lambda official: official.name)
def test_official_job(official: Official, tmp_path: Path) -> None:
    check(official, tmp_path)


def check(official: Official, base: Path) -> None:
    """Run a job with the real command, and look at everything that it left."""
    before = hashlib.sha256(official.path.read_bytes()).digest()
    assignments = [*everywhere(official, base / "data"), *official.assignments]
    result = train(official.path, base / "run", assignments)
    assert hashlib.sha256(official.path.read_bytes()).digest() == before
    document = override(yaml.safe_load(official.path.read_bytes()), assignments)
    check_trials(result, document, base / "run")
    check_model(official, Path(result["best_model"]), base / "data" / "validation" / "0.png")


def everywhere(official: Official, data: Path) -> list[str]:
    return [
        "weights=random",
        "device=cpu",
        f"limits.max_trials={NUM_TRIALS}",
        "training_parameters.number_of_epochs=1",
        "training_parameters.training_batch_size=4",
        f"training_data.path={write_table(data / 'training', official.labels, NUM_TRAINING)}",
        f"validation_data.path={write_table(data / 'validation', official.labels, NUM_VALIDATION)}",
    ]


def train(job: Path, folder: Path, assignments: Sequence[str]) -> dict[str, Any]:
    set_ = [part for assignment in assignments for part in ("--set", assignment)]
    done = run("train", job, "--output-dir", folder, "--json", *set_)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def check_trials(result: Mapping[str, Any], document: Mapping[str, Any], folder: Path) -> None:
    rows = json.loads((folder / "leaderboard.json").read_bytes())
    assert {row["id"] for row in rows} == {row["id"] for row in result["trials"]}
    assert {row["status"] for row in rows} == {"completed"}, rows
    assert result["best_trial"] in {row["id"] for row in rows}
    if "search_space" not in document:
        assert rows
        return
    drawn = {row["id"]: row["parameters"] for row in rows if "parameters" in row}
    assert sorted(drawn) == [str(number) for number in range(NUM_TRIALS)]
    for parameters in drawn.values():
        homes = [entry for entry in document["search_space"] if lies_in(parameters, entry)]
        assert len(homes) == 1, parameters
    if len(document["search_space"]) > 1:
        assert len({tuple(sorted(parameters)) for parameters in drawn.values()}) > 1, drawn


def lies_in(parameters: Mapping[str, Any], subspace: Mapping[str, Any]) -> bool:
    """Return whether a trial's parameters are those of a sub-space, each one of its values."""
    if parameters.keys() != subspace.keys():
        return False
    return all(is_of(value, subspace[name]) for name, value in parameters.items())


def is_of(value: Any, distribution: Any) -> bool:
    if not isinstance(distribution, dict):
        return bool(value == distribution)
    if distribution["type"] == "choice":
        return value in distribution["values"]
    assert distribution["type"] == "uniform"
    return bool(distribution["min_value"] <= value <= distribution["max_value"])


def check_model(official: Official, folder: Path, photo: Path) -> None:
    """Check that the published model was verified, and that it answers."""
    text = (folder.parent / "decisions.jsonl").read_text()
    (*_, published) = [
        each for each in map(json.loads, text.splitlines()) if each["decision"] == "best_model"
    ]
    assert (folder.parent / published["model"]).resolve() == folder.resolve()
    assert published["num_images"] == NUM_VALIDATION
    assert published["largest_difference_onnx_torch"] < 1e-3
    model = load(folder)
    assert model.labels == sorted(COLORS)
    (reply,) = model.score([photo])
    if official.labels in ("class", "classes"):
        assert reply["labels"] == model.labels
        assert len(reply["probs"]) == len(model.labels)
        assert all(0 <= prob <= 1 for prob in reply["probs"])
    else:
        # One epoch from random weights finds nothing, or anything.
        assert {box["label"] for box in reply["boxes"]} <= set(model.labels)
