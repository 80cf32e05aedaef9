"""Options declared once, as fields of a dataclass: checks, flags and tables of docs read them here.

workers: Annotated[int, Option(Number(1, 1_024, whole=True), "Processes")] = 1
"""

from dataclasses import dataclass, fields
from typing import TypeVar, get_args

from autofocus.settings.fields import Kind

OptionT = TypeVar("OptionT", bound="Option")


@dataclass(frozen=True)
class Option:
    """Declaration of one option, the metadata of its field.

    Attributes:
        kind: Kind of its values.
        help: Meaning, for `--help` and docs; begins with a capital and ends without a full stop.
        more: What docs add to it.
        default_words: The default in words, where the value does not say it.
    """

    kind: Kind
    help: str
    more: str = ""
    default_words: str | None = None

    @property
    def flag_kind(self) -> Kind:
        """Kind of the values of its flag."""
        return self.kind

    def default_of(self, value: object) -> str:
        """Return a default in words; empty where it is None."""
        if self.default_words is not None:
            return self.default_words
        if isinstance(value, bool):
            return "yes" if value else "no"
        if value is None:
            return ""
        return f"{value:g}" if isinstance(value, float) else str(value)


def options_of(declaration: type, option: type[OptionT]) -> dict[str, OptionT]:
    """Return the options that the fields of a dataclass declare, by name, in order."""
    found = {}
    for field in fields(declaration):
        (found[field.name],) = (x for x in get_args(field.type) if isinstance(x, option))
    return found
