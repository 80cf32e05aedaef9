"""Published hyperparameters: name, spelling, type and range (`reference/azure.md` §1.5, §1.6)."""

import json
import re
from collections.abc import Mapping
from typing import Any

from autofocus.settings.fields import Flag, Kind, Number, OneOf, Schema, is_unset

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
            parsed[name] = PARSERS[name].parse(value)
        except ValueError as error:
            problems.append(f"training_parameters.{name}: must be {error}, got {value!r}.")
    return {name: value for name, value in parsed.items() if value is not None}, problems


# Most tiles of an image across, or down.
MAX_TILES = 16
_GRID_RULE = (
    f"tiles across x tiles down, such as 3x2, each at most {MAX_TILES} and more than one tile; "
    "or auto"
)


def read_tile_grid(value: object) -> tuple[int, int]:
    """Return (across, down) of a `tile_grid_size`: `3x2`, `(3, 2)` or `[3, 2]`.

    Raises:
        ValueError: If it is no grid, or has one tile or too many; says what is allowed.
    """
    numbers = re.fullmatch(r"[(\[]?\s*(\d+)\s*[x×,]\s*(\d+)\s*[)\]]?", str(value).strip().lower())
    across, down = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not (1 <= across <= MAX_TILES and 1 <= down <= MAX_TILES) or across * down == 1:
        raise ValueError(_GRID_RULE)
    return across, down


class TileGrid(Kind):
    """`auto`, or a grid of tiles; read as `3x2`, tiles across x tiles down."""

    def parse(self, value: object) -> str | None:
        """See `Kind.parse`."""
        if is_unset(value):
            return None
        if str(value).strip().lower() == "auto":
            return "auto"
        across, down = read_tile_grid(value)
        return f"{across}x{down}"

    @property
    def allowed(self) -> str:
        """See `Kind.allowed`."""
        return _GRID_RULE

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"type": "string", "pattern": r"^(auto|none|[(\[]?\s*\d+\s*[x,]\s*\d+\s*[)\]]?)$"}


class JsonObject(Kind):
    """A JSON object, as a string or a mapping."""

    def parse(self, value: object) -> dict[str, Any] | None:
        """See `Kind.parse`."""
        if isinstance(value, str) and is_unset(value):
            return None
        try:
            settings = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            settings = None
        if not isinstance(settings, Mapping):
            raise ValueError(self.allowed)
        return dict(settings)

    @property
    def allowed(self) -> str:
        """See `Kind.allowed`."""
        return """a JSON object, such as '{"stream_image_files": true}'"""

    def schema(self) -> Schema:
        """See `Kind.schema`."""
        return {"type": ["string", "object"]}


PARSERS: dict[str, Kind] = {
    "number_of_epochs": Number(0, whole=True),
    "training_batch_size": Number(1, whole=True),
    "validation_batch_size": Number(1, whole=True),
    "gradient_accumulation_step": Number(1, whole=True),
    "learning_rate": Number(0, above=True),
    "optimizer": OneOf(("sgd", "adam", "adamw"), may_be_unset=True),
    "momentum": Number(0, 1),
    "nesterov": Flag(),
    "weight_decay": Number(0),
    "beta1": Number(0, 1),
    "beta2": Number(0, 1),
    "ams_gradient": Flag(),
    "learning_rate_scheduler": OneOf(("warmup_cosine", "step", "flat"), may_be_unset=True),
    "warmup_cosine_lr_cycles": Number(0),
    "warmup_cosine_lr_warmup_epochs": Number(0),
    "step_lr_gamma": Number(0, 1),
    "step_lr_step_size": Number(1, whole=True),
    "early_stopping": Flag(),
    "early_stopping_patience": Number(1, whole=True),
    "early_stopping_delay": Number(0, whole=True),
    "evaluation_frequency": Number(1, whole=True),
    "checkpoint_frequency": Number(1, whole=True),
    "distributed": Flag(),
    "number_of_workers": Number(0, whole=True),
    "random_seed": Number(0, 2**32 - 1, whole=True),
    "layers_to_freeze": Number(0, whole=True),
    "enable_onnx_normalization": Flag(),
    "augmentations": OneOf(("none", "light", "medium", "strong")),
    "advanced_settings": JsonObject(),
    # Classification.
    "weighted_loss": Number(0, 2, whole=True),
    "training_crop_size": Number(8, 4096, whole=True),
    "validation_crop_size": Number(8, 4096, whole=True),
    "validation_resize_size": Number(8, 8192, whole=True),
    # Detection and instance segmentation.
    "image_size": Number(8, 8192, whole=True),
    "min_size": Number(8, 8192, whole=True),
    "max_size": Number(8, 8192, whole=True),
    "model_size": OneOf(("small", "medium", "large", "extra_large")),
    "multi_scale": Flag(),
    "box_score_threshold": Number(0, 1),
    "nms_iou_threshold": Number(0, 1),
    "box_detections_per_image": Number(1, whole=True),
    "tile_grid_size": TileGrid(),
    "tile_overlap_ratio": Number(0, 1, below=True),
    "tile_predictions_nms_threshold": Number(0, 1),
    "validation_metric_type": OneOf(("none", "coco", "voc", "coco_voc")),
    "validation_iou_threshold": Number(0, 1, least=0.1),
    "log_training_metrics": Flag(),
    "log_validation_loss": Flag(),
    # Instance segmentation.
    "mask_pixel_score_threshold": Number(0, 1),
    "max_number_of_polygon_points": Number(3, whole=True),
    "export_as_image": Flag(),
    "image_type": OneOf(("JPG", "PNG")),
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
