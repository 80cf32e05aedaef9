"""The published hyperparameters, each declared once (`reference/azure.md` §1.5, §1.6).

A field of `TrainingParameters` says all there is to know of a parameter but its default, which the
recipe owns: `training/recipe.py` joins both. Reading, "not used here", suggestions, the job's JSON
schema, its template and the tables in docs/reference come from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from autofocus.settings.fields import (
    Flag,
    JsonObject,
    Number,
    OneOf,
    Reader,
    Schema,
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
    """Declaration of one hyperparameter, the metadata of its field.

    Attributes:
        used_by: Part of training that reads it.
        alias: Spelling of older pages and notebooks, the runtime's (azure.md §1.5).
    """

    used_by: Reader = "all"
    alias: str | None = None

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return self.kind.__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        meaning = f"{self.help}; {self.more}" if self.more else self.help
        where = "" if self.used_by == "all" else f" ({READERS[self.used_by]})"
        default = f". Default: {self.default_words}" if self.default_words else ""
        return {"description": f"{meaning}{where}{default}", **self.kind.schema()}


def _whole(low: int, high: int | None = None) -> Number:
    return Number(low, high, whole=True)


_COUNT, _SIDE, _FRAC, _FLAG = _whole(1), _whole(8, 8192), Number(0, 1), Flag()
_crops = partial(Parameter, used_by="crops")
_objects = partial(Parameter, used_by="objects")
_outlines = partial(Parameter, used_by="outlines")
_any_size = partial(Parameter, used_by="any size")
_nobody = partial(Parameter, used_by="nobody")


class TrainingParameters(BaseModel):
    """The hyperparameters of a job; None: not set."""

    model_config = ConfigDict(extra="forbid")

    model_name: Annotated[
        str | None,
        Parameter(
            Text(),
            "A timm name, one of the catalog's or of Azure's",
            default_words="the catalog's, by kind",
        ),
    ] = None
    number_of_epochs: Annotated[
        int | None, Parameter(_whole(0), "Most epochs; 0 does not fine-tune")
    ] = None
    training_batch_size: Annotated[
        int | None, Parameter(_COUNT, "Images of a batch, over all processes")
    ] = None
    validation_batch_size: Annotated[
        int | None, Parameter(_COUNT, "Images evaluated at once", default_words="that of training")
    ] = None
    gradient_accumulation_step: Annotated[
        int | None,
        Parameter(
            _COUNT,
            "Batches of a step",
            "computed one after the other",
            alias="grad_accumulation_step",
        ),
    ] = None
    learning_rate: Annotated[
        float | None, Parameter(Number(0, above=True), "Learning rate of the head")
    ] = None
    optimizer: Annotated[
        str | None, Parameter(OneOf(("sgd", "adam", "adamw"), may_be_unset=True), "Optimiser")
    ] = None
    momentum: Annotated[float | None, Parameter(_FRAC, "Momentum; `sgd`")] = None
    nesterov: Annotated[bool | None, Parameter(_FLAG, "Nesterov's momentum; `sgd`")] = None
    weight_decay: Annotated[
        float | None, Parameter(Number(0), "Weight decay; never on norms and biases")
    ] = None
    beta1: Annotated[float | None, Parameter(_FRAC, "Decay of gradients; `adam`, `adamw`")] = None
    beta2: Annotated[
        float | None, Parameter(_FRAC, "Decay of squared gradients; `adam`, `adamw`")
    ] = None
    ams_gradient: Annotated[
        bool | None, Parameter(_FLAG, "AMSGrad; `adam`, `adamw`", alias="amsgrad")
    ] = None
    learning_rate_scheduler: Annotated[
        str | None,
        Parameter(
            OneOf(("warmup_cosine", "step", "flat"), may_be_unset=True),
            "Schedule of the rate",
            alias="lr_scheduler",
        ),
    ] = None
    warmup_cosine_lr_cycles: Annotated[
        float | None, Parameter(Number(0), "Cycles; 0.5 ends at zero, 0.45 a little above")
    ] = None
    warmup_cosine_lr_warmup_epochs: Annotated[
        float | None, Parameter(Number(0), "Epochs of linear warm-up")
    ] = None
    step_lr_gamma: Annotated[float | None, Parameter(_FRAC, "Factor of the rate a step")] = None
    step_lr_step_size: Annotated[int | None, Parameter(_COUNT, "Epochs between steps")] = None
    early_stopping: Annotated[
        bool | None, Parameter(_FLAG, "End when evaluations get no better")
    ] = None
    early_stopping_patience: Annotated[
        int | None, Parameter(_COUNT, "Evaluations without a better one")
    ] = None
    early_stopping_delay: Annotated[
        int | None, Parameter(_whole(0), "Epochs before patience begins")
    ] = None
    evaluation_frequency: Annotated[
        int | None, Parameter(_COUNT, "Epochs between evaluations; the last is evaluated")
    ] = None
    number_of_workers: Annotated[
        int | None,
        Parameter(
            _whole(0),
            "Threads that make batches; 0 is one",
            alias="num_workers",
            default_words="as many as cores",
        ),
    ] = None
    random_seed: Annotated[
        int | None,
        Parameter(
            _whole(0, 2**32 - 1), "Instead of the job's `seed`", default_words="`seed` of the job"
        ),
    ] = None
    layers_to_freeze: Annotated[
        int | None, Parameter(_whole(0), "First groups of layers that do not learn")
    ] = None
    augmentations: Annotated[
        str | None,
        Parameter(OneOf(("none", "light", "medium", "strong")), "Strength of augmentation"),
    ] = None
    log_validation_loss: Annotated[
        bool | None,
        Parameter(
            _FLAG,
            "Whether evaluations include the loss on validation images",
            more="the training loss, without dropout: `validation_loss` in `metrics.jsonl`",
        ),
    ] = None
    weighted_loss: Annotated[
        int | None,
        Parameter(
            _whole(0, 2),
            "Class weights: 0 none, 1 square roots, 2 full",
            more="only where the largest class has more than twice the smallest",
            used_by="classes",
        ),
    ] = None
    validation_crop_size: Annotated[
        int | None,
        _crops(
            _whole(8, 4096),
            "Side of the input, pixels",
            alias="valid_crop_size",
            default_words="that of the weights; Azure's names 224",
        ),
    ] = None
    validation_resize_size: Annotated[
        int | None,
        _crops(
            _SIDE,
            "Shorter side before the crop",
            "pixels, at least the crop",
            alias="valid_resize_size",
            default_words="that of the weights; Azure's names 256",
        ),
    ] = None
    image_size: Annotated[
        int | None,
        _objects(
            _SIDE, "Longer side of the input, pixels", alias="img_size", default_words="by the data"
        ),
    ] = None
    min_size: Annotated[
        int | None,
        _any_size(
            _SIDE,
            "Shorter side of the input, pixels, as far as `max_size` allows",
            default_words="by the data; Azure's names 600",
        ),
    ] = None
    max_size: Annotated[
        int | None,
        _any_size(
            _SIDE,
            "Most of the longer side, pixels",
            default_words="by the data; Azure's names 1333",
        ),
    ] = None
    model_size: Annotated[
        str | None,
        Parameter(
            OneOf(("small", "medium", "large", "extra_large")),
            "Size of the model",
            used_by="yolov5",
            default_words="medium",
        ),
    ] = None
    multi_scale: Annotated[
        bool | None,
        _any_size(
            _FLAG,
            "Batches of 0.5 to 1.5 times the input's size",
            more="drawn by (seed, epoch, batch); false: one size",
            default_words="as augmentation says: `medium` and `strong` vary it by a quarter",
        ),
    ] = None
    tile_grid_size: Annotated[
        str | None,
        _objects(TileGrid(), "Tiles seen beside the whole image", default_words="no tiles"),
    ] = None
    tile_overlap_ratio: Annotated[
        float | None,
        _objects(
            Number(0, 1, below=True),
            "Share of a tile that its neighbour shows too",
            default_words="0.25",
        ),
    ] = None
    tile_predictions_nms_threshold: Annotated[
        float | None,
        _objects(
            _FRAC, "IoU above which boxes of two tiles are one", alias="tile_predictions_nms_thresh"
        ),
    ] = None
    nms_iou_threshold: Annotated[
        float | None,
        _objects(
            _FRAC,
            "IoU above which the lower score is dropped",
            "Mask R-CNN suppresses above 0.6 by itself, or above this where it is more: a "
            "finished model can be told less later, not more",
            alias="nms_iou_thresh",
        ),
    ] = None
    box_score_threshold: Annotated[
        float | None, _objects(_FRAC, "Least score of a reply's box", alias="box_score_thresh")
    ] = None
    box_detections_per_image: Annotated[
        int | None,
        _objects(_COUNT, "Most boxes; ours: by the data", alias="box_detections_per_img"),
    ] = None
    validation_metric_type: Annotated[
        str | None,
        _objects(
            OneOf(("none", "coco", "voc", "coco_voc")), "Metric; `none`: the last epoch is kept"
        ),
    ] = None
    validation_iou_threshold: Annotated[
        float | None, _objects(Number(0, 1, least=0.1), "IoU of a right box; below 0.1 means 0.1")
    ] = None
    log_training_metrics: Annotated[
        bool | None,
        _objects(
            _FLAG,
            "Whether up to 200 training images are measured too",
            more="the same every time: `training_…` in `metrics.jsonl`",
        ),
    ] = None
    mask_pixel_score_threshold: Annotated[
        float | None, _outlines(_FRAC, "Probability of a pixel of the object")
    ] = None
    max_number_of_polygon_points: Annotated[
        int | None, _outlines(_whole(3), "Most points of a polygon")
    ] = None
    training_crop_size: Annotated[
        int | None,
        _nobody(_whole(8, 4096), "Training takes the size of validation", alias="train_crop_size"),
    ] = None
    checkpoint_frequency: Annotated[int | None, _nobody(_COUNT, "Each epoch has one")] = None
    distributed: Annotated[bool | None, _nobody(_FLAG, "Start `torchrun`")] = None
    enable_onnx_normalization: Annotated[
        bool | None, _nobody(_FLAG, "`preprocess` is in the package")
    ] = None
    advanced_settings: Annotated[
        dict[str, Any] | None, _nobody(JsonObject(), "Settings of the cloud's runtime")
    ] = None
    export_as_image: Annotated[bool | None, _nobody(_FLAG, "Masks are polygons")] = None
    image_type: Annotated[str | None, _nobody(OneOf(("JPG", "PNG")), "Masks are polygons")] = None
    checkpoint_run_id: Annotated[
        str | None, _nobody(Text(), "A cloud's; see `weights` of the job")
    ] = None
    checkpoint_model: Annotated[
        str | None, _nobody(Text(), "A cloud's; see `weights` of the job")
    ] = None
    checkpoint_dataset_id: Annotated[str | None, _nobody(Text(), "A cloud's")] = None
    checkpoint_filename: Annotated[str | None, _nobody(Text(), "A cloud's")] = None


PARAMETERS: dict[str, Parameter] = {
    name: next(item for item in field.metadata if isinstance(item, Parameter))
    for name, field in TrainingParameters.model_fields.items()
}
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
    read: TrainingParameters = handler(given)
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
