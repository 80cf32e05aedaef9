"""Recipes: every number of a training run, with its default and where that comes from.

Azure's model names train with Azure's published defaults (`reference/azure.md` §1.6); every other
name with ours (`reference/competitors.md` §5.2). What the job sets wins over both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from autofocus.settings.parameters import RECIPE_PARAMETERS

OptimizerName = Literal["sgd", "adam", "adamw"]
Schedule = Literal["warmup_cosine", "step", "flat"]

# Sets larger than this gain from regularisation that small ones only lose time to.
LARGE_SET = 1_000


@dataclass(frozen=True)
class Recipe:
    """How to train one network.

    Attributes:
        num_epochs: At most; a budget may plan for fewer.
        batch_size: Images an optimiser step, over all processes, times `accumulation`.
        learning_rate: Of the head and the last block.
        layer_decay: Each earlier block learns this much slower; 1 is the same rate for all.
        backbone_scale: Rate of the encoder's last block relative to the head.
        warmup_epochs: Epochs of linear warm-up.
        max_warmup_frac: Share of all steps that warm-up takes at most, for runs that a budget
            cuts short; None has no such limit.
        cosine_cycles: Of the cosine after warm-up: 0.5 ends at zero, 0.45 a little above.
        clip_value: Gradients are clipped to ± this; None does not.
        clip_norm: Gradients are scaled down to this norm; None does not.
        ema_decay: Of the averaged weights that are evaluated and kept; None averages nothing.
        wise_ft_alpha: Share of the initial weights in the mean with the trained ones that is
            evaluated beside these (WiSE-FT); 0 evaluates no mean.
        weighted_loss: 0 no class weights, 1 their square roots, 2 full; for imbalance above 2.
        layers_to_freeze: Leading groups of layers that do not learn (published groups).
        frozen_frac: Share of the groups that do not learn, where a job does not say how many.
        freeze_norm_stats: Batch norms keep their pretrained statistics.
        mixup_alpha: 0 does not mix.
        max_loss: Training ends as failed above it: it is not coming back. Sums over many layers
            and queries may start higher than the published 100.
        evaluation_frequency: Epochs between evaluations.
        early_stopping_patience: Evaluations without a better one before stopping.
        early_stopping_delay: Epochs before patience begins.
        validation_batch_size: Images computed at once to judge; None takes `batch_size`.
        num_workers: Threads that make batches, 0 counts as one; None takes the machine's cores.
        multi_scale: Batches of half to one and a half times the input's size; None leaves it to
            the augmentation, False has one size.
        log_validation_loss: Whether each evaluation has the loss on validation images too.
        log_training_metrics: Whether each has the metrics of a share of the training images too.
    """

    num_epochs: int = 30
    batch_size: int = 16
    accumulation: int = 1
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
    schedule: Schedule = "warmup_cosine"
    warmup_epochs: float = 2.0
    max_warmup_frac: float | None = 0.2
    cosine_cycles: float = 0.5
    step_gamma: float = 0.5
    step_size: int = 5
    clip_value: float | None = None
    clip_norm: float | None = 1.0
    ema_decay: float | None = 0.999
    wise_ft_alpha: float = 0.0
    label_smoothing: float = 0.0
    weighted_loss: int = 0
    layers_to_freeze: int = 0
    frozen_frac: float = 0.0
    freeze_norm_stats: bool = True
    augmentation: str = "light"
    mixup_alpha: float = 0.0
    max_loss: float = 100.0
    early_stopping: bool = True
    early_stopping_patience: int = 5
    early_stopping_delay: int = 5
    evaluation_frequency: int = 1
    validation_batch_size: int | None = None
    num_workers: int | None = None
    multi_scale: bool | None = None
    log_validation_loss: bool = False
    log_training_metrics: bool = False

    def document(self) -> dict[str, Any]:
        """Return the recipe as `decisions.jsonl` and a dry run have it."""
        return {
            "start_share" if name == "wise_ft_alpha" else name: value
            for name, value in vars(self).items()
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
# Its vision transformers have rates and batches of their own, and clip by norm.
AZURE_BY_NAME: dict[str, dict[str, Any]] = {
    "vits16r224": {"batch_size": 128, "learning_rate": 0.0125},
    "vitb16r224": {"batch_size": 48, "learning_rate": 0.0125},
    "vitl16r224": {"batch_size": 10, "learning_rate": 0.001},
}
_VIT_CLIP: dict[str, Any] = {"clip_value": None, "clip_norm": 1.0}
AZURE_DETECTOR_DEFAULTS: dict[str, Any] = {
    "num_epochs": 15,
    "batch_size": 2,
    "optimizer": "sgd",
    "learning_rate": 0.005,
    "layer_decay": 1.0,
    "weight_decay": 1e-4,
    "max_warmup_frac": None,
    "cosine_cycles": 0.45,
    "clip_value": 5.0,
    "clip_norm": None,
    "ema_decay": None,
    "layers_to_freeze": 2,
    "augmentation": "light",
    "log_validation_loss": True,
}

# A detector's head starts from random numbers and needs this many steps, however few the images.
MIN_STEPS = 2_000
MIN_EPOCHS, MAX_EPOCHS = 24, 300


def default_recipe(
    user_name: str | None,
    num_images: int,
    task_rates: Mapping[str, float],
    is_azure: bool,
    defaults: Mapping[str, Any] | None = None,
    label_smoothing: float = 0.0,
) -> Recipe:
    """Return the recipe before the job's own parameters.

    Our rates were chosen on rendered scenes (160 to learn from, 160 to judge by, lite0): a
    backbone that learns as fast as the head ends at log loss 0.18, one at a third of it at 0.25
    or more. No real photo that quality is claimed on took part.

    Args:
        user_name: The model as the user named it, or None.
        num_images: Training images.
        task_rates: The task's published learning rates by Azure's name; `*` for the others.
        is_azure: Whether `user_name` is one of Azure's.
        defaults: Fields of the model's family, from `Family.recipe_defaults`.
        label_smoothing: The task's.
    """
    if is_azure and user_name is not None:
        own = AZURE_BY_NAME.get(user_name, {})
        clip = _VIT_CLIP if own else {}
        rate = task_rates.get(user_name, task_rates["*"])
        return Recipe(**(AZURE_DEFAULTS | own | clip | {"learning_rate": rate}))
    rates = defaults or {}
    if num_images > LARGE_SET:
        return Recipe(batch_size=32, label_smoothing=0.1, augmentation="medium", **rates)
    # Some tens of validation images cannot tell when to stop; the schedule can.
    return Recipe(label_smoothing=label_smoothing, early_stopping=False, wise_ft_alpha=0.5, **rates)


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
        # A rate that was given for another optimiser than the recipe's is meant for all layers.
        changes |= {"backbone_scale": 1.0, "layer_decay": 1.0}
    if "layers_to_freeze" in parameters:
        changes["frozen_frac"] = 0.0
    return replace(recipe, **changes)
