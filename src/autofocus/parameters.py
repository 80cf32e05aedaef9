"""Published hyperparameters: type, range and spelling of each value (`reference/azure.md` §1.5).

Runtime parsing as published: "4.0" is an int, 4.2 is not; y/yes/t/true/on/1 and their opposites
are booleans.
"""

from collections.abc import Callable, Mapping
from typing import Any

Parse = Callable[[object], Any]

_TRUE = {"1", "true", "t", "yes", "y", "on", "enable", "enabled"}
_FALSE = {"0", "false", "f", "no", "n", "off", "disable", "disabled"}


def check_parameters(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters with parsed values, and a sentence for each impossible one."""
    parsed: dict[str, Any] = {}
    problems = []
    for name, value in raw.items():
        # None is how a job that was read back shows what was not set.
        if value is None or name not in PARSERS:
            parsed[name] = value
            continue
        try:
            parsed[name] = PARSERS[name](value)
        except ValueError as error:
            problems.append(f"training_parameters.{name}: must be {error}, got {value!r}.")
    return {name: value for name, value in parsed.items() if value is not None}, problems


def _integer(low: int, high: int | None = None) -> Parse:
    allowed = f"a whole number ≥ {low}" if high is None else f"a whole number in [{low}, {high}]"

    def parse(value: object) -> int:
        number = _as_float(value, allowed)
        if number != int(number) or number < low or (high is not None and number > high):
            raise ValueError(allowed)
        return int(number)

    return parse


def _number(low: float, high: float | None = None, *, above: bool = False) -> Parse:
    start = f"> {low:g}" if above else f"≥ {low:g}"
    allowed = f"a number {start}" if high is None else f"a number {start} and ≤ {high:g}"

    def parse(value: object) -> float:
        number = _as_float(value, allowed)
        if number < low or (above and number == low) or (high is not None and number > high):
            raise ValueError(allowed)
        return number

    return parse


def _as_float(value: object, allowed: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(allowed)
    try:
        number = float(value)
    except ValueError:
        raise ValueError(allowed) from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(allowed)
    return number


def _boolean(value: object) -> bool:
    text = str(value).strip().lower().removesuffix(".0")
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError("true or false")


def _one_of(*names: str) -> Parse:
    # The REST interface writes WarmupCosine.
    spellings = {name.replace("_", ""): name for name in names}

    def parse(value: object) -> str:
        name = spellings.get(str(value).strip().lower().replace("_", ""))
        if name is None:
            raise ValueError(f"one of {', '.join(names)}")
        return name

    return parse


def _choice(*names: str) -> Parse:
    known = _one_of(*names)

    def parse(value: object) -> str | None:
        unset = str(value).strip().lower() in ("none", "not_set")
        return None if unset else known(value)

    return parse


PARSERS: dict[str, Parse] = {
    "number_of_epochs": _integer(0),
    "training_batch_size": _integer(1),
    "validation_batch_size": _integer(1),
    "gradient_accumulation_step": _integer(1),
    "learning_rate": _number(0, above=True),
    "optimizer": _choice("sgd", "adam", "adamw"),
    "momentum": _number(0, 1),
    "nesterov": _boolean,
    "weight_decay": _number(0),
    "beta1": _number(0, 1),
    "beta2": _number(0, 1),
    "ams_gradient": _boolean,
    "learning_rate_scheduler": _choice("warmup_cosine", "step", "flat"),
    "warmup_cosine_lr_cycles": _number(0),
    "warmup_cosine_lr_warmup_epochs": _number(0),
    "step_lr_gamma": _number(0, 1),
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
    "weighted_loss": _integer(0, 2),
    "training_crop_size": _integer(8, 4096),
    "validation_crop_size": _integer(8, 4096),
    "validation_resize_size": _integer(8, 8192),
    "augmentations": _one_of("none", "light", "medium", "strong"),
}

# The parameter -> the field of `training.recipe.Recipe` that it sets.
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
}
