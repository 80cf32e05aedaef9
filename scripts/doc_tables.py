"""Write the tables of docs/reference that declarations in the code make.

A table stands between `<!-- table: <name of TABLES> -->` and `<!-- end -->`; the rest of a page is
written by hand.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from autofocus.explain.algorithms import ALGORITHMS
from autofocus.explain.parameters import XAI_PARAMETERS, Parameters, XaiParameter, allowed
from autofocus.models import catalog
from autofocus.models.base import CLASSIFIER
from autofocus.models.families import family_of
from autofocus.serve.settings import ENV_PREFIX, SETTINGS, Setting, Settings
from autofocus.settings.fields import Flag, Number
from autofocus.settings.job import UNUSED_KEYS
from autofocus.settings.options import Option
from autofocus.settings.parameters import PARAMETERS, READERS
from autofocus.study.job_schema import NUM_IMAGES, common_defaults, job_schema
from autofocus.study.resolve import resolve
from autofocus.study.trials.recipes import default_values
from autofocus.tasks import TASKS
from autofocus.tasks.base import Task
from autofocus.training.recipe import LARGE_SET, MAX_EPOCHS, MIN_EPOCHS, MIN_STEPS

# Encoder of the detectors whose heads are shown.
BACKBONE = "tf_efficientnet_lite0"
PAGES = Path(__file__).parents[1] / "docs"
_TABLE = re.compile(r"(<!-- table: ([^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write every page whose tables have changed."""
    for path in sorted(PAGES.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(PAGES.parent)}: written")


def written(page: str) -> str:
    """Return a page with its tables as the code declares them now.

    Raises:
        KeyError: If a page names a table that `TABLES` does not have.
    """
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], page)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines = [f"| {' | '.join(line)} |\n" for line in cells]
    made = "".join([lines[0], "|---" * len(head) + "|\n", *lines[1:]])
    return re.sub(r"\|  (?=\|)", "| ", made)


def server_settings() -> str:
    """Return the table of `serve.settings.Settings`."""
    head = ("flag", "variable", "values of the variable", "default", "")
    defaults = Settings()
    return table(
        head,
        [
            (
                _flag(name, setting),
                f"`{ENV_PREFIX}{name.upper()}`",
                _values(setting),
                setting.default_of(getattr(defaults, name)) or "none",
                _meaning(setting),
            )
            for name, setting in SETTINGS.items()
        ],
    )


def xai_parameters() -> str:
    """Return the table of `explain.parameters.Parameters`."""
    head = ("key", "values", "default", "", "used by")
    defaults = Parameters()
    return table(
        head,
        [
            (
                f"`{name}`{' (ours)' if parameter.ours else ''}",
                _algorithms() if name == "xai_algorithm" else allowed(parameter.kind),
                _json(parameter, getattr(defaults, name)),
                _meaning(parameter),
                _users(name),
            )
            for name, parameter in XAI_PARAMETERS.items()
        ],
    )


def job_keys() -> str:
    """Return the table of the job's keys, without those of a sweep and of a cloud."""
    schema = job_schema()
    parts = {
        "": schema,
        "limits.": schema["$defs"]["Limits"],
        "data.": schema["$defs"]["DataRules"],
        "thresholds.": schema["$defs"]["Wanted"],
    }
    rows = [
        (f"`{part}{key}`", about["description"], _allowed(about), _default(key, about, whole))
        for part, whole in parts.items()
        for key, about in whole["properties"].items()
        if "description" in about and key not in UNUSED_KEYS and f"{key}." not in parts
    ]
    return table(("key", "", "values", "default"), rows)


def hyperparameters() -> str:
    """Return the table of `settings.parameters.PARAMETERS`."""
    common, varying = common_defaults(), {name for name, *_ in _varying_defaults()}
    rows = [
        (
            ", ".join(f"`{each}`" for each in (name, parameter.alias) if each),
            _meaning(parameter),
            parameter.kind.allowed,
            READERS[parameter.used_by],
            parameter.default_words
            or ("below" if name in varying else _in_yaml(common[name]) if name in common else ""),
        )
        for name, parameter in PARAMETERS.items()
    ]
    return table(("parameter", "", "values", "counts for", "default"), rows)


def recipes() -> str:
    """Return the table of defaults that depend on the model."""
    head = ("parameter", "classification: Azure's names", "ours", "objects: Azure's names", "ours")
    return table(head, ((f"`{name}`", *cells) for name, *cells in _varying_defaults()))


TABLES: dict[str, Callable[[], str]] = {
    "job keys": job_keys,
    "hyperparameters": hyperparameters,
    "recipes": recipes,
    "server settings": server_settings,
    "xai_parameters": xai_parameters,
}


def _flag(name: str, setting: Setting) -> str:
    if not setting.has_flag:
        return ""
    flag = (setting.flag or name).replace("_", "-")
    return f"`--{flag}`, `--no-{flag}`" if isinstance(setting.kind, Flag) else f"`--{flag}`"


def _values(setting: Setting) -> str:
    kind = setting.kind
    if not isinstance(kind, Number):
        return kind.allowed
    return f"{kind.low:,} to {kind.high:,}{setting.unit}{', whole' if kind.whole else ''}"


