"""Published parsing (azure.md §1.5): what is taken, what is refused, and what the refusal says."""

from typing import Any, get_args

import pytest

from autofocus.settings.check import check_job
from autofocus.settings.fields import Reader
from autofocus.settings.parameters import PARAMETERS, READERS, read_parameters
from autofocus.tasks import TASKS
from autofocus.tasks.objects import ObjectsTask

BOOLEANS = {
    "nesterov",
    "ams_gradient",
    "early_stopping",
    "distributed",
    "enable_onnx_normalization",
    "multi_scale",
    "log_training_metrics",
    "log_validation_loss",
    "export_as_image",
}
# name: (least, greatest or None, just too small, just too large or None)
WHOLE: dict[str, tuple[int, int | None]] = {
    "number_of_epochs": (0, None),
    "training_batch_size": (1, None),
    "validation_batch_size": (1, None),
    "gradient_accumulation_step": (1, None),
    "step_lr_step_size": (1, None),
    "early_stopping_patience": (1, None),
    "early_stopping_delay": (0, None),
    "evaluation_frequency": (1, None),
    "checkpoint_frequency": (1, None),
    "number_of_workers": (0, None),
    "random_seed": (0, 2**32 - 1),
    "layers_to_freeze": (0, None),
    "weighted_loss": (0, 2),
    "training_crop_size": (8, 4096),
    "validation_crop_size": (8, 4096),
    "validation_resize_size": (8, 8192),
    "image_size": (8, 8192),
    "min_size": (8, 8192),
    "max_size": (8, 8192),
    "box_detections_per_image": (1, None),
    "max_number_of_polygon_points": (3, None),
}
NUMBERS: dict[str, tuple[float, float | None]] = {
    "momentum": (0, 1),
    "weight_decay": (0, None),
    "beta1": (0, 1),
    "beta2": (0, 1),
    "warmup_cosine_lr_cycles": (0, None),
    "warmup_cosine_lr_warmup_epochs": (0, None),
    "step_lr_gamma": (0, 1),
    "box_score_threshold": (0, 1),
    "nms_iou_threshold": (0, 1),
    "tile_predictions_nms_threshold": (0, 1),
    "mask_pixel_score_threshold": (0, 1),
}
CHOICES = {
    "optimizer": ("sgd", "adam", "adamw"),
    "learning_rate_scheduler": ("warmup_cosine", "step", "flat"),
    "augmentations": ("none", "light", "medium", "strong"),
    "model_size": ("small", "medium", "large", "extra_large"),
    "validation_metric_type": ("none", "coco", "voc", "coco_voc"),
    "image_type": ("JPG", "PNG"),
}
OTHERS = {
    "learning_rate",
    "tile_grid_size",
    "tile_overlap_ratio",
    "validation_iou_threshold",
    "advanced_settings",
}


TEXTS = {
    "model_name",
    "checkpoint_run_id",
    "checkpoint_model",
    "checkpoint_dataset_id",
    "checkpoint_filename",
}


def test_every_group_has_readers_and_parameters() -> None:
    assert READERS.keys() == set(get_args(Reader))
    assert {one.used_by for one in PARAMETERS.values()} == READERS.keys()
    read = {group for task in TASKS.values() for group in task.reads}
    assert read <= READERS.keys()
    # Those are the models', and everybody's.
    assert READERS.keys() - read == {"all", "any size", "yolov5", "nobody"}


@pytest.mark.parametrize("task", [t for t in TASKS.values() if isinstance(t, ObjectsTask)])
def test_what_a_task_has_a_default_for_counts_for_it(task: ObjectsTask[Any, Any]) -> None:
    assert {PARAMETERS[name].used_by for name in task.default_values} <= task.reads


def parsed(name: str, value: object) -> Any:
    return read_parameters({name: value}).get(name)


def problem(name: str, value: object) -> str:
    document = {"training_data": "x", "training_parameters": {"model_name": "m", name: value}}
    job, (text,) = check_job(document)
    assert job.training_parameters == {"model_name": "m"}
    assert text.startswith(f"training_parameters.{name}: must be ")
    assert text.endswith(f", got {value!r}.")
    return text


def test_every_parameter_is_covered_here() -> None:
    covered = BOOLEANS | WHOLE.keys() | NUMBERS.keys() | CHOICES.keys() | OTHERS
    assert covered | TEXTS == PARAMETERS.keys()


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_numbers(name: str) -> None:
    low, high = WHOLE[name]
    for value in (low, low + 1, high if high is not None else 100_000):
        for spelling in (value, str(value), float(value), f"{value}.0", f" {value} "):
            got = parsed(name, spelling)
            assert got == value
            assert type(got) is int
    wrong = [low - 1, low + 0.2, f"{low}.2", "many", "", True, "nan", "inf", float("inf"), [low]]
    for value in [*wrong, *([] if high is None else [high + 1])]:
        text = problem(name, value)
        assert "a whole number" in text
        assert str(low) in text
        assert high is None or str(high) in text


