"""Recipes: every number of a training run, with its default and its source.

Azure's model names train with Azure's published defaults (`reference/azure.md` §1.6); every other
name with ours (`reference/competitors.md` §5.2). The job's own parameters win over both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from autofocus.settings.parameters import PARAMETERS

OptimizerName = Literal["sgd", "adam", "adamw"]
Schedule = Literal["warmup_cosine", "step", "flat"]

# Images above which a set gains from regularisation that only costs a small one time.
LARGE_SET = 1_000


# Key of a field's metadata: the parameter that sets it, where that has another name.
_SET_BY = "parameter"


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run.

    A field is set by the job's parameter of its name, or of the name in its metadata.

    Attributes:
        num_epochs: Maximum epochs; a budget may plan for fewer.
        batch_size: Images of a batch, over all processes; a step takes `accumulation` batches.
        learning_rate: Learning rate of the head.
        layer_decay: Factor of the rate from each block to the one before it; 1 for one rate.
        backbone_scale: Rate of the encoder's last block relative to the head's.
        warmup_epochs: Epochs of linear warm-up.
        max_warmup_frac: Maximum share of warm-up in all steps, for runs that a budget cuts
            short; None for no limit.
        cosine_cycles: Cycles of the cosine after warm-up: 0.5 ends at zero, 0.45 a little above.
        clip_value: Limit of each gradient's absolute value; None for no limit.
        clip_norm: Limit of the gradients' norm; None for no limit.
        ema_decay: Decay of the averaged weights, which are evaluated and kept; None for no
            average.
        initial_share: Share of the initial weights in their mean with the trained ones, which is
            evaluated too (WiSE-FT); 0 for no mean.
        weighted_loss: Class weights: 0 none, 1 square roots, 2 full; for imbalance above 2.
        layers_to_freeze: Leading groups of layers that do not learn (published groups).
        frozen_frac: Minimum share of the groups that do not learn.
        freeze_norm_stats: Whether batch norms keep their pretrained statistics.
        mixup_alpha: Parameter of mixup's Beta distribution; 0 for no mixup.
        max_loss: Loss above which training fails, as diverged. Sums over many layers and queries
            may start higher than the published 100.
        evaluation_frequency: Epochs between evaluations.
        early_stopping_patience: Evaluations without a better one before training stops.
        early_stopping_delay: Epochs before patience begins.
        validation_batch_size: Images evaluated at once; None takes `batch_size`.
        num_workers: Threads that make batches, 0 counts as one; None takes the machine's cores.
        multi_scale: Whether batches have half to one and a half times the input's size; None
            leaves it to the augmentation.
        log_validation_loss: Whether evaluations include the loss on validation images.
        log_training_metrics: Whether evaluations include metrics of some training images.
    """

    num_epochs: int = field(default=30, metadata={_SET_BY: "number_of_epochs"})
    batch_size: int = field(default=16, metadata={_SET_BY: "training_batch_size"})
    accumulation: int = field(default=1, metadata={_SET_BY: "gradient_accumulation_step"})
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    backbone_scale: float = 1.0
    layer_decay: float = 0.85
    weight_decay: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.999
    ams_gradient: bool = False
    momentum: float = 0.9
    nesterov: bool = True
    schedule: Schedule = field(
        default="warmup_cosine", metadata={_SET_BY: "learning_rate_scheduler"}
    )
    warmup_epochs: float = field(default=2.0, metadata={_SET_BY: "warmup_cosine_lr_warmup_epochs"})
    max_warmup_frac: float | None = 0.2
    cosine_cycles: float = field(default=0.5, metadata={_SET_BY: "warmup_cosine_lr_cycles"})
    step_gamma: float = field(default=0.5, metadata={_SET_BY: "step_lr_gamma"})
    step_size: int = field(default=5, metadata={_SET_BY: "step_lr_step_size"})
    clip_value: float | None = None
    clip_norm: float | None = 1.0
    ema_decay: float | None = 0.999
    initial_share: float = 0.0
    label_smoothing: float = 0.0
    weighted_loss: int = 0
    layers_to_freeze: int = 0
    frozen_frac: float = 0.0
    freeze_norm_stats: bool = True
    augmentation: str = field(default="light", metadata={_SET_BY: "augmentations"})
    mixup_alpha: float = 0.0
    max_loss: float = 100.0
    early_stopping: bool = True
    early_stopping_patience: int = 5
    early_stopping_delay: int = 5
    evaluation_frequency: int = 1
    validation_batch_size: int | None = None
    num_workers: int | None = field(default=None, metadata={_SET_BY: "number_of_workers"})
    multi_scale: bool | None = None
    log_validation_loss: bool = False
    log_training_metrics: bool = False

    def document(self) -> dict[str, Any]:
        """Return the recipe as `decisions.jsonl` and a dry run have it."""
        return {
            "start_share" if name == "initial_share" else name: value
            for name, value in vars(self).items()
        }


