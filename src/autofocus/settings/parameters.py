"""The published hyperparameters, each declared once (`reference/azure.md` §1.5, §1.6).

A row of `PARAMETERS` says all there is to know of a parameter but its default, which the recipe
owns: `training/recipe.py` joins both. Reading, "not used here", suggestions, the job's JSON
schema, its template and the tables in docs/reference come from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

from pydantic import (
    ConfigDict,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    create_model,
)
from pydantic_core import PydanticCustomError, core_schema

from autofocus.settings.fields import (
    Flag,
    JsonObject,
    Number,
    OneOf,
    Reader,
    Text,
    TileGrid,
)
from autofocus.settings.options import Option

# Reader -> where its parameters count, in words.
READERS: dict[Reader, str] = {
    "all": "every model",
    "classes": "classification",
    "crops": "classification",
    "objects": "detection, instance segmentation",
    "outlines": "instance segmentation",
    "any size": "detectors that take any input size",
    "yolov5": "`model_name: yolov5`",
    "nobody": "not used here",
}


@dataclass(frozen=True)
class Parameter(Option):
    """Declaration of one hyperparameter.

    Attributes:
        used_by: Part of training that reads it.
        alias: Spelling of older pages and notebooks, the runtime's (azure.md §1.5).
    """

    used_by: Reader = "all"
    alias: str | None = None

    @property
    def description(self) -> str:
        """Meaning, who reads it and the default, for editors."""
        meaning = f"{self.help}; {self.more}" if self.more else self.help
        where = "" if self.used_by == "all" else f" ({READERS[self.used_by]})"
        default = f". Default: {self.default_words}" if self.default_words else ""
        return f"{meaning}{where}{default}"


def _whole(low: int, high: int | None = None) -> Number:
    return Number(low, high, whole=True)


_COUNT, _SIDE, _FRAC, _FLAG = _whole(1), _whole(8, 8192), Number(0, 1), Flag()
_crops = partial(Parameter, used_by="crops")
_objects = partial(Parameter, used_by="objects")
_outlines = partial(Parameter, used_by="outlines")
_any_size = partial(Parameter, used_by="any size")
_nobody = partial(Parameter, used_by="nobody")

PARAMETERS: Final[dict[str, Parameter]] = {
    "model_name": Parameter(
        Text(),
        "A timm name, one of the catalog's or of Azure's",
        default_words="the catalog's, by kind",
    ),
    "number_of_epochs": Parameter(_whole(0), "Most epochs; 0 does not fine-tune"),
    "training_batch_size": Parameter(_COUNT, "Images of a batch, over all processes"),
    "validation_batch_size": Parameter(
        _COUNT, "Images evaluated at once", default_words="that of training"
    ),
    "gradient_accumulation_step": Parameter(
        _COUNT, "Batches of a step", "computed one after the other", alias="grad_accumulation_step"
    ),
    "learning_rate": Parameter(Number(0, above=True), "Learning rate of the head"),
    "optimizer": Parameter(OneOf(("sgd", "adam", "adamw"), may_be_unset=True), "Optimiser"),
    "momentum": Parameter(_FRAC, "Momentum; `sgd`"),
    "nesterov": Parameter(_FLAG, "Nesterov's momentum; `sgd`"),
    "weight_decay": Parameter(Number(0), "Weight decay; never on norms and biases"),
    "beta1": Parameter(_FRAC, "Decay of gradients; `adam`, `adamw`"),
    "beta2": Parameter(_FRAC, "Decay of squared gradients; `adam`, `adamw`"),
    "ams_gradient": Parameter(_FLAG, "AMSGrad; `adam`, `adamw`", alias="amsgrad"),
    "learning_rate_scheduler": Parameter(
        OneOf(("warmup_cosine", "step", "flat"), may_be_unset=True),
        "Schedule of the rate",
        alias="lr_scheduler",
    ),
    "warmup_cosine_lr_cycles": Parameter(
        Number(0), "Cycles; 0.5 ends at zero, 0.45 a little above"
    ),
    "warmup_cosine_lr_warmup_epochs": Parameter(Number(0), "Epochs of linear warm-up"),
    "step_lr_gamma": Parameter(_FRAC, "Factor of the rate a step"),
    "step_lr_step_size": Parameter(_COUNT, "Epochs between steps"),
    "early_stopping": Parameter(_FLAG, "End when evaluations get no better"),
    "early_stopping_patience": Parameter(_COUNT, "Evaluations without a better one"),
    "early_stopping_delay": Parameter(_whole(0), "Epochs before patience begins"),
    "evaluation_frequency": Parameter(_COUNT, "Epochs between evaluations; the last is evaluated"),
    "number_of_workers": Parameter(
        _whole(0),
        "Threads that make batches; 0 is one",
        alias="num_workers",
        default_words="as many as cores",
    ),
    "random_seed": Parameter(
        _whole(0, 2**32 - 1), "Instead of the job's `seed`", default_words="`seed` of the job"
    ),
    "layers_to_freeze": Parameter(_whole(0), "First groups of layers that do not learn"),
    "augmentations": Parameter(
        OneOf(("none", "light", "medium", "strong")), "Strength of augmentation"
    ),
    "log_validation_loss": Parameter(
        _FLAG,
        "Whether evaluations include the loss on validation images",
        more="the training loss, without dropout: `validation_loss` in `metrics.jsonl`",
    ),
    "weighted_loss": Parameter(
        _whole(0, 2),
        "Class weights: 0 none, 1 square roots, 2 full",
        more="only where the largest class has more than twice the smallest",
        used_by="classes",
    ),
    "validation_crop_size": _crops(
        _whole(8, 4096),
        "Side of the input, pixels",
        alias="valid_crop_size",
        default_words="that of the weights; Azure's names 224",
    ),
    "validation_resize_size": _crops(
        _SIDE,
        "Shorter side before the crop",
        "pixels, at least the crop",
        alias="valid_resize_size",
        default_words="that of the weights; Azure's names 256",
    ),
    "image_size": _objects(
        _SIDE, "Longer side of the input, pixels", alias="img_size", default_words="by the data"
    ),
    "min_size": _any_size(
        _SIDE,
        "Shorter side of the input, pixels, as far as `max_size` allows",
        default_words="by the data; Azure's names 600",
    ),
    "max_size": _any_size(
        _SIDE, "Most of the longer side, pixels", default_words="by the data; Azure's names 1333"
    ),
    "model_size": Parameter(
        OneOf(("small", "medium", "large", "extra_large")),
        "Size of the model",
        used_by="yolov5",
        default_words="medium",
    ),
    "multi_scale": _any_size(
        _FLAG,
        "Batches of 0.5 to 1.5 times the input's size",
        more="drawn by (seed, epoch, batch); false: one size",
        default_words="as augmentation says: `medium` and `strong` vary it by a quarter",
    ),
    "tile_grid_size": _objects(
        TileGrid(), "Tiles seen beside the whole image", default_words="no tiles"
    ),
    "tile_overlap_ratio": _objects(
        Number(0, 1, below=True),
        "Share of a tile that its neighbour shows too",
        default_words="0.25",
    ),
    "tile_predictions_nms_threshold": _objects(
        _FRAC, "IoU above which boxes of two tiles are one", alias="tile_predictions_nms_thresh"
    ),
    "nms_iou_threshold": _objects(
        _FRAC,
        "IoU above which the lower score is dropped",
        "Mask R-CNN suppresses above 0.6 by itself, or above this where it is more: a "
        "finished model can be told less later, not more",
        alias="nms_iou_thresh",
    ),
    "box_score_threshold": _objects(
        _FRAC, "Least score of a reply's box", alias="box_score_thresh"
    ),
    "box_detections_per_image": _objects(
        _COUNT, "Most boxes; ours: by the data", alias="box_detections_per_img"
    ),
    "validation_metric_type": _objects(
        OneOf(("none", "coco", "voc", "coco_voc")), "Metric; `none`: the last epoch is kept"
    ),
    "validation_iou_threshold": _objects(
        Number(0, 1, least=0.1), "IoU of a right box; below 0.1 means 0.1"
    ),
    "log_training_metrics": _objects(
        _FLAG,
        "Whether up to 200 training images are measured too",
        more="the same every time: `training_…` in `metrics.jsonl`",
    ),
    "mask_pixel_score_threshold": _outlines(_FRAC, "Probability of a pixel of the object"),
    "max_number_of_polygon_points": _outlines(_whole(3), "Most points of a polygon"),
    "training_crop_size": _nobody(
        _whole(8, 4096), "Training takes the size of validation", alias="train_crop_size"
    ),
    "checkpoint_frequency": _nobody(_COUNT, "Each epoch has one"),
    "distributed": _nobody(_FLAG, "Start `torchrun`"),
    "enable_onnx_normalization": _nobody(_FLAG, "`preprocess` is in the package"),
    "advanced_settings": _nobody(JsonObject(), "Settings of the cloud's runtime"),
    "export_as_image": _nobody(_FLAG, "Masks are polygons"),
    "image_type": _nobody(OneOf(("JPG", "PNG")), "Masks are polygons"),
    "checkpoint_run_id": _nobody(Text(), "A cloud's; see `weights` of the job"),
    "checkpoint_model": _nobody(Text(), "A cloud's; see `weights` of the job"),
    "checkpoint_dataset_id": _nobody(Text(), "A cloud's"),
    "checkpoint_filename": _nobody(Text(), "A cloud's"),
}
_FIELDS: dict[str, Any] = {
    name: (Annotated[Any, one.kind, Field(description=one.description)], None)
    for name, one in PARAMETERS.items()
}
TrainingParameters = create_model(
    "TrainingParameters",
    __doc__="The hyperparameters of a job; None: not set.",
    __config__=ConfigDict(extra="forbid"),
    **_FIELDS,
)
# Runtime spelling -> the YAML's.
PARAMETER_ALIASES = {one.alias: name for name, one in PARAMETERS.items() if one.alias}


def canonical_names(parameters: Mapping[Any, Any]) -> dict[str, Any]:
    """Return `parameters` under the YAML's spelling.

    A runtime spelling stays where the YAML's is there too: whoever reads it refuses it.
    """
    renamed = {
        name: published
        for name, published in PARAMETER_ALIASES.items()
        if published not in parameters
    }
    return {renamed.get(str(name), str(name)): value for name, value in parameters.items()}


def _read(value: object, handler: ValidatorFunctionWrapHandler) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise PydanticCustomError("dict_type", "Input should be a valid dictionary")
    # In the order of the job, which its job.yml keeps. A job that is read back has None for what
    # was not set.
    given = {name: item for name, item in canonical_names(value).items() if item is not None}
    read = handler(given)
    parsed = {name: getattr(read, name) for name in given}
    return {name: item for name, item in parsed.items() if item is not None}


def _written(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as people write them: 0 and not 0.0, which tells one job from another."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in parameters.items()
    }


# Parsed parameters by their published names, without those that are not set.
Parameters = Annotated[
    dict[str, Any],
    GetPydanticSchema(
        lambda _, handler: core_schema.no_info_wrap_validator_function(
            _read,
            handler(TrainingParameters),
            serialization=core_schema.plain_serializer_function_ser_schema(_written),
        )
    ),
]
_PARAMETERS = TypeAdapter(Parameters)


def read_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return parsed parameters, without those that are not set.

    Raises:
        ValidationError: If a name or a value is not allowed.
    """
    return _PARAMETERS.validate_python(raw)