def test_published_examples() -> None:
    assert parsed("number_of_epochs", "4.0") == 4
    assert "a whole number ≥ 0, got 4.2" in problem("number_of_epochs", 4.2)
    assert "a whole number ≥ 0, got '4.2'" in problem("number_of_epochs", "4.2")


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_numbers(name: str) -> None:
    low, high = NUMBERS[name]
    for value in (low, low + 0.25, high if high is not None else 40.0):
        for spelling in (value, str(value), f"{value:.3e}"):
            got = parsed(name, spelling)
            assert got == pytest.approx(value)
            assert type(got) is float
    for value in [low - 0.1, "x", "", False, "nan", float("nan"), "-inf", {}]:
        text = problem(name, value)
        assert f"a number ≥ {low:g}" in text
    if high is not None:
        assert f"≤ {high:g}" in problem(name, high + 0.01)


def test_learning_rate_is_above_zero() -> None:
    assert parsed("learning_rate", "1e-5") == 1e-5
    for value in (0, -0.1, "0.0"):
        assert "a number > 0" in problem("learning_rate", value)


@pytest.mark.parametrize("name", sorted(BOOLEANS))
def test_booleans(name: str) -> None:
    for value in (True, 1, 1.0, "1", "true", "True", "TRUE", "t", "y", "yes", "on", "Enable"):
        assert parsed(name, value) is True
    for value in (False, 0, 0.0, "0", "false", "False", "f", "n", "no", "off", "Disable"):
        assert parsed(name, value) is False
    for value in (2, "maybe", "", "10", -1, []):
        assert "true or false" in problem(name, value)


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_choices(name: str) -> None:
    for choice in CHOICES[name]:
        for spelling in (choice, choice.upper(), f" {choice} "):
            assert parsed(name, spelling) == choice
    for value in ("sdg", "", 3, True):
        text = problem(name, value)
        assert all(choice in text for choice in CHOICES[name])


@pytest.mark.parametrize(
    ("name", "rest_spelling", "meaning"),
    [
        ("optimizer", "Sgd", "sgd"),
        ("optimizer", "Adam", "adam"),
        ("optimizer", "Adamw", "adamw"),
        ("learning_rate_scheduler", "WarmupCosine", "warmup_cosine"),
        ("learning_rate_scheduler", "Step", "step"),
        ("model_size", "ExtraLarge", "extra_large"),
        ("validation_metric_type", "CocoVoc", "coco_voc"),
        ("validation_metric_type", "None", "none"),
    ],
)
def test_spellings_of_the_rest_interface(name: str, rest_spelling: str, meaning: str) -> None:
    assert parsed(name, rest_spelling) == meaning


def test_the_sdk_writes_enums_with_their_class() -> None:
    assert parsed("log_training_metrics", "LogTrainingMetrics.ENABLE") is True
    assert parsed("log_validation_loss", "LogValidationLoss.DISABLE") is False
    assert "true or false" in problem("log_validation_loss", "LogValidationLoss.MAYBE")


@pytest.mark.parametrize(
    "value", ["3x2", "3 X 2", "3×2", "(3, 2)", "3,2", "[3, 2]", [3, 2], (3, 2)]
)
def test_tile_grids(value: object) -> None:
    assert parsed("tile_grid_size", value) == "3x2"


@pytest.mark.parametrize("value", ["1x1", "0x3", "17x2", "3", "3x2x1", "3.5x2", "axb", "", 6, -3])
def test_tile_grids_that_cannot_be(value: object) -> None:
    assert "such as 3x2, each at most 16 and more than one" in problem("tile_grid_size", value)


def test_no_tiles_is_unset() -> None:
    assert read_parameters({"tile_grid_size": "None"}) == {}


def test_tiles_overlap_by_less_than_all() -> None:
    assert parsed("tile_overlap_ratio", "0.25") == 0.25
    assert parsed("tile_overlap_ratio", 0) == 0
    assert "a number ≥ 0 and < 1" in problem("tile_overlap_ratio", 1)


def test_iou_threshold_is_at_least_a_tenth_as_published() -> None:
    assert parsed("validation_iou_threshold", 0.03) == 0.1
    assert parsed("validation_iou_threshold", "0.75") == 0.75
    assert "≤ 1" in problem("validation_iou_threshold", 1.2)


def test_advanced_settings_are_json() -> None:
    settings = {"stream_image_files": True}
    assert parsed("advanced_settings", '{"stream_image_files": true}') == settings
    assert parsed("advanced_settings", settings) == settings
    for value in ("{", "[1]", 3, "yes"):
        assert "a JSON object, such as" in problem("advanced_settings", value)


@pytest.mark.parametrize("name", ["optimizer", "learning_rate_scheduler"])
@pytest.mark.parametrize("unset", ["none", "None", "NONE", "not_set", None])
def test_what_a_job_read_back_shows_as_unset_is_unset(name: str, unset: str | None) -> None:
    assert read_parameters({name: unset}) == {}


def test_null_is_unset() -> None:
    assert read_parameters(dict.fromkeys(PARAMETERS)) == {}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_texts(name: str) -> None:
    assert (parsed(name, "resnet50"), parsed(name, 18)) == ("resnet50", "18")


def test_all_problems_come_at_once() -> None:
    raw = {"number_of_epochs": -1, "optimizer": "lamb", "beta1": 2, "learning_rate": 0.1}
    job, problems = check_job({"training_data": "x", "training_parameters": raw})
    assert job.training_parameters == {"learning_rate": 0.1}
    assert [text.split(":")[0] for text in problems] == [
        f"training_parameters.{name}" for name in ("number_of_epochs", "optimizer", "beta1")
    ]
