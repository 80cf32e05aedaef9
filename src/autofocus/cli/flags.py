"""Flags of a command, made from declared options."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from autofocus.settings.fields import FilePath, Flag, Kind, Number, OneOf
from autofocus.settings.options import Option

F = TypeVar("F", bound=Callable[..., Any])


def with_flags(
    flags: Mapping[str, str], options: Mapping[str, Option], defaults: object
) -> Callable[[F], F]:
    """Give a command flags before its keyword-only parameters.

    They arrive among its keyword arguments, None where they were not given.

    Args:
        flags: Flag, as a Python name -> option.
        options: Option -> its declaration.
        defaults: Object with the default of each option, for `--help`.
    """

    def add(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        first = sum(p.kind is not p.KEYWORD_ONLY for p in own)
        made = [
            _parameter(flag, options[name], getattr(defaults, name)) for flag, name in flags.items()
        ]
        parameters = [*own[:first], *made, *own[first:]]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return add


def _parameter(flag: str, option: Option, default: object) -> inspect.Parameter:
    words = option.default_of(default)
    text = f"{option.help} (default: {words})." if words else f"{option.help}."
    annotation: Any = Annotated[_type(option.flag_kind) | None, typer.Option(help=text)]
    return inspect.Parameter(
        flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _type(kind: Kind) -> Any:
    if isinstance(kind, OneOf):
        return Literal[kind.names]
    if isinstance(kind, Number):
        return int if kind.whole else float
    if isinstance(kind, Flag):
        return bool
    return Path if isinstance(kind, FilePath) else str
