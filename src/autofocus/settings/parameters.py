"""Published hyperparameters: name, spelling, type and range (`reference/azure.md` §1.5, §1.6).

Runtime parsing as published: "4.0" is an int, 4.2 is not; y/yes/t/true/on/1 and their opposites
are booleans.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autofocus.settings.spelling import spelled

Parse = Callable[[object], Any]

_TRUE = {"1", "true", "t", "yes", "y", "on", "enable", "enabled"}
_FALSE = {"0", "false", "f", "no", "n", "off", "disable", "disabled"}
# The SDK writes `log_training_metrics: LogTrainingMetrics.ENABLE` into its YAML.
_ENUM_CLASS = re.compile(r"^log[a-z]+\.")

# Runtime spelling, of older pages and notebooks -> the YAML's (azure.md §1.5).
PARAMETER_ALIASES = {
    "amsgrad": "ams_gradient",
    "box_detections_per_img": "box_detections_per_image",
    "box_score_thresh": "box_score_threshold",
    "grad_accumulation_step": "gradient_accumulation_step",
    "img_size": "image_size",
    "lr_scheduler": "learning_rate_scheduler",
    "nms_iou_thresh": "nms_iou_threshold",
    "num_workers": "number_of_workers",
    "tile_predictions_nms_thresh": "tile_predictions_nms_threshold",
    "train_crop_size": "training_crop_size",
    "valid_crop_size": "validation_crop_size",
    "valid_resize_size": "validation_resize_size",
}


def canonical_names(parameters: Mapping[Any, Any]) -> dict[str, Any]:
    """Return `parameters` under the YAML's spelling; of two spellings the later one wins."""
    return {
        PARAMETER_ALIASES.get(str(name), str(name)): value for name, value in parameters.items()
    }


def given_twice(parameters: Mapping[Any, Any]) -> list[str]:
    """Return the runtime spellings whose YAML spelling is there too."""
    return [name for name in parameters if PARAMETER_ALIASES.get(str(name), "") in parameters]