# Parameter of the job -> field that it sets.
RECIPE_PARAMETERS: dict[str, str] = {
    name: one.name
    for one in fields(Recipe)
    if (name := one.metadata.get(_SET_BY, one.name)) in PARAMETERS
}

# azure.md §1.6: what Azure's names train with when the job says nothing.
AZURE_DEFAULTS: dict[str, Any] = {
    "num_epochs": 15,
    "batch_size": 78,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "backbone_scale": 1.0,
    "layer_decay": 1.0,
    "weight_decay": 1e-4,
    # As published, however few epochs there are.
    "max_warmup_frac": None,
    "cosine_cycles": 0.45,
    "clip_value": 5.0,
    "clip_norm": None,
    "ema_decay": None,
    "freeze_norm_stats": False,
    "augmentation": "strong",
}
# Azure's vision transformers have rates and batches of their own, and clip by norm.
AZURE_BY_NAME: dict[str, dict[str, Any]] = {
    "vits16r224": {"batch_size": 128, "learning_rate": 0.0125},
    "vitb16r224": {"batch_size": 48, "learning_rate": 0.0125},
    "vitl16r224": {"batch_size": 10, "learning_rate": 0.001},
}
_VIT_CLIP: dict[str, Any] = {"clip_value": None, "clip_norm": 1.0}
AZURE_DETECTOR_DEFAULTS: dict[str, Any] = AZURE_DEFAULTS | {
    "batch_size": 2,
    "learning_rate": 0.005,
    "layers_to_freeze": 2,
    "freeze_norm_stats": True,
    "augmentation": "light",
    "log_validation_loss": True,
}

# A detector's head starts from random numbers and needs this many steps, however few the images.
MIN_STEPS = 2_000
MIN_EPOCHS, MAX_EPOCHS = 24, 300


def default_recipe(
    azure_name: str | None,
    num_images: int,
    task_rates: Mapping[str, float],
    defaults: Mapping[str, Any] | None = None,
    label_smoothing: float = 0.0,
) -> Recipe:
    """Return the recipe before the job's own parameters.

    Our rates were chosen on rendered scenes (160 for training, 160 for validation, lite0): a
    backbone that learns as fast as the head ends at log loss 0.18, one at a third of it at 0.25
    or more. No real photo that quality is claimed on took part.

    Args:
        azure_name: The model as Azure names it; None where the job does not.
        num_images: Training images.
        task_rates: The task's published learning rates by Azure's name; `*` for the others.
        defaults: Fields of the model's family, from `Family.recipe_defaults`.
        label_smoothing: The task's.
    """
    if azure_name is not None:
        own = AZURE_BY_NAME.get(azure_name, {})
        clip = _VIT_CLIP if own else {}
        rate = task_rates.get(azure_name, task_rates["*"])
        return Recipe(**(AZURE_DEFAULTS | own | clip | {"learning_rate": rate}))
    rates = defaults or {}
    if num_images > LARGE_SET:
        return Recipe(batch_size=32, label_smoothing=0.1, augmentation="medium", **rates)
    # Some tens of validation images cannot tell when to stop: the schedule does.
    return Recipe(label_smoothing=label_smoothing, early_stopping=False, initial_share=0.5, **rates)


def detector_recipe(defaults: Mapping[str, Any], num_images: int, is_azure: bool) -> Recipe:
    """Return the recipe of a detector or segmenter before the job's own parameters.

    Args:
        defaults: Fields of the model's head, from `Family.recipe_defaults`.
        num_images: Training images.
        is_azure: Whether the model was asked for by one of Azure's names.
    """
    if is_azure:
        return Recipe(**AZURE_DETECTOR_DEFAULTS)
    # With few images an epoch has few steps, and it is steps that a new head needs; norms are
    # frozen, so small batches cost nothing but noise.
    batch_size = defaults["batch_size"] // (2 if num_images < LARGE_SET else 1)
    epochs = math.ceil(MIN_STEPS * batch_size / max(1, num_images))
    num_epochs = min(max(epochs, MIN_EPOCHS), MAX_EPOCHS)
    return Recipe(**{**defaults, "num_epochs": num_epochs, "batch_size": batch_size})


def with_parameters(recipe: Recipe, parameters: Mapping[str, Any]) -> Recipe:
    """Return `recipe` with checked job parameters in place (see `settings/parameters.py`)."""
    changes = {
        RECIPE_PARAMETERS[name]: value
        for name, value in parameters.items()
        if name in RECIPE_PARAMETERS
    }
    if "learning_rate" in parameters and recipe.optimizer != parameters.get("optimizer", "adamw"):
        # A rate given for another optimiser than the recipe's is meant for all layers.
        changes |= {"backbone_scale": 1.0, "layer_decay": 1.0}
    if "layers_to_freeze" in parameters:
        changes["frozen_frac"] = 0.0
    return replace(recipe, **changes)