def _meaning(option: Option) -> str:
    return f"{option.help}; {option.more}" if option.more else option.help


def _json(parameter: XaiParameter, default: object) -> str:
    words = parameter.default_words if default is None else None
    return words or f"`{json.dumps(default)}`"


def _algorithms() -> str:
    def names(kind: str) -> str:
        return ", ".join(f"`{name}`" for name, x in ALGORITHMS.items() if x.explains == kind)

    return f"classes: {names('classes')}; boxes (ours): {names('boxes')}"


def _users(name: str) -> str:
    return ", ".join(user for user, x in ALGORITHMS.items() if name in x.parameters)


def _allowed(about: dict[str, Any]) -> str:
    """Return what the schema of a key allows, in words; empty where the key says it itself."""
    about = next((one for one in about.get("anyOf", ()) if one != {"type": "null"}), about)
    if "enum" in about:
        return ", ".join(f"`{name}`" for name in about["enum"])
    if about.get("type") not in ("integer", "number"):
        return ""
    above, below = about.get("exclusiveMinimum"), about.get("exclusiveMaximum")
    low, high = about.get("minimum", above), about.get("maximum", below)
    start = "whole, " if about["type"] == "integer" else ""
    start += f"{'>' if above is not None else '≥'} {low:,}"
    return start if high is None else f"{start} and {'<' if below is not None else '≤'} {high:,}"


def _default(key: str, about: dict[str, Any], whole: dict[str, Any]) -> str:
    if key in whole.get("required", ()) or key == "task":
        return "required"
    default = about.get("default")
    return "" if isinstance(default, dict | list | None) else f"`{default}`"


def _in_yaml(value: object) -> str:
    return json.dumps(value).strip('"')


@cache
def _varying_defaults() -> list[tuple[str, ...]]:
    """Return the parameters whose default depends on the model, with the cells of `recipes`."""
    shared, columns = common_defaults(), _columns()
    found = {}
    for name in PARAMETERS:
        cells = tuple(_cell(name, column) for column in columns)
        if name not in shared and any(cells):
            found[name] = cells
    *others, _ = found["number_of_epochs"]
    steps = f"as many as make {MIN_STEPS:,} steps, {MIN_EPOCHS} to {MAX_EPOCHS}"
    found["number_of_epochs"] = (*others, steps)
    return [(name, *cells) for name, cells in found.items()]


# What is said before values -> models by name, the first of which needs none, and their values.
Column = dict[str, dict[str, dict[str, Any]]]


def _columns() -> list[Column]:
    azure = {f"`{name}`": name for name in sorted(catalog.ALIASES) if "16r" in name}
    azure = {"": "resnet50", **azure}
    ours = {"": catalog.DEFAULT_MODEL, "transformers": "deit_base_patch16_224.fb_in1k"}
    objects = {f"`{head}`": name for head, name in _models_by_head().items()}
    objects = {"": catalog.DEFAULT_DETECTOR, **objects}
    _, multi_label, *_ = TASKS.values()
    few, many = NUM_IMAGES
    large = f"above {LARGE_SET:,} images"
    return [
        {"": _defaults(azure, few), "multi-label": _defaults(azure, few, multi_label)},
        {"": _defaults(ours, few), large: _defaults(ours, many)},
        {"": _defaults({"": "fasterrcnn_resnet50_fpn"}, few)},
        {"": _defaults(objects, few), large: _defaults(objects, many)},
    ]


def _models_by_head() -> dict[str, str]:
    """Return a model of each head that has a recipe."""
    found = {}
    known = sorted({spec.name for spec in catalog.MODELS.values()})
    known += [f"{head}_{BACKBONE}_fpn" for head in catalog.HEADS]
    for spec in map(catalog.resolve, known):
        if spec.kind != CLASSIFIER:
            found.setdefault(family_of(spec).head(spec), spec.name)
    return found


def _defaults(
    models: dict[str, str], num_images: int, task: Task[Any, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the default values of models on a number of images."""
    found = {}
    for label, name in models.items():
        kind = catalog.resolve(name).kind
        task_name = (task or next(t for t in TASKS.values() if t.model_kind == kind)).name
        parameters = {"model_name": name}
        job = {"task": task_name, "training_data": "", "training_parameters": parameters}
        found[label] = default_values(resolve(job), num_images)
    return found


def _cell(parameter: str, column: Column) -> str:
    """Return the values of a parameter, each with what it holds for."""
    texts = {before: _by_value(parameter, models) for before, models in column.items()}
    first, *_ = texts.values()
    others = (f"{before} {text}" for before, text in texts.items() if text != first)
    return "; ".join([first, *others]) if first else ""


def _by_value(parameter: str, models: dict[str, dict[str, Any]]) -> str:
    first, *_ = (values.get(parameter) for values in models.values())
    if first is None:
        return ""
    labels: dict[str, list[str]] = {}
    for label, values in models.items():
        if values.get(parameter) not in (first, None):
            labels.setdefault(_in_yaml(values[parameter]), []).append(label)
    others = (f"{', '.join(names)} {value}" for value, names in labels.items())
    return "; ".join([_in_yaml(first), *others])


if __name__ == "__main__":
    main()
