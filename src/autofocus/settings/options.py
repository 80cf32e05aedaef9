"""Options declared once, as fields of a dataclass: checks, flags and tables of docs read them here.

workers: Annotated[int, Number(1, 1_024, whole=True), Help("Processes")] = 1
"""

import functools
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar, get_args

from autofocus.settings.fields import Kind

M = TypeVar("M")


@dataclass(frozen=True)
class Help:
    """Description of an option for people.

    Attributes:
        text: For `--help` and docs; begins with a capital and ends without a full stop.
        more: For docs alone.
        default: The default in words, where its value does not say it.
    """

    text: str
    more: str = ""
    default: str | None = None


@dataclass(frozen=True)
class Option:
    """One declared option.

    Attributes:
        name: Name of the field.
        type: Its type, without None.
        default: Value where none is given.
        kind: Allowed values.
        help: Description for people.
        markers: All that the field is annotated with.
    """

    name: str
    type: Any
    default: Any
    kind: Kind
    help: Help
    markers: tuple[object, ...]

    def marker(self, kind: type[M]) -> M | None:
        """Return the marker of a type; None where there is none."""
        return next((marker for marker in self.markers if isinstance(marker, kind)), None)

    @property
    def default_in_words(self) -> str:
        """Default in words; empty where nothing is set."""
        if self.help.default is not None:
            return self.help.default
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if self.default is None:
            return ""
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


@functools.cache
def options_of(declaration: type) -> dict[str, Option]:
    """Return the options that a dataclass declares, by name, in order."""
    found = {}
    for field in fields(declaration):
        make = field.default_factory
        default = field.default if make is MISSING else make()
        annotated, *markers = get_args(field.type)
        types = [one for one in get_args(annotated) if one is not type(None)] or [annotated]
        (kind,) = (marker for marker in markers if isinstance(marker, Kind))
        (text,) = (marker for marker in markers if isinstance(marker, Help))
        found[field.name] = Option(field.name, types[0], default, kind, text, tuple(markers))
    return found