def check_parameters(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters with parsed values, and a sentence for each impossible one."""
    parsed: dict[str, Any] = {}
    problems = []
    for name, value in raw.items():
        # A job that is read back has None for parameters that were not set.
        if value is None or name not in PARSERS:
            parsed[name] = value
            continue
        try:
            parsed[name] = PARSERS[name](value)
        except ValueError as error:
            problems.append(f"training_parameters.{name}: must be {error}, got {value!r}.")
    return {name: value for name, value in parsed.items() if value is not None}, problems


@dataclass(frozen=True)
class Number:
    """Parser of numbers in a range.

    Attributes:
        low: Least value.
        high: Greatest value; None: unlimited.
        above: Whether `low` itself is excluded.
        below: Whether `high` itself is excluded.
        whole: Whether only whole numbers are allowed.
        least: Floor to which smaller values in the range are raised; None: no floor.
    """

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False
    whole: bool = False
    least: float | None = None

    def __call__(self, value: object) -> float:
        """Parse a number.

        Raises:
            ValueError: If `value` is no number or out of range; says what is allowed.
        """
        number = self._as_float(value)
        if not self.holds(number):
            raise ValueError(self.allowed)
        if self.least is not None:
            number = max(self.least, number)
        return int(number) if self.whole else number

    @property
    def allowed(self) -> str:
        """Allowed values, in words."""
        if self.whole:
            start = f"a whole number ≥ {self.low:g}"
            both = f"a whole number in [{self.low:.0f}, {self.high or 0:.0f}]"
            return start if self.high is None else both
        start = f"a number {'>' if self.above else '≥'} {self.low:g}"
        end = "" if self.high is None else f" and {'<' if self.below else '≤'} {self.high:g}"
        return start + end

    def holds(self, number: float) -> bool:
        """Return whether a finite number is allowed."""
        if self.whole and number != int(number):
            return False
        if number < self.low or (self.above and number == self.low):
            return False
        return self.high is None or number < self.high or (number == self.high and not self.below)

    def _as_float(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(self.allowed)
        try:
            number = float(value)
        except ValueError:
            raise ValueError(self.allowed) from None
        if not math.isfinite(number):
            raise ValueError(self.allowed)
        return number


def _integer(low: int, high: int | None = None) -> Number:
    return Number(low, high, whole=True)


def _boolean(value: object) -> bool:
    text = _ENUM_CLASS.sub("", str(value).strip().lower()).removesuffix(".0")
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError("true or false")


def _one_of(*names: str) -> Parse:
    def parse(value: object) -> str:
        name = spelled(value, names)
        if name is None:
            raise ValueError(f"one of {', '.join(names)}")
        return name

    return parse


def _choice(*names: str) -> Parse:
    known = _one_of(*names)
    return lambda value: None if _is_unset(value) else known(value)


def _is_unset(value: object) -> bool:
    return str(value).strip().lower() in ("none", "not_set")


# Most tiles of an image across, or down.
MAX_TILES = 16


def read_tile_grid(value: object) -> tuple[int, int]:
    """Return (across, down) of a `tile_grid_size`: `3x2`, `(3, 2)` or `[3, 2]`.

    Raises:
        ValueError: If it is no grid, or has one tile or too many; says what is allowed.
    """
    numbers = re.fullmatch(r"[(\[]?\s*(\d+)\s*[x×,]\s*(\d+)\s*[)\]]?", str(value).strip().lower())
    across, down = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not (1 <= across <= MAX_TILES and 1 <= down <= MAX_TILES) or across * down == 1:
        raise ValueError(
            f"tiles across x tiles down, such as 3x2, each at most {MAX_TILES} and more than one"
            " tile; or auto"
        )
    return across, down


def _tile_grid(value: object) -> str | None:
    """Parse `auto` or a grid into `auto` or `3x2`, tiles across x tiles down."""
    if _is_unset(value):
        return None
    if str(value).strip().lower() == "auto":
        return "auto"
    across, down = read_tile_grid(value)
    return f"{across}x{down}"


def _settings(value: object) -> dict[str, Any] | None:
    """Parse `advanced_settings`: a JSON object as a string, or a mapping."""
    if isinstance(value, str) and _is_unset(value):
        return None
    try:
        settings = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        settings = None
    if not isinstance(settings, Mapping):
        raise ValueError("""a JSON object, such as '{"stream_image_files": true}'""")
    return dict(settings)


PARSERS: dict[str, Parse] = {
    "number_of_epochs": _integer(0),
    "training_batch_size": _integer(1),
    "validation_batch_size": _integer(1),
    "gradient_accumulation_step": _integer(1),
    "learning_rate": Number(0, above=True),
    "optimizer": _choice("sgd", "adam", "adamw"),
    "momentum": Number(0, 1),
    "nesterov": _boolean,
    "weight_decay": Number(0),
    "beta1": Number(0, 1),
    "beta2": Number(0, 1),
    "ams_gradient": _boolean,
    "learning_rate_scheduler": _choice("warmup_cosine", "step", "flat"),
    "warmup_cosine_lr_cycles": Number(0),
    "warmup_cosine_lr_warmup_epochs": Number(0),
    "step_lr_gamma": Number(0, 1),
    "step_lr_step_size": _integer(1),
    "early_stopping": _boolean,
    "early_stopping_patience": _integer(1),
    "early_stopping_delay": _integer(0),
    "evaluation_frequency": _integer(1),
    "checkpoint_frequency": _integer(1),
    "distributed": _boolean,
    "number_of_workers": _integer(0),
    "random_seed": _integer(0, 2**32 - 1),
    "layers_to_freeze": _integer(0),
    "enable_onnx_normalization": _boolean,
    "augmentations": _one_of("none", "light", "medium", "strong"),
    "advanced_settings": _settings,
    # Classification.
    "weighted_loss": _integer(0, 2),
    "training_crop_size": _integer(8, 4096),
    "validation_crop_size": _integer(8, 4096),
    "validation_resize_size": _integer(8, 8192),
    # Detection and instance segmentation.
    "image_size": _integer(8, 8192),
    "min_size": _integer(8, 8192),
    "max_size": _integer(8, 8192),
    "model_size": _one_of("small", "medium", "large", "extra_large"),
    "multi_scale": _boolean,
    "box_score_threshold": Number(0, 1),
    "nms_iou_threshold": Number(0, 1),
    "box_detections_per_image": _integer(1),
    "tile_grid_size": _tile_grid,
    "tile_overlap_ratio": Number(0, 1, below=True),
    "tile_predictions_nms_threshold": Number(0, 1),
    "validation_metric_type": _one_of("none", "coco", "voc", "coco_voc"),
    "validation_iou_threshold": Number(0, 1, least=0.1),
    "log_training_metrics": _boolean,
    "log_validation_loss": _boolean,
    # Instance segmentation.
    "mask_pixel_score_threshold": Number(0, 1),
    "max_number_of_polygon_points": _integer(3),
    "export_as_image": _boolean,
    "image_type": _one_of("JPG", "PNG"),
}

PARAMETERS = (
    "model_name",
    *PARSERS,
    "checkpoint_run_id",
    "checkpoint_model",
    "checkpoint_dataset_id",
    "checkpoint_filename",
)

# Parameter -> field of `training.recipe.Recipe` that it sets.
RECIPE_PARAMETERS = {
    "number_of_epochs": "num_epochs",
    "training_batch_size": "batch_size",
    "gradient_accumulation_step": "accumulation",
    "optimizer": "optimizer",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "beta1": "beta1",
    "beta2": "beta2",
    "ams_gradient": "ams_gradient",
    "momentum": "momentum",
    "nesterov": "nesterov",
    "learning_rate_scheduler": "schedule",
    "warmup_cosine_lr_warmup_epochs": "warmup_epochs",
    "warmup_cosine_lr_cycles": "cosine_cycles",
    "step_lr_gamma": "step_gamma",
    "step_lr_step_size": "step_size",
    "weighted_loss": "weighted_loss",
    "layers_to_freeze": "layers_to_freeze",
    "augmentations": "augmentation",
    "early_stopping": "early_stopping",
    "early_stopping_patience": "early_stopping_patience",
    "early_stopping_delay": "early_stopping_delay",
    "evaluation_frequency": "evaluation_frequency",
    "validation_batch_size": "validation_batch_size",
    "number_of_workers": "num_workers",
    "multi_scale": "multi_scale",
    "log_validation_loss": "log_validation_loss",
    "log_training_metrics": "log_training_metrics",
}
